//! The one reusable session. The only user of the `postgres` crate.
//!
//! Every call here can block for ever: the crate's `connect_timeout` ends at the socket, queries have no client
//! timeout, and even dropping a session waits for the backend. It therefore lives on a thread of its own (see
//! [`crate::monitor`]).

use std::borrow::Cow;
use std::time::Duration;

use postgres::{Client, Config, NoTls, SimpleQueryMessage, config::SslMode};

use super::address::Address;
use super::{Failure, Needs, Role, Sighting};
use crate::config::{ConnectionSettings, Secret};
use crate::reason::Reason;

const ROLE: &str = "SELECT pg_catalog.pg_is_in_recovery()";

/// `reset_val` is what RESET would restore: the value from files, role and database, which a new session starts
/// with, untouched by our own SET (PostgreSQL manual, pg_settings). It follows a reload.
const WRITABILITY: &str =
    "(SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only')";

/// The name of a WAL file begins with its timeline in hexadecimal. A standby writes no WAL, and cannot be asked
/// for the position where it would; what it knows without privileges is its last restartpoint.
const TIMELINE: &str = "CASE WHEN pg_catalog.pg_is_in_recovery() \
     THEN (SELECT pg_catalog.to_hex(timeline_id) FROM pg_catalog.pg_control_checkpoint()) \
     ELSE pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) END";

/// An open session.
pub(super) struct Session {
    client: Client,
    place: String,
}

impl Session {
    /// Logs in and makes the session read-only, with `statement_timeout` so that a forgotten session cannot
    /// keep a query running in the server.
    pub(super) fn open(
        settings: &ConnectionSettings,
        address: &Address,
        password: Option<Secret>,
        timeout: Duration,
    ) -> Result<Session, Failure> {
        let place = address.to_string();
        let mut client = login_config(settings, address, password, timeout)
            .connect(NoTls)
            .map_err(|error| Failure::from_postgres(&place, &error))?;
        let prepare = format!(
            "SET default_transaction_read_only = on; SET statement_timeout = {}",
            timeout.as_millis().max(1)
        );
        client.batch_execute(&prepare).map_err(|error| Failure::from_postgres(&place, &error))?;
        Ok(Session { client, place })
    }

    /// Asks the server, now. `simple_query` because it keeps no state in the server and so also works through
    /// connection poolers.
    pub(super) fn observe(&mut self, needs: Needs) -> Result<Sighting, Failure> {
        let query = query(needs);
        let answer =
            self.client.simple_query(&query).map_err(|error| Failure::from_postgres(&self.place, &error))?;
        read_answer(&answer, needs).ok_or_else(|| {
            Failure::new(
                Reason::QueryFailed,
                format!("{}: the answer to \"{query}\" is not a role", self.place),
            )
        })
    }
}

fn login_config(
    settings: &ConnectionSettings,
    address: &Address,
    password: Option<Secret>,
    timeout: Duration,
) -> Config {
    let mut config = Config::new();
    match address {
        Address::Unix { directory, .. } => config.host_path(directory),
        Address::Tcp(address) => config.hostaddr(address.ip()),
    };
    config
        .port(settings.port)
        .user(&settings.user)
        .dbname(&settings.database)
        .application_name(&settings.application_name)
        .ssl_mode(SslMode::Disable)
        .connect_timeout(settings.connect_timeout.map_or(timeout, |limit| limit.min(timeout)))
        // Lets the thread of an abandoned session end where the network swallows everything.
        .tcp_user_timeout(settings.tcp_user_timeout.unwrap_or(timeout))
        .keepalives(settings.keepalives.enabled)
        .notice_callback(|notice| log::debug!("notice from the server: {}", notice.message()));
    if let Some(idle) = settings.keepalives.idle {
        config.keepalives_idle(idle);
    }
    if let Some(interval) = settings.keepalives.interval {
        config.keepalives_interval(interval);
    }
    if let Some(count) = settings.keepalives.count {
        config.keepalives_retries(count);
    }
    if let Some(options) = &settings.options {
        config.options(options);
    }
    if let Some(password) = password {
        config.password(password.reveal());
    }
    config
}

fn query(needs: Needs) -> Cow<'static, str> {
    let columns = [(needs.writability, WRITABILITY), (needs.timeline, TIMELINE)];
    let mut query = Cow::Borrowed(ROLE);
    for (_, column) in columns.iter().filter(|(is_needed, _)| *is_needed) {
        query.to_mut().push_str(", ");
        query.to_mut().push_str(column);
    }
    query
}

/// Nothing is inferred: what is not exactly `t` or `f` is no role.
fn read_answer(answer: &[SimpleQueryMessage], needs: Needs) -> Option<Sighting> {
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })?;
    let mut columns = (0..row.len()).map(|column| row.try_get(column).ok()?);
    let role = match columns.next()?? {
        "f" => Role::Primary,
        "t" => Role::Standby,
        _ => return None,
    };
    let mut read_only_default = None;
    if needs.writability {
        read_only_default = match columns.next()?? {
            "on" => Some(true),
            "off" => Some(false),
            _ => return None,
        };
    }
    let mut timeline = None;
    if needs.timeline {
        timeline = Some(u32::from_str_radix(columns.next()??, 16).ok()?);
    }
    Some(Sighting { role, read_only_default, timeline })
}
