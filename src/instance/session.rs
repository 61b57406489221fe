//! The one reusable session that looks. It and the one that writes (`writer.rs`) are the only users of the `postgres` crate.
//!
//! Every call here can block for ever: the crate's `connect_timeout` ends at the socket, queries have no client
//! timeout, and even dropping a session waits for the backend. It therefore lives on a thread of its own (see
//! [`crate::monitor`]).
//!
//! Nothing is ever SET for a session that is not the agent's own: behind a connection pooler the next one to get it would be an application. Where
//! the session in the server is the agent's own, its settings travel with the login; elsewhere with each query, for one
//! transaction.

use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::{Client, Error, SimpleQueryMessage, SimpleQueryRow};

use super::address::Address;
use super::channel::Channel;
use super::failure::Asked;
use super::prepared::Prepared;
use super::startup::{
    Learned, TimeLimits, limit_statements, log_in, login_config, own_settings, prelude_for_a_shared_session,
};
use super::{Failure, Identity, Needs, Role, Sighting, doubt, identity, query};
use crate::config::{ConnectionSettings, Secret};
use crate::reason::Reason;

/// An open session.
pub(super) struct Session {
    client: Client,
    place: String,
    statement_limit: Duration,
    /// What goes ahead of each query, in its transaction.
    prelude: String,
    prepared: Prepared,
    /// When the postmaster behind it was started; `None` where the session is not to get old.
    postmaster_started: Option<String>,
    /// What ALTER ROLE and ALTER DATABASE said at the login, after which PostgreSQL does not tell a session any more;
    /// outside, `None` where the session is not to get old.
    login_settings: Option<Option<String>>,
    /// Nobody else gets this session, so the instance behind it stays the same.
    is_own: bool,
    /// Which instance that is, once somebody needed it; only of a session of the agent's own.
    identity: Option<Identity>,
}

impl Session {
    /// A session that is asked once and ends with its process. It brings no settings, so that a pooler lets it in at
    /// the first try.
    pub(super) fn open_for_one_look(
        settings: &ConnectionSettings,
        address: &Address,
        password: Option<Secret>,
        limits: TimeLimits,
    ) -> Result<Session, Failure> {
        let place = address.to_string();
        let config = login_config(settings, address, password, limits);
        let client = Channel::to(settings, address, limits)
            .open(&config)
            .map_err(|error| Failure::from_login(&place, &error))?;
        Ok(Session {
            client,
            place,
            statement_limit: limits.statement,
            prelude: prelude_for_a_shared_session(limits.statement),
            prepared: Prepared::new(false),
            postmaster_started: None,
            login_settings: None,
            is_own: false,
            identity: None,
        })
    }

    /// Logs in, with settings where the session in the server is the agent's own, and remembers what held at the login.
    pub(super) fn open(
        settings: &ConnectionSettings,
        address: &Address,
        password: Option<Secret>,
        limits: TimeLimits,
        learned: &mut Learned,
    ) -> Result<Session, Failure> {
        let place = address.to_string();
        let plain = login_config(settings, address, password, limits);
        let own = own_settings(settings.options.as_deref(), address, limits, learned.version);
        let channel = Channel::to(settings, address, limits);
        let mut client =
            log_in(&channel, &plain, &own, learned).map_err(|error| Failure::from_login(&place, &error))?;
        let shared = prelude_for_a_shared_session(limits.statement);
        let question = format!("{shared}{}; {}", query::LOGIN, query::LOGIN_SETTINGS);
        let answer = client
            .simple_query(&question)
            .map_err(|error| Failure::from_postgres(&place, &error, Asked::Query))?;
        let mut rows = rows(&answer);
        // Whoever does not answer this is no PostgreSQL, which the look itself will say.
        let login = rows.next().and_then(|row| query::read_login(|column| row.try_get(column).ok()?));
        let login_settings = rows.next().and_then(single_value);
        drop(rows);
        learned.version = login.as_ref().map(|login| login.version);
        let is_own = login.as_ref().is_some_and(|login| login.is_own);
        let prelude = if is_own { query::READ_ONLY.to_owned() } else { shared };
        Ok(Session {
            client,
            place,
            statement_limit: limits.statement,
            prelude,
            prepared: Prepared::new(is_own),
            postmaster_started: login.map(|login| login.postmaster_started),
            login_settings: Some(login_settings),
            is_own,
            identity: None,
        })
    }

    /// From now on each question may take so long. The one place where something is SET for a session, for nobody else gets
    /// one of the agent's own.
    pub(super) fn keep_to(&mut self, statement_limit: Duration) -> Result<(), Failure> {
        if self.statement_limit == statement_limit {
            return Ok(());
        }
        self.statement_limit = statement_limit;
        if self.is_own {
            let limit = limit_statements(statement_limit);
            self.client
                .simple_query(&limit)
                .map_err(|error| Failure::from_postgres(&self.place, &error, Asked::Query))?;
        } else {
            self.prelude = prelude_for_a_shared_session(statement_limit);
        }
        Ok(())
    }

    /// Whether both are known to be sessions of different servers.
    pub(super) fn is_of_another_server(&self, other: &Session) -> bool {
        let started = self.postmaster_started.as_ref().zip(other.postmaster_started.as_ref());
        started.is_some_and(|(ours, theirs)| ours != theirs)
    }

    /// Asks the server, now. `simple_query` because it also works through connection poolers; all of it is one
    /// transaction (PostgreSQL manual, 55.2.2.1, "Multiple Statements in a Simple Query"). Fails where only a new session
    /// could tell, too: what ALTER ROLE and ALTER DATABASE lay down reaches sessions at their login.
    pub(super) fn observe(&mut self, needs: Needs) -> Result<Sighting, Failure> {
        let query = query::text(needs);
        let asks_identity = needs.identity && self.identity.is_none();
        let mut questions = vec![query.as_ref()];
        questions.extend(needs.writability.then_some(query::LOGIN_SETTINGS));
        questions.extend(asks_identity.then_some(identity::TEXT));
        let answer = self.ask(&questions)?;
        let mut rows = rows(&answer);
        let row = rows.next();
        let current_settings = if needs.writability { rows.next().and_then(single_value) } else { None };
        let identity = if asks_identity { rows.next().and_then(read_identity) } else { self.identity };
        // One row each was asked for; of two, one could say another role than the other.
        let row = row.filter(|_| rows.next().is_none());
        // A column that cannot be read as text ends the row; the reader notices.
        let columns = row.map(|row| (0..row.len()).map_while(|column| row.try_get(column).ok()));
        let sighting = columns.and_then(|columns| query::read(columns, needs));
        let mut sighting = sighting.ok_or_else(|| self.not_what_was_asked(&query))?;
        if doubt::is_left(&sighting, needs) {
            self.end_doubt(&mut sighting, needs)?;
        }
        if needs.identity {
            self.identify(&mut sighting, identity)?;
        }
        if needs.writability
            && self.login_settings.as_ref().is_some_and(|settings| *settings != current_settings)
        {
            let what = format!("{}: the settings of the role or database have changed", self.place);
            return Err(Failure::new(Reason::QueryFailed, what));
        }
        Ok(sighting)
    }

    /// Asks something of one's own; the first row, with its columns as text.
    pub(super) fn ask_row(&mut self, question: &str) -> Result<Vec<Option<String>>, Failure> {
        let answer = self.ask(&[question])?;
        let row = rows(&answer).next().ok_or_else(|| self.not_what_was_asked(question))?;
        Ok((0..row.len()).map(|column| row.try_get(column).ok().flatten().map(str::to_owned)).collect())
    }

    /// Asks what the first answer has left open.
    fn end_doubt(&mut self, sighting: &mut Sighting, needs: Needs) -> Result<(), Failure> {
        let Some(recovery) = sighting.recovery else { return Ok(()) };
        let answer = self.ask(&[doubt::TEXT])?;
        let mut rows = rows(&answer);
        let row = rows.next().filter(|_| rows.next().is_none());
        let columns = row.map(|row| (0..row.len()).map_while(|column| row.try_get(column).ok()));
        let recovery = columns.and_then(|columns| doubt::end(columns, recovery, needs));
        sighting.recovery = Some(recovery.ok_or_else(|| self.not_what_was_asked(doubt::TEXT))?);
        Ok(())
    }

    /// Says which instance this is. A session that has outlasted a promotion asks again, for the timeline is a new one.
    fn identify(&mut self, sighting: &mut Sighting, known: Option<Identity>) -> Result<(), Failure> {
        let is_primary = sighting.role == Role::Primary;
        let lacks_timeline = |it: Identity| is_primary && it.primary_timeline.is_none();
        let identity = match known {
            Some(identity) if !lacks_timeline(identity) => identity,
            Some(_) | None => {
                let answer = self.ask(&[identity::TEXT])?;
                let row = rows(&answer).next();
                row.and_then(read_identity)
                    .filter(|identity| !lacks_timeline(*identity))
                    .ok_or_else(|| self.not_what_was_asked(identity::TEXT))?
            }
        };
        self.identity = Some(identity).filter(|_| self.is_own);
        sighting.identity = Some(identity);
        if is_primary {
            sighting.timeline = sighting.timeline.or(identity.primary_timeline);
        }
        Ok(())
    }

    fn not_what_was_asked(&self, query: &str) -> Failure {
        let what = format!("{}: the answer to \"{query}\" is not what was asked for", self.place);
        Failure::new(Reason::QueryFailed, what)
    }

    /// Asks in a transaction of its own, which the prelude begins.
    fn ask(&mut self, questions: &[&str]) -> Result<Vec<SimpleQueryMessage>, Failure> {
        let begun = Instant::now();
        let answer = match self.ask_once(questions) {
            Err(error) if self.is_worth_asking_again(&error) => self.ask_once(questions),
            answer => answer,
        };
        answer.map_err(|error| {
            let failure = Failure::from_postgres(&self.place, &error, Asked::Query);
            // The server says the same where statement_timeout was over, in words that may be of any language.
            let is_our_limit =
                failure.reason == Reason::QueryCanceled && begun.elapsed() >= self.statement_limit;
            let reason = if is_our_limit { Reason::DeadlinePassed } else { failure.reason };
            Failure { reason, ..failure }
        })
    }

    fn ask_once(&mut self, questions: &[&str]) -> Result<Vec<SimpleQueryMessage>, Error> {
        let (mut texts, mut told) = (Vec::new(), Vec::new());
        for question in questions {
            let (text, name) = self.prepared.spell(question);
            texts.push(text);
            told.extend(name.map(|name| (question, name)));
        }
        let text = format!("{}{}", self.prelude, texts.join("; "));
        let answer = self.client.simple_query(&text)?;
        told.into_iter().for_each(|(question, name)| self.prepared.learned(question, name));
        Ok(answer)
    }

    fn is_worth_asking_again(&mut self, error: &Error) -> bool {
        let code = error.code();
        if code == Some(&SqlState::INVALID_SQL_STATEMENT_NAME)
            || code == Some(&SqlState::DUPLICATE_PSTATEMENT)
        {
            return self.prepared.give_up();
        }
        // Recovery ended between two columns, and ends only once: now it is a primary.
        code == Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)
    }
}

fn rows(answer: &[SimpleQueryMessage]) -> impl Iterator<Item = &SimpleQueryRow> {
    answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })
}

fn read_identity(row: &SimpleQueryRow) -> Option<Identity> {
    identity::read(|column| row.try_get(column).ok()?)
}

fn single_value(row: &SimpleQueryRow) -> Option<String> {
    row.try_get(0).ok().flatten().map(str::to_owned)
}
