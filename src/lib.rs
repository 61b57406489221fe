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
use std::process::ExitCode;

use cli::Exit;
use config::{Config, Mode};

/// Runs the program with its arguments, the program's name first, and says how to exit: 0 after a clean stop, 1
/// where it could not start or go on, 3 for bad usage or configuration.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let config = match Config::load(arguments) {
        Ok(config) => config,
        Err(exit) => return exit.report(),
    };
    let result = logging::start(config.log_level).and_then(|()| match config.mode {
        Mode::Standalone => front::run_standalone(config),
    });
    logging::flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => Exit::could_not_start(what).report(),
    }
}
