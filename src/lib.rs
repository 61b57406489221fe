//! pgsqlchk tells whoever asks over HTTP what the PostgreSQL instance on this host is right now.
use std::ffi::OsString;
use std::process::ExitCode;

pub mod cli;
pub mod config;

/// Loads the configuration and reports why it is bad.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match config::Config::load(arguments) {
        Ok(_) => ExitCode::SUCCESS,
        Err(exit) => exit.report(),
    }
}
