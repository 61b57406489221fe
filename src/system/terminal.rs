//! A line on standard output that is written anew again and again.

use std::io::{self, IsTerminal, Write};

use rustix::termios::tcgetwinsize;

/// Back to the begin of the line, and away with what stands there (ECMA-48, EL).
const ANEW: &str = "\r\x1b[K";

/// The line. On a terminal each text takes the place of the last one, elsewhere each that is another one is a line.
pub struct StatusLine {
    /// What stands there, where somebody else may write after it.
    shown: Option<String>,
    is_terminal: bool,
}

impl Default for StatusLine {
    fn default() -> StatusLine {
        StatusLine::new()
    }
}

impl StatusLine {
    /// Nothing stands there yet.
    pub fn new() -> StatusLine {
        StatusLine { shown: None, is_terminal: io::stdout().is_terminal() }
    }

    /// Shows this text. That nobody reads it is no reason to fail.
    pub fn show(&mut self, text: &str) {
        if self.shown.as_deref() == Some(text) {
            return;
        }
        let mut stdout = io::stdout();
        let _ = match self.is_terminal {
            true => write!(stdout, "{ANEW}{}", fit(text)).and_then(|()| stdout.flush()),
            false => writeln!(stdout, "{text}"),
        };
        self.shown = Some(text.to_owned());
    }

    /// The last text takes the whole line, and more where it needs them.
    pub fn finish(self, text: &str) {
        let anew = if self.is_terminal { ANEW } else { "" };
        let _ = writeln!(io::stdout(), "{anew}{text}");
    }
}

/// What the terminal has room for: a line that goes on in the next one cannot be taken back.
fn fit(text: &str) -> String {
    let columns = tcgetwinsize(io::stdout()).map_or(80, |size| usize::from(size.ws_col));
    let columns = if columns == 0 { 80 } else { columns };
    if text.chars().count() < columns {
        return text.to_owned();
    }
    let begin: String = text.chars().take(columns.saturating_sub(2)).collect();
    format!("{begin}…")
}
