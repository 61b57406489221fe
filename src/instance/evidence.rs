//! What is held beside an observation although the instance itself did not say it: what other nodes make of it.

use super::Lsn;
use crate::reason::Reason;

/// What the cluster adds to a look; nothing where nobody asked anybody.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Why this primary is not to be written to.
    pub against: Option<Against>,
    /// Where the primary of this standby's system writes.
    pub primary: Option<PrimaryPosition>,
    /// How the primary counts this standby; `None` where nobody can tell.
    pub sync_state: Option<SyncState>,
    /// Whether this standby receives from none of the cluster's nodes; `None` where nobody can tell.
    pub is_fed_from_outside: Option<bool>,
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
