//! PostgreSQL: found, answering, letting the agent in, and what it will make of checks.

use std::time::{Duration, Instant};

use super::Finding;
use crate::config::{Config, ConnectionSettings};
use crate::instance::advice::{self, as_superuser};
use crate::instance::{Failure, Inspected, StageCell, inspect};
use crate::reason::Reason;
use crate::spelling;

/// How long the postmaster has for one byte.
const KNOCK_LIMIT: Duration = Duration::from_millis(1500);

/// A password that ends sooner is worth a line.
const SOON_S: f64 = 30.0 * 86_400.0;

/// PostgreSQL 10.
const OLDEST: u32 = 10_00_00;

/// All in one row. `pg_stat_database` counts sessions that only `pg_monitor` may see in `pg_stat_activity`.
const QUESTION: &str = "SELECT pg_catalog.pg_is_in_recovery(), \
     pg_catalog.current_setting('server_version'), \
     pg_catalog.current_setting('server_version_num'), \
     session_user, \
     pg_catalog.pg_has_role('pg_monitor', 'USAGE'), \
     pg_catalog.current_setting('max_connections'), \
     pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int4 \
     + coalesce(pg_catalog.current_setting('reserved_connections', true), '0')::pg_catalog.int4, \
     (SELECT sum(numbackends) FROM pg_catalog.pg_stat_database), \
     pg_catalog.current_setting('log_connections'), \
     pg_catalog.current_setting('hot_standby'), \
     pg_catalog.current_setting('wal_receiver_timeout'), \
     pg_catalog.current_setting('default_transaction_read_only'), \
     (SELECT system_identifier FROM pg_catalog.pg_control_system()), \
     (pg_catalog.pg_stat_get_wal_receiver()).pid IS NOT NULL, \
     (SELECT CASE WHEN pg_catalog.isfinite(rolvaliduntil) \
     THEN extract(epoch FROM rolvaliduntil - pg_catalog.now()) END \
     FROM pg_catalog.pg_roles WHERE rolname = session_user), \
     pg_catalog.current_setting('is_superuser'), \
     pg_catalog.current_setting('port')";

/// What the server says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// `pg_is_in_recovery()`.
    pub is_standby: bool,
    /// `server_version`.
    pub version: String,
    /// `server_version_num`.
    pub version_number: u32,
    /// The role that logged in.
    pub role: String,
    /// It has what `pg_monitor` has.
    pub sees_all: bool,
    /// `max_connections`.
    pub max_connections: u64,
    /// Those that are kept for others.
    pub reserved: u64,
    /// Sessions now.
    pub used: u64,
    /// `log_connections`.
    pub log_connections: String,
    /// `hot_standby`.
    pub is_hot_standby: bool,
    /// `wal_receiver_timeout`; zero is none.
    pub wal_receiver_timeout: Duration,
    /// `default_transaction_read_only` of a new session.
    pub is_read_only: bool,
    /// Which cluster it is of.
    pub system_identifier: u64,
    /// It receives WAL.
    pub has_receiver: bool,
    /// When the role's password ends, in seconds from now.
    pub expires_in_s: Option<f64>,
    /// The role is a superuser, to whom the reserved connections belong.
    pub is_superuser: bool,
    /// Where it listens.
    pub port: u16,
}

/// A server that let the agent in, or why there is none.
pub type Seen = Result<(String, Facts), Failure>;

/// Looks now; may hang, see [`inspect`].
pub fn look(connection: &ConnectionSettings, limit: Duration, stage: &StageCell) -> Seen {
    let Inspected { place, row } = inspect(connection, QUESTION, Instant::now() + KNOCK_LIMIT, limit, stage)?;
    let facts = read(&row).ok_or_else(|| {
        Failure::new(Reason::QueryFailed, format!("{place}: it does not say what PostgreSQL says of itself"))
    })?;
    Ok((place, facts))
}

fn read(row: &[Option<String>]) -> Option<Facts> {
    let text = |column: usize| row.get(column)?.as_deref();
    let flag = |column: usize| match text(column)? {
        "t" | "on" => Some(true),
        "f" | "off" => Some(false),
        _ => None,
    };
    Some(Facts {
        is_standby: flag(0)?,
        version: text(1)?.split(' ').next()?.to_owned(),
        version_number: text(2)?.parse().ok()?,
        role: text(3)?.to_owned(),
        sees_all: flag(4)?,
        max_connections: text(5)?.parse().ok()?,
        reserved: text(6)?.parse().ok()?,
        used: text(7)?.parse().ok()?,
        log_connections: text(8)?.to_owned(),
        is_hot_standby: flag(9)?,
        wal_receiver_timeout: spelling::duration(text(10)?).ok()?,
        is_read_only: flag(11)?,
        system_identifier: text(12)?.parse().ok()?,
        has_receiver: flag(13)?,
        expires_in_s: text(14).and_then(|text| text.parse().ok()),
        is_superuser: flag(15)?,
        port: text(16)?.parse().ok()?,
    })
}

/// What it means.
pub fn judge(config: &Config, seen: &Seen, os_user: Option<&str>) -> Vec<Finding> {
    match seen {
        Ok((place, facts)) => judge_facts(config, place, facts, os_user),
        Err(failure) => vec![judge_failure(config, failure, os_user)],
    }
}

fn judge_failure(config: &Config, failure: &Failure, os_user: Option<&str>) -> Finding {
    let remedy = advice::advice(failure, &config.connection, os_user);
    let remedy = remedy.unwrap_or_else(|| otherwise(failure.reason).to_owned());
    Finding::problem(
        format_args!("PostgreSQL: {}: {}", failure.reason, failure.cause),
        format_args!("{remedy}"),
    )
}

/// Where there is nothing that is mended by one command.
fn otherwise(reason: Reason) -> &'static str {
    match reason {
        Reason::PostmasterNotAnswering => {
            "look at its state: ps -o pid,stat,wchan:20,args -C postgres; T: thaw it with kill -CONT PID; D: it waits for a \
             disk (dmesg)"
        }
        Reason::ShuttingDown => {
            "a smart shutdown waits for its clients (ps -o pid,args -C postgres) and lets nobody in: end it with pg_ctl stop \
             -m fast -D DATADIR, then systemctl start postgresql"
        }
        Reason::StartingUp => {
            "wait: its log says how far recovery is (journalctl -u 'postgresql*'; /var/log/postgresql)"
        }
        Reason::DeadlinePassed => {
            "log in by hand, and see where it hangs: sudo -u pgsqlchk psql -c 'SELECT 1' postgres; PostgreSQL's log says more"
        }
        _ => "PostgreSQL's log says more: journalctl -u 'postgresql*'; /var/log/postgresql",
    }
}

fn judge_facts(config: &Config, place: &str, facts: &Facts, os_user: Option<&str>) -> Vec<Finding> {
    let Facts { version, role, max_connections, used, reserved, .. } = facts;
    let kind = if facts.is_standby { "standby" } else { "primary" };
    let by_sql = |sql: &str| as_superuser(&config.connection, sql);
    let os_user = os_user.unwrap_or("?");
    let mut findings = vec![
        Finding::ok(format_args!(
            "PostgreSQL: {place} answers, and lets {role} in (as the operating system's {os_user})"
        )),
        match facts.version_number >= OLDEST {
            true => Finding::ok(format_args!(
                "PostgreSQL: version {version}, {kind} of system {}",
                facts.system_identifier
            )),
            false => Finding::problem(
                format_args!("PostgreSQL: version {version} is older than 10, which this agent needs"),
                format_args!("upgrade it: pg_upgrade"),
            ),
        },
    ];
    findings.push(match facts.sees_all {
        true => Finding::ok(format_args!("PostgreSQL: {role} has pg_monitor")),
        false => Finding::warning(format_args!("PostgreSQL: {role} lacks pg_monitor: the lag counts only what was received, and standbys stay unseen"), format_args!("on the primary: {}", by_sql(&format!("GRANT pg_monitor TO {}", spelling::identifier(role))))),
    });
    let usable =
        if facts.is_superuser { *max_connections } else { max_connections.saturating_sub(*reserved) };
    let free = usable.saturating_sub(*used);
    findings.push(match free <= (max_connections / 20).max(2) {
        false => Finding::ok(format_args!("PostgreSQL: {used} of {max_connections} connections are taken")),
        true => Finding::warning(format_args!(
                "PostgreSQL: {used} of {max_connections} connections are taken and {reserved} reserved, so that {free} are free: \
                 without one the answer is 503 too-many-clients"
            ), format_args!(
                "see who has them: {}; raise max_connections",
                by_sql("SELECT usename, application_name, count(*) FROM pg_stat_activity GROUP BY 1, 2")
            )),
    });
    findings.extend(log_lines(config, facts));
    if facts.is_read_only {
        let role = spelling::identifier(role);
        let what = match facts.is_standby {
            false => {
                "PostgreSQL: default_transaction_read_only = on: /read-write says 503 read-only, although this is a primary"
            }
            true => {
                "PostgreSQL: default_transaction_read_only = on: once promoted, /read-write will say 503 read-only"
            }
        };
        let find =
            by_sql("SELECT source, sourcefile FROM pg_settings WHERE name = 'default_transaction_read_only'");
        let reset = by_sql("ALTER SYSTEM RESET default_transaction_read_only");
        findings.push(Finding::warning(format_args!("{what}"), format_args!(
                "{reset}; then SELECT pg_reload_conf() (where it stands: {find}; for this role alone: ALTER ROLE {role} RESET \
                 default_transaction_read_only)"
            )));
    }
    if !facts.is_hot_standby {
        findings.push(Finding::warning(format_args!("PostgreSQL: hot_standby = off: as a standby this server will let nobody in, and each check is 503"), format_args!("{}; then restart PostgreSQL", by_sql("ALTER SYSTEM SET hot_standby = on"))));
    }
    if facts.is_standby && !facts.has_receiver {
        findings.push(Finding::warning(format_args!("PostgreSQL: no WAL receiver runs on this standby: it receives nothing, and its lag is unknown"), format_args!(
                "see what its log says of the primary: journalctl -u 'postgresql*'; where it should stream from: {}",
                by_sql("SHOW primary_conninfo")
            )));
    }
    if let Some(left_s) = facts.expires_in_s.filter(|left_s| *left_s < SOON_S) {
        let sql = format!("ALTER ROLE {} VALID UNTIL 'infinity'", spelling::identifier(role));
        findings.push(Finding::warning(
            format_args!(
                "PostgreSQL: the password of {role} ends in {:.0} days (VALID UNTIL)",
                (left_s / 86_400.0).max(0.0)
            ),
            format_args!("on the primary: {}", by_sql(&sql)),
        ));
    }
    findings
}

/// `on`, or from PostgreSQL 18 on a list of what is logged.
fn log_lines(config: &Config, facts: &Facts) -> Option<Finding> {
    let logged = facts.log_connections.as_str();
    let logs_knocks = ["on", "true", "1", "yes", "all"].contains(&logged) || logged.contains("receipt");
    let (knock, login) = (config.knock_interval, config.login_interval);
    (logs_knocks && (!knock.is_zero() || !login.is_zero())).then(|| {
        Finding::warning(format_args!(
                "PostgreSQL: log_connections = {logged}: while checks come, each knock (every {knock:?}) and each login (every \
                 {login:?}) leaves lines in the server's log"
            ), format_args!("knock-interval = 10s and login-interval = 1min in /etc/pgsqlchk/pgsqlchk.conf, then systemctl restart pgsqlchk; \
             or log_connections = off"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: [&str; 17] = [
        "f",
        "15.9 (Debian)",
        "150009",
        "pgsqlchk",
        "t",
        "100",
        "3",
        "7",
        "off",
        "on",
        "1min",
        "off",
        "7300000000000000000",
        "f",
        "",
        "off",
        "5432",
    ];

    fn row() -> Vec<Option<String>> {
        ROW.iter().map(|text| (!text.is_empty()).then(|| (*text).to_owned())).collect()
    }

    #[test]
    fn a_row_is_read_whole_or_not_at_all() {
        let facts = read(&row()).unwrap();
        assert_eq!(
            (facts.version.as_str(), facts.version_number, facts.expires_in_s),
            ("15.9", 150_009, None)
        );
        assert_eq!((facts.is_standby, facts.sees_all, facts.port), (false, true, 5432));
        assert_eq!(facts.wal_receiver_timeout, Duration::from_secs(60));
        let mut broken = row();
        broken[5] = Some("many".into());
        assert_eq!(read(&broken), None);
        assert_eq!(read(&row()[..16]), None);
    }
}
