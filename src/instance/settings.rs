//! What a look needs to know from the administrator, and the drain file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use super::Drain;
use crate::config::{Config, ConnectionSettings};
use crate::system::drain_file;

/// What a look needs to know from the administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSettings {
    /// How PostgreSQL is reached.
    pub connection: ConnectionSettings,
    /// The deadline of one check; it bounds what the server does for a look.
    pub timeout: Duration,
    /// How long one knock is good for; zero: it never knocks.
    pub knock_interval: Duration,
    /// How old the session may get before a fresh login replaces it; zero: as old as it pleases.
    pub login_interval: Duration,
    /// While this file exists, the node drains.
    pub drain_file: PathBuf,
}

impl ProbeSettings {
    /// What the configuration says of it.
    pub fn of(config: &Config) -> ProbeSettings {
        ProbeSettings {
            connection: config.connection.clone(),
            timeout: config.timeout,
            knock_interval: config.knock_interval,
            login_interval: config.login_interval,
            drain_file: config.drain_file.clone(),
        }
    }

    /// Looks for the drain file now; blocks for as long as the file system pleases. `trouble_level` is that of the
    /// line about a file that cannot be looked for.
    pub fn look_for_drain(&self, trouble_level: log::Level) -> Drain {
        let found = drain_file::exists(&self.drain_file);
        log_change_of_trouble(&self.drain_file, found.as_ref().err(), trouble_level);
        match found {
            Ok(true) => Drain::On,
            Ok(false) => Drain::Off,
            Err(_) => Drain::Unknown,
        }
    }
}

/// One line where the trouble begins, changes or ends. Of the process, for probers come and go.
fn log_change_of_trouble(path: &Path, error: Option<&io::Error>, level: log::Level) {
    static LAST: AtomicI32 = AtomicI32::new(0);
    let errno = error.map_or(0, |error| error.raw_os_error().unwrap_or(-1));
    if LAST.swap(errno, Ordering::Relaxed) == errno {
        return;
    }
    let path = path.display();
    match error {
        Some(error) => log::log!(target: "pgsqlchk", level, "cannot look for the drain file {path}: {error}"),
        None => log::info!(target: "pgsqlchk", "the drain file {path} can be looked for again"),
    }
}
