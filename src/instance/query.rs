//! The query of a look, and how its answer is read. Pure. (`doubt.rs` has a second one, for the few that need it.)
//!
//! Which columns are asked follows from what is needed: the plain contract asks for nothing but the role. Everything
//! here works on PostgreSQL 10 to 19 and needs no privilege; what only `pg_monitor` may see is NULL for others.

use std::borrow::Cow;
use std::time::Duration;

use super::{
    Lsn, Needs, Receiver, ReceiverDetails, Recovery, ReplayDelay, Replication, Role, Server, Sighting,
    standbys, upstream,
};
use crate::spelling;

/// The plain contract.
pub(super) const ROLE: &str = "SELECT pg_catalog.pg_is_in_recovery()";

/// Ahead of a look in a session of the agent's own.
pub(super) const READ_ONLY: &str = "SET TRANSACTION READ ONLY; ";

/// A setting that PostgreSQL knows nothing of, with which the agent's logins come: where it has arrived, all have.
pub(super) const OWN_SESSION: &str = "pgsqlchk.session";

/// What a session is asked that is to get old: is it the agent's own, and which server is it of?
pub(super) const LOGIN: &str = "SELECT pg_catalog.current_setting('pgsqlchk.session', true), \
     pg_catalog.current_setting('server_version_num'), \
     extract(epoch FROM pg_catalog.pg_postmaster_start_time())";

/// The value from files, role and database, with which a new session starts: nothing of ours sets it. It follows a reload.
const WRITABILITY: &str = ", pg_catalog.current_setting('default_transaction_read_only')";

/// What ALTER ROLE and ALTER DATABASE have laid down of that for sessions of this role and database. A session reads it at
/// its login only (PostgreSQL manual, pg_db_role_setting); what they say of anything else makes no login due.
pub(super) const LOGIN_SETTINGS: &str = "SELECT pg_catalog.string_agg(e.entry, ' ' \
     ORDER BY s.setrole, s.setdatabase, e.entry) FROM pg_catalog.pg_db_role_setting AS s, \
     LATERAL pg_catalog.unnest(s.setconfig) AS e(entry) \
     WHERE e.entry LIKE '%transaction_read_only=%' \
     AND s.setrole IN (0, pg_catalog.quote_ident(session_user)::pg_catalog.regrole) \
     AND s.setdatabase IN \
     (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))";

/// The name of a WAL file begins with its timeline in hexadecimal. A standby writes no WAL, and cannot be asked
/// for the position where it would.
const TIMELINE: &str = ", CASE WHEN pg_catalog.pg_is_in_recovery() \
     THEN coalesce(pg_catalog.to_hex(r.received_tli), \
     (SELECT pg_catalog.to_hex(greatest(c.timeline_id, m.min_recovery_end_timeline)) \
     FROM pg_catalog.pg_control_checkpoint() AS c, pg_catalog.pg_control_recovery() AS m)) \
     ELSE pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) END";

/// An error outside recovery, which may end after the look at it.
const REPLAY_PAUSED: &str =
    ", CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_is_wal_replay_paused() END";

/// Where more is not needed of the receiver: cheaper than a row of its own.
const HAS_RECEIVER: &str = ", CASE WHEN pg_catalog.pg_is_in_recovery() \
     THEN (pg_catalog.pg_stat_get_wal_receiver()).pid IS NOT NULL END";

/// A parameter from PostgreSQL 12 on, NULL before.
const REPLAY_DELAY: &str = ", pg_catalog.current_setting('recovery_min_apply_delay', true)";

/// Replayed before received: what happens between the two makes the lag look larger, never smaller. (What the sender has
/// was read before both, and counts only where it is more than was received.) Times are differences made by the server, so
/// that the agent's clock does not matter. Nothing here fails when recovery ends between two columns.
///
/// A receiver that has just connected shows its own clock as both times of the last message (walreceiver.c), the
/// positions of its predecessor, and that it is streaming, although the sender may refuse to.
const REPLICATION: &str = ", pg_catalog.pg_last_wal_replay_lsn(), pg_catalog.pg_last_wal_receive_lsn(), \
     extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()), \
     r.pid, r.status, r.latest_end_lsn, \
     extract(epoch FROM pg_catalog.clock_timestamp() - r.last_msg_receipt_time), \
     pg_catalog.current_setting('wal_receiver_timeout'), r.last_msg_send_time = r.last_msg_receipt_time";

/// So long the sender may still refuse a receiver that has connected: because the WAL is gone, for example. In a local
/// network that takes some milliseconds. After that the connection itself is believed, for a sender that has nothing to
/// send, as after a base backup, says nothing for long.
const REFUSAL_LIMIT: Duration = Duration::from_millis(20);

/// Through jsonb, as PostgreSQL 10 does not know who sends.
const SENDER: &str = ", pg_catalog.to_jsonb(r) ->> 'sender_host', pg_catalog.to_jsonb(r) ->> 'sender_port'";

/// What is secret is obfuscated in `conninfo`, mostly; and what `upstream` needs to read it: by that name a standby logs in
/// from PostgreSQL 12 on where it is given no other.
const NAMES: &str = ", r.slot_name, r.conninfo, \
     CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 120000 \
     THEN pg_catalog.current_setting('cluster_name') END";

const SERVER: &str = ", (SELECT system_identifier FROM pg_catalog.pg_control_system()), \
     pg_catalog.current_setting('server_version'), extract(epoch FROM pg_catalog.pg_postmaster_start_time())";

const POSITION: &str =
    ", CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_lsn() END";

/// What stands behind the view `pg_stat_wal_receiver`, without the cost of expanding the view: always one row, all
/// NULL where there is no WAL receiver.
const RECEIVER: &str = " FROM pg_catalog.pg_stat_get_wal_receiver() AS r";

/// The query for these needs.
pub(super) fn text(needs: Needs) -> Cow<'static, str> {
    let is_receiver_needed = needs.timeline || needs.replication;
    let parts = [
        (needs.writability, WRITABILITY),
        (needs.timeline, TIMELINE),
        (needs.recovery, REPLAY_PAUSED),
        (needs.recovery && !needs.replication, HAS_RECEIVER),
        (needs.recovery && needs.replay_delay, REPLAY_DELAY),
        (needs.replication, REPLICATION),
        (needs.replication && needs.sender, SENDER),
        (needs.replication && needs.names, NAMES),
        (needs.server, SERVER),
        (needs.position, POSITION),
        (needs.standbys, standbys::STANDBYS),
        (is_receiver_needed, RECEIVER),
    ];
    let mut query = Cow::Borrowed(ROLE);
    for (_, part) in parts.iter().filter(|(is_needed, _)| *is_needed) {
        query.to_mut().push_str(part);
    }
    query
}

/// The answer to [`LOGIN`].
pub(super) struct Login {
    /// Nobody else will get this session.
    pub(super) is_own: bool,
    /// `server_version_num`.
    pub(super) version: u32,
    /// `pg_postmaster_start_time()`, in seconds since 1970, as the server spells it: to be compared.
    pub(super) postmaster_started: String,
}

/// Reads it; `column` gives the text of a column.
pub(super) fn read_login<'a>(column: impl Fn(usize) -> Option<&'a str>) -> Option<Login> {
    Some(Login {
        is_own: column(0) == Some("1"),
        version: column(1)?.parse().ok()?,
        postmaster_started: column(2)?.to_owned(),
    })
}

/// Reads the row, column after column. Nothing is inferred: `None` where any column is not what was asked for.
pub(super) fn read<'a>(columns: impl Iterator<Item = Option<&'a str>>, needs: Needs) -> Option<Sighting> {
    let mut columns = columns;
    let role = match columns.next()?? {
        "f" => Role::Primary,
        "t" => Role::Standby,
        _ => return None,
    };
    let mut sighting = Sighting::of_role(role);
    if needs.writability {
        sighting.read_only_default = match columns.next()?? {
            "on" => Some(true),
            "off" => Some(false),
            _ => return None,
        };
    }
    if needs.timeline {
        sighting.timeline = Some(u32::from_str_radix(columns.next()??, 16).ok()?);
    }
    if needs.recovery {
        let recovery = read_recovery(&mut columns, needs)?;
        sighting.recovery = Some(recovery).filter(|_| role == Role::Standby);
    }
    if needs.replication {
        let replication = read_replication(&mut columns, needs)?;
        if let Some(recovery) = &mut sighting.recovery {
            recovery.sources.has_receiver = replication.receiver.is_some();
        }
        sighting.replication = Some(replication).filter(|_| role == Role::Standby);
    }
    if needs.server {
        sighting.server = Some(read_server(&mut columns)?);
    }
    if needs.position {
        let position = optional(columns.next()?, Lsn::parse)?;
        // A standby that became a primary after the look at its role writes already.
        sighting.position = position.filter(|_| role == Role::Primary);
    }
    if needs.standbys {
        let attached = optional(columns.next()?, standbys::read)?.flatten();
        match role {
            Role::Primary => sighting.standbys = attached,
            Role::Standby => sighting.cascaded = attached,
        }
    }
    // More than was asked for is the answer to something else.
    columns.next().is_none().then_some(sighting)
}

/// NULL where recovery ended after the look at the role: then nothing is paused or received any more.
fn read_recovery<'a>(columns: &mut impl Iterator<Item = Option<&'a str>>, needs: Needs) -> Option<Recovery> {
    let mut recovery = Recovery { is_paused: flag(columns.next()?)?, ..Recovery::default() };
    if !needs.replication {
        recovery.sources.has_receiver = flag(columns.next()?)?;
    }
    if needs.replay_delay {
        let delay = optional(columns.next()?, |text| spelling::duration(text).ok())?;
        recovery.delay = delay.map(ReplayDelay::Of);
    }
    Some(recovery)
}

/// NULL is no.
fn flag(column: Option<&str>) -> Option<bool> {
    match column {
        Some("t") => Some(true),
        Some("f") | None => Some(false),
        Some(_) => None,
    }
}

fn read_replication<'a>(
    columns: &mut impl Iterator<Item = Option<&'a str>>,
    needs: Needs,
) -> Option<Replication> {
    let replayed = optional(columns.next()?, Lsn::parse)?;
    let received = optional(columns.next()?, Lsn::parse)?;
    let last_commit_age = optional(columns.next()?, age)?;
    let pid = columns.next()?;
    let status = columns.next()?;
    let latest_end = optional(columns.next()?, Lsn::parse)?;
    let last_message_age = optional(columns.next()?, age)?;
    let timeout = optional(columns.next()?, |text| spelling::duration(text).ok())?;
    let has_no_message = columns.next()? == Some("t");
    let may_be_refused = |age: &Duration| has_no_message && *age < REFUSAL_LIMIT;
    let mut details = status.map(|status| ReceiverDetails {
        status: status.to_owned(),
        latest_end,
        last_message_age: last_message_age.filter(|age| !may_be_refused(age)),
        has_heard: !has_no_message,
        ..ReceiverDetails::default()
    });
    if needs.sender {
        let sender_host = columns.next()?.map(str::to_owned);
        let sender_port = optional(columns.next()?, |text| text.parse::<u16>().ok())?;
        details = details.map(|details| ReceiverDetails { sender_host, sender_port, ..details });
    }
    if needs.names {
        let slot_name = columns.next()?.map(str::to_owned);
        let conninfo = columns.next()?;
        let cluster_name = columns.next()?;
        let application_name =
            conninfo.and_then(|conninfo| upstream::application_name(conninfo, cluster_name));
        details = details.map(|details| ReceiverDetails { slot_name, application_name, ..details });
    }
    let receiver = Receiver { timeout: timeout.filter(|timeout| !timeout.is_zero()), details };
    let receiver = pid.map(|_| receiver);
    Some(Replication { replayed, received, last_commit_age, receiver })
}

fn read_server<'a>(columns: &mut impl Iterator<Item = Option<&'a str>>) -> Option<Server> {
    Some(Server {
        system_identifier: columns.next()??.parse().ok()?,
        version: columns.next()??.to_owned(),
        started_unix_s: columns.next()??.parse().ok()?,
    })
}

/// NULL is an answer; a value that cannot be read is none.
fn optional<T>(column: Option<&str>, read: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    match column {
        None => Some(None),
        Some(text) => read(text).map(Some),
    }
}

/// Seconds with a fraction; a moment in the future counts as now.
fn age(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    if seconds < 0.0 { Some(Duration::ZERO) } else { Duration::try_from_secs_f64(seconds).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Sources;

    const REPLICATION_ONLY: Needs = Needs {
        writability: false,
        timeline: false,
        recovery: false,
        replay_delay: false,
        replication: true,
        sender: false,
        names: false,
        server: false,
        position: false,
        identity: false,
        standbys: false,
        drain: false,
        despite_drain: false,
    };

    fn read_row(row: &[Option<&str>], needs: Needs) -> Option<Sighting> {
        read(row.iter().copied(), needs)
    }

    #[test]
    fn what_is_not_exactly_a_role_is_none() {
        assert_eq!(read_row(&[Some("t")], Needs::default()), Some(Sighting::of_role(Role::Standby)));
        assert_eq!(read_row(&[Some("f")], Needs::default()), Some(Sighting::of_role(Role::Primary)));
        for row in [&[][..], &[None], &[Some("")], &[Some("true")], &[Some("f"), Some("t")]] {
            assert_eq!(read_row(row, Needs::default()), None, "{row:?}");
        }
    }

    #[test]
    fn a_receiver_without_visible_columns_is_still_a_receiver() {
        let row = [
            Some("t"),
            Some("0/3000000"),
            Some("0/3000148"),
            Some("12.5"),
            Some("4711"),
            None,
            None,
            None,
            Some("1min"),
            None,
        ];
        let replication = read_row(&row, REPLICATION_ONLY).unwrap().replication.unwrap();
        let expected = Replication {
            replayed: Some(Lsn(0x300_0000)),
            received: Some(Lsn(0x300_0148)),
            last_commit_age: Some(Duration::from_millis(12_500)),
            receiver: Some(Receiver { timeout: Some(Duration::from_secs(60)), details: None }),
        };
        assert_eq!(replication, expected);
        let mut broken = row;
        broken[1] = Some("here");
        assert_eq!(read_row(&broken, REPLICATION_ONLY), None);
        assert_eq!(read_row(&row[..9], REPLICATION_ONLY), None, "a column short");
    }

    #[test]
    fn who_sends_is_read_where_it_was_asked() {
        let needs = Needs { sender: true, names: true, ..REPLICATION_ONLY };
        let lag = [Some("t"), Some("0/1"), Some("0/1"), None, Some("4711"), Some("streaming")];
        let message = [Some("0/1"), Some("0.1"), Some("0"), Some("f")];
        let sender = [Some("node1"), Some("5432"), None, Some("port=5432 application_name=node2"), Some("")];
        let row = [&lag[..], &message, &sender].concat();
        let replication = read_row(&row, needs).unwrap().replication.unwrap();
        let receiver = replication.receiver.unwrap();
        assert_eq!(receiver.timeout, None, "0 is off");
        let details = receiver.details.unwrap();
        assert_eq!((details.sender_host.as_deref(), details.sender_port), (Some("node1"), Some(5432)));
        assert_eq!(details.application_name.as_deref(), Some("node2"));
        assert_eq!(read_row(&row[..13], needs), None, "a column short");
    }

    #[test]
    fn how_it_recovers_is_read_in_two_columns_and_a_third_for_the_delay() {
        let needs = Needs { recovery: true, ..Needs::default() };
        let with_delay = Needs { replay_delay: true, ..needs };
        let recovery =
            |row: &[Option<&str>], needs| read_row(row, needs).map(|sighting| sighting.recovery.unwrap());
        let sources = Sources { has_receiver: true, ..Sources::default() };
        let streaming = Recovery { is_paused: true, delay: None, sources };
        assert_eq!(recovery(&[Some("t"), Some("t"), Some("t")], needs), Some(streaming));
        let delay = Some(ReplayDelay::Of(Duration::from_secs(300)));
        let row = [Some("t"), Some("t"), Some("t"), Some("5min")];
        assert_eq!(recovery(&row, with_delay), Some(Recovery { delay, ..streaming }));
        assert_eq!(recovery(&[Some("t"), Some("t"), Some("t"), None], with_delay), Some(streaming));
        let ended = recovery(&[Some("t"), None, None], needs);
        assert_eq!(ended, Some(Recovery::default()), "recovery has just ended");
        assert_eq!(read_row(&[Some("f"), None, None], needs).unwrap().recovery, None);
        for broken in [&row[..2], &row, &[Some("t"), Some("yes"), Some("t")]] {
            assert_eq!(read_row(broken, needs), None, "{broken:?}");
        }
        assert_eq!(read_row(&[Some("t"), Some("t"), Some("t"), Some("soon")], with_delay), None);
    }

    #[test]
    fn a_lag_says_itself_whether_there_is_a_receiver() {
        let needs = Needs { recovery: true, ..REPLICATION_ONLY };
        for pid in [Some("4711"), None] {
            let lag = [Some("0/1"), Some("0/1"), None, pid, None, None, None, Some("1min"), None];
            let sighting = read_row(&[&[Some("t"), Some("f")][..], &lag].concat(), needs).unwrap();
            assert_eq!(sighting.recovery.unwrap().sources.has_receiver, pid.is_some());
        }
    }

    #[test]
    fn the_moment_of_connecting_is_no_message_while_the_sender_may_refuse() {
        let age = |age: &'static str, is_equal: &'static str| {
            let lag = [Some("t"), Some("0/1"), Some("0/1"), None, Some("4711"), Some("streaming")];
            let row = [&lag[..], &[Some("0/1"), Some(age), Some("1min"), Some(is_equal)]].concat();
            let replication = read_row(&row, REPLICATION_ONLY).unwrap().replication.unwrap();
            replication.receiver.unwrap().details.unwrap().last_message_age
        };
        assert_eq!(age("0.019", "t"), None);
        assert_eq!(age("0.02", "t"), Some(Duration::from_millis(20)));
        assert_eq!(age("0.001", "f"), Some(Duration::from_millis(1)));
    }

    #[test]
    fn clocks_that_disagree_make_no_negative_age() {
        assert_eq!(age("-3.2"), Some(Duration::ZERO));
        assert_eq!(age("NaN"), None);
        assert_eq!(age("Infinity"), None);
        assert_eq!(age("soon"), None);
    }
}
