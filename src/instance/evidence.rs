//! What is held beside a look at the instance: what other nodes make of it, and whether a client could work here.

use std::sync::Arc;
use std::time::Duration;

use super::Lsn;
use crate::reason::Reason;

/// What is added to a look; nothing where nobody asked anybody.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Why this primary is not to be written to.
    pub against: Option<Against>,
    /// Where the primary of this standby's system writes.
    pub primary: Option<PrimaryPosition>,
    /// The highest timeline that another node was seen on, whether it answers now or not.
    pub highest_timeline: Option<u32>,
    /// How the primary counts this standby; `None` where nobody can tell.
    pub sync_state: Option<SyncState>,
    /// Whether this standby receives from none of the cluster's nodes; `None` where nobody can tell.
    pub is_fed_from_outside: Option<bool>,
    /// What clients go through, in the order of the configuration.
    pub poolers: Vec<Pooler>,
    /// Whether a commit came back; `None` where nobody was to commit, or where that is too long ago.
    pub write: Option<WriteProbe>,
}

/// A pooler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pooler {
    /// Where it is to be reached.
    pub address: Arc<str>,
    /// Whether it answered the knock, at most `--knock-interval` before the request arrived or later; `None` where nobody knows.
    pub is_up: Option<bool>,
    /// Why it did not, for the log: one line.
    pub cause: Option<Arc<str>>,
}

impl WriteProbe {
    /// Whether a commit came back.
    pub fn is_committed(&self) -> bool {
        matches!(self, WriteProbe::Committed(_))
    }

    /// How long the commit took, or has been taking so far, in seconds; `None` where none is on its way.
    pub fn seconds(&self) -> Option<f64> {
        match self {
            WriteProbe::Committed(took) => Some(took.as_secs_f64()),
            WriteProbe::Stalled { lasts, .. } => lasts.map(|lasts| lasts.as_secs_f64()),
            WriteProbe::Failed { .. } => None,
        }
    }
}

/// What came of the last write probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteProbe {
    /// It was begun at most `--write-probe` before the request arrived, and committed after so long.
    Committed(Duration),
    /// No commit has come back in time, or none that the synchronous standbys have confirmed.
    Stalled {
        /// How long it has been on its way; `None` where it is not any more.
        lasts: Option<Duration>,
        /// For the log: one line, where there is something to say.
        cause: Option<Arc<str>>,
    },
    /// With an error.
    Failed {
        /// For the log: one line.
        cause: Arc<str>,
    },
}

/// How a primary counts a standby for its commits (`pg_stat_replication.sync_state`; `potential` is not waited for, and
/// counts as asynchronous).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncState {
    /// `async`, `potential`, or not attached to the primary at all.
    Async,
    /// `sync`.
    Sync,
    /// `quorum`.
    Quorum,
}

/// What speaks against a primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Against {
    /// `superseded`, `two-primaries` or `isolated`.
    pub reason: Reason,
    /// By whom, or what, for the log: one line.
    pub what: String,
}

/// Where a primary among the peers writes WAL, as it said within `--peer-interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrimaryPosition {
    /// Its timeline.
    pub timeline: u32,
    /// Where it wrote.
    pub lsn: Lsn,
}
