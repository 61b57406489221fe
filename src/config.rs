//! The validated configuration: defaults, overridden by the file, overridden by the command line.
use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use crate::cli::Exit;

mod allow;
mod connection;

pub use allow::Allow;
pub use connection::{ConnectionSettings, Endpoint, Keepalives, PassfileProblem, PasswordSource, Secret};

/// How the agent runs (`--mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Listens itself until it is told to stop.
    Standalone,
}

/// Everything the agent was told, validated.
#[derive(Debug, Clone)]
pub struct Config {
    /// How the agent runs.
    pub mode: Mode,
    /// HTTP addresses to listen on; empty: the default, `[::]:23267` or `0.0.0.0:23267` where IPv6 is off.
    pub listen: Vec<SocketAddr>,
    /// How PostgreSQL is reached.
    pub connection: ConnectionSettings,
    /// Deadline of one check, connecting included.
    pub timeout: Duration,
    /// How long one knock at the postmaster is good for; zero: it never knocks.
    pub knock_interval: Duration,
    /// Threads of the fixed pool that answers.
    pub workers: usize,
    /// Clients served at once.
    pub max_connections: usize,
    /// Who may ask.
    pub allow: Allow,
    /// The least severe messages that are logged.
    pub log_level: log::LevelFilter,
}

impl Config {
    /// Builds the configuration from `arguments` (program name first), the file and the environment.
    pub fn load(arguments: impl Iterator<Item = OsString>) -> Result<Config, Exit> {
        drop(arguments);
        Err(Exit { text: "pgsqlchk: not built yet".into(), on_stdout: false, code: 3 })
    }
}
