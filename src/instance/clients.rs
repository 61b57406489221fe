//! How many sessions clients have, for whoever waits for them to end. Blocks as long as the server pleases.

use std::time::Instant;

use postgres::{Client, SimpleQueryMessage};

use super::address::{Address, try_in_order};
use super::channel::Channel;
use super::failure::Asked;
use super::startup::{TimeLimits, login_config, prelude_for_a_shared_session};
use super::{Failure, ProbeSettings, writer};
use crate::reason::Reason;

/// Sessions of clients: neither of the server's own processes, nor of standbys, nor this one, nor the agent's, which are
/// those of the same role with one of its names. (A client that logs in as the agent's role gives itself another name.)
///
/// Of other roles' sessions only `pg_monitor` sees what kind they are. For others everything counts that has a role and a
/// database and is no standby: rather one too many, such as a worker of an extension, than one too few.
fn text() -> String {
    format!(
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity AS a \
         WHERE coalesce(a.backend_type, CASE WHEN a.datid IS NOT NULL AND a.usesysid IS NOT NULL \
         THEN 'client backend' END) = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid() \
         AND NOT (a.usename = session_user AND a.application_name \
         IN (pg_catalog.current_setting('application_name'), '{}')) \
         AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_stat_replication AS r WHERE r.pid = a.pid)",
        writer::APPLICATION_NAME
    )
}

/// Counts them, in a session that it keeps.
pub struct ClientCounter {
    settings: ProbeSettings,
    session: Option<Session>,
}

struct Session {
    client: Client,
    place: String,
}

impl ClientCounter {
    /// One without a session.
    pub fn new(settings: ProbeSettings) -> ClientCounter {
        ClientCounter { settings, session: None }
    }

    /// Counts them now. A session that was lost is replaced once.
    pub fn count(&mut self) -> Result<u64, Failure> {
        let is_fresh = self.session.is_none();
        match self.count_once() {
            Err(_) if !is_fresh => self.count_once(),
            result => result,
        }
    }

    fn count_once(&mut self) -> Result<u64, Failure> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.connect()?,
        };
        let limits = self.limits(None);
        let question = format!("{}{}", prelude_for_a_shared_session(limits.statement), text());
        let answer = session.client.simple_query(&question);
        let answer = answer.map_err(|error| Failure::from_postgres(&session.place, &error, Asked::Query))?;
        let count = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.try_get(0).ok()??.parse().ok(),
            _ => None,
        });
        let what = || format!("{}: the answer is no number of sessions", session.place);
        let count = count.ok_or_else(|| Failure::new(Reason::QueryFailed, what()))?;
        self.session = Some(session);
        Ok(count)
    }

    fn connect(&self) -> Result<Session, Failure> {
        let connection = &self.settings.connection;
        let addresses = Address::resolve(connection)?;
        try_in_order(addresses, Instant::now() + self.settings.timeout, |address, share| {
            // Where it cannot be read, the server's refusal says what is missing.
            let password = connection.look_up_password().unwrap_or_default();
            let place = address.to_string();
            let limits = self.limits(share.limit);
            let config = login_config(connection, &address, password, limits);
            match Channel::to(connection, &address, limits).open(&config) {
                Ok(client) => Ok(Session { client, place }),
                Err(error) => Err(Failure::from_login(&place, &error)),
            }
        })
    }

    fn limits(&self, connect: Option<std::time::Duration>) -> TimeLimits {
        let timeout = self.settings.timeout;
        TimeLimits { connect: connect.unwrap_or(timeout), statement: timeout }
    }
}
