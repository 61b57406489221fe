//! The one reusable session. The only user of the `postgres` crate.
//!
//! Every call here can block for ever: the crate's `connect_timeout` ends at the socket, queries have no client
//! timeout, and even dropping a session waits for the backend. It therefore lives on a thread of its own (see
//! [`crate::monitor`]).

use std::time::Duration;

use postgres::{Client, Config, NoTls, SimpleQueryMessage, config::SslMode};

use super::address::Address;
use super::{Failure, Needs, Sighting, query};
use crate::config::{ConnectionSettings, Secret};
use crate::reason::Reason;

/// What the server is asked to do about a session over TCP whose client may be gone: a path that swallowed the end of
/// the connection, or cut it at the client's side only, would leave the session in the server until the system's
/// keepalive finds it, two hours later, and every failure of the path one more. 11 s now, also where nothing is sent.
const KEEPALIVE_IN_SERVER: &str =
    "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; ";

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
        let keepalive = match address {
            Address::Unix { .. } => "",
            Address::Tcp(_) => KEEPALIVE_IN_SERVER,
        };
        let prepare = format!(
            "{keepalive}SET default_transaction_read_only = on; SET statement_timeout = {}",
            timeout.as_millis().max(1)
        );
        client.batch_execute(&prepare).map_err(|error| Failure::from_postgres(&place, &error))?;
        Ok(Session { client, place })
    }

    /// Asks the server, now. `simple_query` because it keeps no state in the server and so also works through
    /// connection poolers.
    pub(super) fn observe(&mut self, needs: Needs) -> Result<Sighting, Failure> {
        let query = query::text(needs);
        let answer =
            self.client.simple_query(&query).map_err(|error| Failure::from_postgres(&self.place, &error))?;
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        // A column that cannot be read as text ends the row; the reader notices.
        let columns = row.map(|row| (0..row.len()).map_while(|column| row.try_get(column).ok()));
        columns.and_then(|columns| query::read(columns, needs)).ok_or_else(|| {
            let what = format!("{}: the answer to \"{query}\" is not what was asked for", self.place);
            Failure::new(Reason::QueryFailed, what)
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
