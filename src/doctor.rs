//! `pgsqlchk doctor`: what a colleague who knows it all would look at. Each room below looks at one subject, and judges what
//! it saw in a function of its own that looks at nothing. Nothing here changes anything: files are read, PostgreSQL is
//! logged in to and asked in read-only transactions, agents are asked over HTTP.

pub mod answers;
mod ask;
pub mod configuration;
pub mod drain;
pub mod haproxy;
pub mod homes;
pub mod peers;
pub mod port;
mod resolve;
pub mod root;
pub mod scripts;
pub mod server;
mod xinetd;

use std::fmt;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use crate::spelling::printable;

/// Between what was found and what to do about it.
const REMEDY: &str = "; remedy: ";

/// How bad it is, ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Ok,
    /// It works now, and will not some day; or it works worse than it could.
    Warning,
    /// It does not work.
    Problem,
}

impl Grade {
    const ALL: [Grade; 3] = [Grade::Ok, Grade::Warning, Grade::Problem];

    /// The first word of its line.
    pub const fn word(self) -> &'static str {
        match self {
            Grade::Ok => "ok",
            Grade::Warning => "warning",
            Grade::Problem => "problem",
        }
    }

    /// The exit code where nothing is worse.
    pub const fn exit_code(self) -> u8 {
        self as u8
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// The subject, a colon, and what was seen.
    pub what: String,
    /// What to type; empty where all is well.
    pub remedy: String,
}

impl Finding {
    /// All is well.
    pub fn ok(what: impl Into<String>) -> Finding {
        Finding { grade: Grade::Ok, what: what.into(), remedy: String::new() }
    }

    /// It works now.
    pub fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { grade: Grade::Warning, what: what.into(), remedy: remedy.into() }
    }

    /// It does not work.
    pub fn problem(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { grade: Grade::Problem, what: what.into(), remedy: remedy.into() }
    }

    /// Reads what `Display` writes; `None` where it is something else.
    pub fn parse(line: &str) -> Option<Finding> {
        let (word, rest) = line.split_once(' ')?;
        let grade = Grade::ALL.into_iter().find(|grade| grade.word() == word)?;
        let (what, remedy) = rest.trim_start().split_once(REMEDY).unwrap_or((rest.trim_start(), ""));
        Some(Finding { grade, what: what.to_owned(), remedy: remedy.to_owned() })
    }
}

/// Its line. Whatever it names stays on it.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9}{}", self.grade.word(), printable(&self.what))?;
        match self.remedy.is_empty() {
            true => Ok(()),
            false => write!(f, "{REMEDY}{}", printable(&self.remedy)),
        }
    }
}

/// Does something on a thread that is left behind where it hangs.
pub(crate) fn begin<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = channel();
    // Where there is no thread, nobody ever sends: that is a time that has passed.
    let _ = thread::Builder::new().name("doctor".into()).spawn(move || sender.send(work()));
    receiver
}

/// What came of it by the deadline.
pub(crate) fn end<T>(work: &Receiver<T>, deadline: Instant) -> Option<T> {
    work.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        for finding in [
            Finding::ok("port: pgsqlchk"),
            Finding::warning("drain: since now", "pgsqlchk undrain"),
            Finding::problem("port: nobody", "start it; then ask again"),
        ] {
            assert_eq!(Finding::parse(&finding.to_string()), Some(finding));
        }
        assert_eq!(Finding::ok("a\nb").to_string(), "ok       a\\nb");
        assert_eq!(Finding::parse("fine  x"), None);
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst() {
        assert_eq!(Grade::ALL.map(Grade::exit_code), [0, 1, 2]);
        assert!(Grade::Problem > Grade::Warning && Grade::Warning > Grade::Ok);
    }
}
