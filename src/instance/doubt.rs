//! The second query of a look, which hardly any look needs, and how its answer is read. Pure.
//!
//! The first one would cost half as much again with this in it, for the server has to understand all of it also where
//! nothing of it is done: on a primary, and on a standby that streams.

use super::{Needs, Recovery, ReplayDelay, Sighting};

/// Who may not see `primary_conninfo` gets an error for a look at it, and so must not look. The parameters of recovery are
/// none before PostgreSQL 12, and NULL then; there a delay is seen by what the startup process waits for.
pub(super) const TEXT: &str = "SELECT pg_catalog.concat( \
     pg_catalog.current_setting('recovery_target', true), \
     pg_catalog.current_setting('recovery_target_lsn', true), \
     pg_catalog.current_setting('recovery_target_name', true), \
     pg_catalog.current_setting('recovery_target_time', true), \
     pg_catalog.current_setting('recovery_target_xid', true)) <> '', \
     CASE WHEN pg_catalog.pg_has_role('pg_read_all_settings', 'USAGE') \
     THEN pg_catalog.current_setting('primary_conninfo', true) <> '' END, \
     (SELECT a.wait_event FROM pg_catalog.pg_stat_get_activity(NULL) AS a WHERE a.backend_type = 'startup')";

/// What the startup process of PostgreSQL 10 and 11 waits for while it holds a commit back (PostgreSQL manual, table
/// "wait_event Description").
const HOLDS_BACK: &str = "RecoveryApplyDelay";

/// Whether the first answer leaves a doubt that this query can end: no WAL receiver, so it may be a restore; or a delay
/// that PostgreSQL 10 and 11 do not name.
pub(super) fn is_left(sighting: &Sighting, needs: Needs) -> bool {
    sighting.recovery.is_some_and(|recovery| {
        !recovery.sources.has_receiver || needs.replay_delay && recovery.delay.is_none()
    })
}

/// What was seen so far, and what this row adds; `None` where any column is not what was asked for.
pub(super) fn end<'a>(
    columns: impl Iterator<Item = Option<&'a str>>,
    recovery: Recovery,
    needs: Needs,
) -> Option<Recovery> {
    let mut columns = columns;
    let mut recovery = recovery;
    recovery.sources.has_target = boolean(columns.next()??)?;
    recovery.sources.has_primary_conninfo = match columns.next()? {
        Some(text) => Some(boolean(text)?),
        None => None,
    };
    let waits_for = columns.next()?;
    if needs.replay_delay && recovery.delay.is_none() && waits_for == Some(HOLDS_BACK) {
        recovery.delay = Some(ReplayDelay::HoldsBack);
    }
    columns.next().is_none().then_some(recovery)
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "t" => Some(true),
        "f" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::instance::{Role, Sources};

    const NEEDS: Needs = Needs {
        writability: false,
        timeline: false,
        recovery: true,
        replay_delay: true,
        replication: false,
        sender: false,
        names: false,
        server: false,
        position: false,
        identity: false,
        standbys: false,
        drain: false,
        despite_drain: false,
    };

    #[test]
    fn only_a_server_in_recovery_without_a_receiver_or_a_known_delay_is_asked_again() {
        let is_left = |recovery: Option<Recovery>, needs| {
            let role = if recovery.is_some() { Role::Standby } else { Role::Primary };
            super::is_left(&Sighting { recovery, ..Sighting::of_role(role) }, needs)
        };
        let streaming = Sources { has_receiver: true, ..Sources::default() };
        let old = Recovery { sources: streaming, ..Recovery::default() };
        let new = Recovery { delay: Some(ReplayDelay::Of(Duration::ZERO)), ..old };
        let without_delay = Needs { replay_delay: false, ..NEEDS };
        assert!(!is_left(None, NEEDS));
        assert!(!is_left(Some(new), NEEDS));
        assert!(is_left(Some(old), NEEDS), "PostgreSQL 10 and 11");
        assert!(!is_left(Some(old), without_delay));
        assert!(is_left(Some(Recovery::default()), without_delay));
    }

    #[test]
    fn what_was_seen_before_stays() {
        let zero = Some(ReplayDelay::Of(Duration::ZERO));
        let paused = Recovery { is_paused: true, delay: zero, sources: Sources::default() };
        let on = |row: &[Option<&str>], recovery| end(row.iter().copied(), recovery, NEEDS);
        let sources = Sources { has_target: true, has_primary_conninfo: Some(false), has_receiver: false };
        let row = [Some("t"), Some("f"), Some(HOLDS_BACK)];
        assert_eq!(on(&row, paused), Some(Recovery { sources, ..paused }), "from 12 on the parameter counts");
        let before_12 = Recovery { delay: None, ..paused };
        let seen = on(&[Some("f"), None, Some(HOLDS_BACK)], before_12).unwrap();
        assert_eq!((seen.delay, seen.sources), (Some(ReplayDelay::HoldsBack), Sources::default()));
        for waits_for in [Some("RecoveryWalStream"), None] {
            assert_eq!(on(&[Some("f"), None, waits_for], before_12), Some(before_12));
        }
        for row in [&[Some("t"), None][..], &[None, None, None], &[Some("t"), Some("x"), None], &[None; 4]] {
            assert_eq!(on(row, paused), None, "{row:?}");
        }
    }
}
