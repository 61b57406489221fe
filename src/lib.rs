//! pgsqlchk tells whoever asks over HTTP what the PostgreSQL instance on this host is right now.
//!
//! Data flows one way, and imports go downwards only:
//!
//! ```text
//! front     who asks: the gate, tiny_http and its workers
//! reply     how it is said                                 (pure)
//! verdict   what is asked, and what an observation means   (pure)
//! monitor   one shared probe, everybody's own deadline
//! instance  the session and the knock at the postmaster
//! config    what the administrator said
//! ```

pub mod cli;
pub mod config;
pub mod front;
pub mod instance;
pub mod logging;
pub mod monitor;
pub mod reason;
pub mod reply;
pub mod verdict;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use cli::Exit;
use config::{Config, Mode};

/// Could not start, or could not go on.
const EXIT_FAILED: u8 = 1;

/// Runs the program with its arguments, the program's name first, and says how to exit.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let config = match Config::load(arguments) {
        Ok(config) => config,
        Err(exit) => return leave(&exit),
    };
    let result = logging::start(config.log_level).and_then(|()| match config.mode {
        Mode::Standalone => front::run_standalone(config),
    });
    logging::flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => leave(&Exit { text: format!("pgsqlchk: {what}"), on_stdout: false, code: EXIT_FAILED }),
    }
}

/// The one place that writes to the standard streams beside the log. There is nobody left to tell about an error.
fn leave(exit: &Exit) -> ExitCode {
    let _ = if exit.on_stdout {
        writeln!(std::io::stdout(), "{}", exit.text)
    } else {
        writeln!(std::io::stderr(), "{}", exit.text)
    };
    ExitCode::from(exit.code)
}
