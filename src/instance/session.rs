//! The one reusable session. The only user of the `postgres` crate.
//!
//! Every call here can block for ever: the crate's `connect_timeout` ends at the socket, queries have no client
//! timeout, and even dropping a session waits for the backend. It therefore lives on a thread of its own (see
//! [`crate::monitor`]).

use std::time::Duration;

use postgres::error::SqlState;
use postgres::{Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow, config::SslMode};

use super::address::Address;
use super::{Failure, Needs, Sighting, doubt, query};
use crate::config::{ConnectionSettings, Secret};
use crate::reason::Reason;

/// What the server is asked to do about a session over TCP whose client may be gone: a path that swallowed the end of
/// the connection, or cut it at the client's side only, would leave the session in the server until the system's
/// keepalive finds it, two hours later, and every failure of the path one more. 11 s now, also where nothing is sent.
const KEEPALIVE_IN_SERVER: &str =
    "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; ";

/// How long a session may take for its beginning, and each of its questions.
#[derive(Clone, Copy)]
pub(super) struct TimeLimits {
    /// For the TCP connection alone: the driver bounds nothing else of a login.
    pub(super) connect: Duration,
    /// The server keeps to it, as `statement_timeout`.
    pub(super) statement: Duration,
}

/// An open session.
pub(super) struct Session {
    client: Client,
    place: String,
    /// What ALTER ROLE and ALTER DATABASE said at the login, after which PostgreSQL does not tell a session any more;
    /// outside, `None` where the session is not to get old.
    login_settings: Option<Option<String>>,
}

impl Session {
    /// Logs in and makes the session read-only, with `statement_timeout` so that a forgotten session cannot
    /// keep a query running in the server. A session that `gets_old` remembers what held at its login.
    pub(super) fn open(
        settings: &ConnectionSettings,
        address: &Address,
        password: Option<Secret>,
        limits: TimeLimits,
        gets_old: bool,
    ) -> Result<Session, Failure> {
        let place = address.to_string();
        let mut client = login_config(settings, address, password, limits)
            .connect(NoTls)
            .map_err(|error| Failure::from_postgres(&place, &error))?;
        let keepalive = match address {
            Address::Unix { .. } => "",
            Address::Tcp(_) => KEEPALIVE_IN_SERVER,
        };
        let prepare = format!(
            "{keepalive}SET default_transaction_read_only = on; SET statement_timeout = {}; {}",
            limits.statement.as_millis().max(1),
            if gets_old { query::LOGIN_SETTINGS } else { "" }
        );
        let answer = client.simple_query(&prepare).map_err(|error| Failure::from_postgres(&place, &error))?;
        let login_settings = gets_old.then(|| rows(&answer).next().and_then(single_value));
        Ok(Session { client, place, login_settings })
    }

    /// Asks the server, now. `simple_query` because it keeps no state in the server and so also works through
    /// connection poolers. Fails where only a new session could tell, too: what ALTER ROLE and ALTER DATABASE lay
    /// down reaches sessions at their login.
    pub(super) fn observe(&mut self, needs: Needs) -> Result<Sighting, Failure> {
        let mut query = query::text(needs);
        if needs.writability {
            query.to_mut().push_str("; ");
            query.to_mut().push_str(query::LOGIN_SETTINGS);
        }
        let answer = self.ask(&query)?;
        let mut rows = rows(&answer);
        let row = rows.next();
        let current_settings = if needs.writability { rows.next().and_then(single_value) } else { None };
        // One row each was asked for; of two, one could say another role than the other.
        let row = row.filter(|_| rows.next().is_none());
        // A column that cannot be read as text ends the row; the reader notices.
        let columns = row.map(|row| (0..row.len()).map_while(|column| row.try_get(column).ok()));
        let sighting = columns.and_then(|columns| query::read(columns, needs));
        let mut sighting = sighting.ok_or_else(|| self.not_what_was_asked(&query))?;
        if doubt::is_left(&sighting, needs) {
            self.end_doubt(&mut sighting, needs)?;
        }
        if needs.writability
            && self.login_settings.as_ref().is_some_and(|settings| *settings != current_settings)
        {
            let what = format!("{}: the settings of the role or database have changed", self.place);
            return Err(Failure::new(Reason::QueryFailed, what));
        }
        Ok(sighting)
    }

    /// Asks what the first answer has left open.
    fn end_doubt(&mut self, sighting: &mut Sighting, needs: Needs) -> Result<(), Failure> {
        let Some(recovery) = sighting.recovery else { return Ok(()) };
        let answer = self.ask(doubt::TEXT)?;
        let mut rows = rows(&answer);
        let row = rows.next().filter(|_| rows.next().is_none());
        let columns = row.map(|row| (0..row.len()).map_while(|column| row.try_get(column).ok()));
        let recovery = columns.and_then(|columns| doubt::end(columns, recovery, needs));
        sighting.recovery = Some(recovery.ok_or_else(|| self.not_what_was_asked(doubt::TEXT))?);
        Ok(())
    }

    fn not_what_was_asked(&self, query: &str) -> Failure {
        let what = format!("{}: the answer to \"{query}\" is not what was asked for", self.place);
        Failure::new(Reason::QueryFailed, what)
    }

    fn ask(&mut self, query: &str) -> Result<Vec<SimpleQueryMessage>, Failure> {
        let answer = match self.client.simple_query(query) {
            // Recovery ended between two columns, and ends only once: now it is a primary.
            Err(error) if error.code() == Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => {
                self.client.simple_query(query)
            }
            answer => answer,
        };
        answer.map_err(|error| Failure::from_postgres(&self.place, &error))
    }
}

fn rows(answer: &[SimpleQueryMessage]) -> impl Iterator<Item = &SimpleQueryRow> {
    answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })
}

fn single_value(row: &SimpleQueryRow) -> Option<String> {
    row.try_get(0).ok().flatten().map(str::to_owned)
}

fn login_config(
    settings: &ConnectionSettings,
    address: &Address,
    password: Option<Secret>,
    limits: TimeLimits,
) -> Config {
    // Zero would mean "for ever".
    let connect_limit = limits.connect.max(Duration::from_millis(1));
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
        .connect_timeout(settings.connect_timeout.map_or(connect_limit, |limit| limit.min(connect_limit)))
        // Lets the thread of an abandoned session end where the network swallows everything.
        .tcp_user_timeout(settings.tcp_user_timeout.unwrap_or(limits.statement))
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
