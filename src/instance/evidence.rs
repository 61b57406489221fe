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
