//! How a server recovers: whether its replay goes on, and whether it follows another server or is a restore.
//!
//! PostgreSQL calls both recovery. A restore (`recovery.signal`) replays to its target and is a primary of its own then,
//! while a standby follows for good. `standby.signal` would tell them apart, but no SQL function that `pg_monitor` may
//! call looks for that file. What can be seen instead is listed at [`Sources`].

use std::time::Duration;

/// How a server in recovery replays, and from where it gets WAL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// `pg_is_wal_replay_paused()`: also where a pause was requested and the record under way is not replayed yet.
    pub is_paused: bool,
    /// How much later commits are replayed on purpose; `None` where the server does not say, and where nobody needed it.
    pub delay: Option<ReplayDelay>,
    /// Where WAL comes from.
    pub sources: Sources,
}

/// What is known of `recovery_min_apply_delay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayDelay {
    /// From PostgreSQL 12 on, where it is a parameter that everybody may see. Zero: there is none.
    Of(Duration),
    /// Before, where it is hidden in `recovery.conf`: a commit is being held back right now. Takes `pg_monitor`.
    HoldsBack,
}

/// What everybody, or `pg_monitor`, may see of where a server in recovery gets WAL from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// A WAL receiver exists. Where it does, the others are not looked at.
    pub has_receiver: bool,
    /// One of `recovery_target`, `_lsn`, `_name`, `_time` and `_xid` is set: recovery ends there. Everybody may see them,
    /// from PostgreSQL 12 on.
    pub has_target: bool,
    /// `primary_conninfo` is set; `None` where the role may not see it (`pg_monitor` may) and before PostgreSQL 12.
    pub has_primary_conninfo: Option<bool>,
}

impl Recovery {
    /// Replay waits on purpose, paused or not.
    pub fn is_delayed(&self) -> bool {
        match self.delay {
            Some(ReplayDelay::Of(delay)) => !delay.is_zero(),
            Some(ReplayDelay::HoldsBack) => true,
            None => false,
        }
    }

    /// Whether this is a restore and no standby; `None` where that cannot be told. A standby whose sender is away looks
    /// like a restore in all but what is asked here, and must not be called one: that takes a recovery target, at which
    /// nothing is followed any more, and either the knowledge that there is no `primary_conninfo`, which a backup of a standby
    /// brings along, or replay that stands still, as it does at the target.
    pub fn is_restore(&self) -> Option<bool> {
        let Sources { has_receiver, has_target, has_primary_conninfo } = self.sources;
        match has_primary_conninfo {
            _ if has_receiver => Some(false),
            _ if has_target && self.is_paused => Some(true),
            Some(true) => Some(false),
            Some(false) => has_target.then_some(true),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_is_called_one_only_where_no_standby_looks_the_same() {
        // receiver, target, primary_conninfo, paused
        let table = [
            ((true, true, None, true), Some(false)),
            ((true, false, None, false), Some(false)),
            // A restore, at its target and before it.
            ((false, true, Some(false), true), Some(true)),
            ((false, true, Some(false), false), Some(true)),
            ((false, true, None, true), Some(true)),
            // With LOGIN alone it looks like a standby that has a target and whose primary is down.
            ((false, true, None, false), None),
            ((false, true, Some(true), false), Some(false)),
            // It is at its target, whoever asks.
            ((false, true, Some(true), true), Some(true)),
            // A restore without a target looks like a standby with restore_command alone, whoever asks.
            ((false, false, Some(false), false), None),
            ((false, false, Some(false), true), None),
            // A standby whose primary is down.
            ((false, false, Some(true), false), Some(false)),
            ((false, false, None, false), None),
            ((false, false, None, true), None),
        ];
        for ((has_receiver, has_target, has_primary_conninfo, is_paused), expected) in table {
            let sources = Sources { has_receiver, has_target, has_primary_conninfo };
            let recovery = Recovery { is_paused, delay: None, sources };
            assert_eq!(recovery.is_restore(), expected, "{recovery:?}");
        }
    }

    #[test]
    fn a_delay_of_zero_is_none() {
        let delayed = |delay| Recovery { delay, ..Recovery::default() }.is_delayed();
        assert!(!delayed(None));
        assert!(!delayed(Some(ReplayDelay::Of(Duration::ZERO))));
        assert!(delayed(Some(ReplayDelay::Of(Duration::from_millis(1)))));
        assert!(delayed(Some(ReplayDelay::HoldsBack)));
    }
}
