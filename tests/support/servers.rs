//! A primary, a standby and a place without a server, for the tests of the fronts.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::folder::Folder;
use super::{Cluster, Frozen, eventually, secs};

/// The servers, shared by the tests that run at the same time; a test keeps its `Arc` to the end.
pub struct Servers {
    /// Whoever writes to the primary of its own accord.
    _idle: Frozen,
    /// A standby of `primary`.
    pub standby: Cluster,
    /// A primary.
    pub primary: Cluster,
    /// No server has its socket here.
    nowhere: Folder,
}

impl Servers {
    /// The configuration of an agent beside the primary.
    pub fn settings(&self) -> String {
        format!("dsn = {}\n", self.primary.dsn())
    }

    /// The connection string of a server that is not there.
    pub fn down(&self) -> String {
        format!("host={} port=5432 user=postgres", self.nowhere.path().display())
    }
}

/// Starts them, unless another test has.
pub fn servers() -> Arc<Servers> {
    static SHARED: Mutex<Weak<Servers>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(servers) = shared.upgrade() {
        return servers;
    }
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    // Beside an idle primary a fresh standby has no commit whose age it knows, and its sender says for long nothing of
    // the end of its WAL.
    eventually(secs(20), "every lag is known", || {
        primary.psql("CREATE TEMP TABLE something ()");
        let known = "SELECT count(pg_last_xact_replay_timestamp()) FROM pg_stat_wal_receiver
                     WHERE latest_end_lsn IS NOT NULL";
        standby.psql(known) == "1"
    });
    let idle = primary.keep_idle();
    let written = primary.psql("SELECT pg_current_wal_flush_lsn()");
    eventually(secs(20), "the standby is level", || {
        standby.psql(&format!("SELECT pg_last_wal_replay_lsn() >= '{written}'")) == "t"
    });
    let servers = Arc::new(Servers { _idle: idle, standby, primary, nowhere: Folder::new("nowhere") });
    *shared = Arc::downgrade(&servers);
    servers
}
