//! The session that makes a primary commit: whether a client could work here shows in nothing else. It is another one than
//! that which looks, so that a commit that hangs holds up no look.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use postgres::error::{DbError, Severity};
use postgres::{Client, SimpleQueryMessage};

use super::address::{Address, try_in_order};
use super::channel::Channel;
use super::failure::Asked;
use super::login::Refusals;
use super::startup::{Learned, TimeLimits, log_in, login_config, own_settings};
use super::{Failure, ProbeSettings};
use crate::reason::Reason;
use crate::system::threads;

/// The session's name in `pg_stat_activity`, whatever the connection settings say.
pub const APPLICATION_NAME: &str = "pgsqlchk write probe";

/// Who closes a session that is not used any more.
const STACK_BYTES: usize = if cfg!(feature = "tls") { 256 } else { 128 } * 1024;

/// How often a session that was lost, or whose commit somebody cancelled, is replaced for one probe.
const MAX_TRIES: u32 = 10;

/// Between two looks whether another probe of this role has committed.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Why no commit came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoCommit {
    /// With an error.
    Failed(Failure),
    /// Another probe of this role has not come to its end (one line), or this one's commit was let go unconfirmed.
    Stalled(String),
}

/// Commits, in a session that it keeps.
pub struct Writer {
    settings: ProbeSettings,
    session: Option<WriteSession>,
    learned: Learned,
    refusals: Refusals,
    /// Why the last login was refused.
    refused: Option<Failure>,
    /// Closes the session before this one.
    closing: Option<JoinHandle<()>>,
}

struct WriteSession {
    client: Client,
    place: String,
    /// When its login began, or that of one that was refused since.
    tried: Instant,
    /// The first warning since it was emptied that a commit was not confirmed.
    warning: Arc<Mutex<Option<String>>>,
}

impl Writer {
    /// One without a session.
    pub fn new(mut settings: ProbeSettings) -> Writer {
        settings.connection.application_name = APPLICATION_NAME.into();
        Writer {
            settings,
            session: None,
            learned: Learned::default(),
            refusals: Refusals::default(),
            refused: None,
            closing: None,
        }
    }

    /// Commits something that nobody reads, and says how long that took. Blocks for as long as the server pleases; where a
    /// commit has to wait for a standby, that is until it is there. Never while another probe of this role is committing.
    /// After the deadline nothing is begun anew.
    pub fn commit(&mut self, deadline: Instant) -> Result<Duration, NoCommit> {
        self.renew_when_due(deadline)?;
        for _ in 1..MAX_TRIES {
            let is_fresh = self.session.is_none();
            let failure = match self.commit_once(deadline) {
                Err(NoCommit::Failed(failure)) => failure,
                result => return result,
            };
            self.close();
            if (is_fresh && !failure.is_disturbance()) || Instant::now() >= deadline {
                return Err(NoCommit::Failed(failure));
            }
            log::debug!("committing again: {}", failure.cause);
        }
        self.commit_once(deadline)
    }

    /// Ends the session, on a thread of its own where there is one to be had: that waits for the server.
    pub fn close(&mut self) {
        let Some(session) = self.session.take() else { return };
        if self.may_close() {
            let close = move || drop(session);
            self.closing = threads::spawn("closing", STACK_BYTES, close).ok();
        }
    }

    fn may_close(&self) -> bool {
        self.closing.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// An old session goes on writing while the server lets nobody else in, and what ALTER ROLE lays down reaches new ones
    /// only. A login that is refused, perhaps to the agent alone, leaves the old one in use.
    fn renew_when_due(&mut self, deadline: Instant) -> Result<(), NoCommit> {
        let (now, interval, may_close) = (Instant::now(), self.settings.login_interval, self.may_close());
        let Some(session) = &mut self.session else { return Ok(()) };
        if !may_close || !self.refusals.is_login_due(session.tried, interval, now) {
            return Ok(());
        }
        session.tried = now;
        match self.connect(deadline) {
            Ok(fresh) => {
                self.close();
                self.session = Some(fresh);
                Ok(())
            }
            Err(failure) if failure.concerns_perhaps_the_agent_alone() || failure.is_disturbance() => Ok(()),
            Err(failure) => {
                self.close();
                Err(NoCommit::Failed(failure))
            }
        }
    }

    fn commit_once(&mut self, deadline: Instant) -> Result<Duration, NoCommit> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.connect_unless_resting(deadline).map_err(NoCommit::Failed)?,
        };
        let session = self.session.insert(session);
        let limit = self.settings.timeout;
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = Instant::now();
            match session.write(limit)? {
                Answer::Committed => return Ok(begun.elapsed()),
                Answer::Standby => {
                    let what = format!("{}: the session that is to write is at a standby", session.place);
                    return Err(NoCommit::Failed(Failure::new(Reason::InRecovery, what)));
                }
                Answer::Beside if begun + pause < deadline => {
                    thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Answer::Beside | Answer::Hanging => {
                    let what = format!(
                        "{}: an earlier commit of {APPLICATION_NAME:?} still hangs there",
                        session.place
                    );
                    return Err(NoCommit::Stalled(what));
                }
            }
        }
    }

    /// While another login would only be refused once more, the last one tells enough.
    fn connect_unless_resting(&mut self, deadline: Instant) -> Result<WriteSession, Failure> {
        match &self.refused {
            Some(failure) if self.refusals.rest_until().is_some_and(|until| Instant::now() < until) => {
                Err(failure.clone())
            }
            _ => self.connect(deadline),
        }
    }

    fn connect(&mut self, deadline: Instant) -> Result<WriteSession, Failure> {
        let result = self.connect_to_any(deadline);
        match &result {
            Ok(_) => self.refusals.end(),
            Err(failure) => self.refusals.record(failure, Instant::now()),
        }
        self.refused = result.as_ref().err().cloned();
        result
    }

    fn connect_to_any(&mut self, deadline: Instant) -> Result<WriteSession, Failure> {
        let addresses = Address::resolve(&self.settings.connection)?;
        let timeout = self.settings.timeout;
        try_in_order(addresses, deadline, |address, share| {
            let limits = TimeLimits { connect: share.limit.unwrap_or(timeout), statement: timeout };
            self.log_in(&address, limits)
        })
    }

    fn log_in(&mut self, address: &Address, limits: TimeLimits) -> Result<WriteSession, Failure> {
        let tried = Instant::now();
        let connection = &self.settings.connection;
        // Of a passfile that cannot be read the session that looks has told.
        let password = connection.look_up_password().unwrap_or_default();
        let warning = Arc::new(Mutex::new(None));
        let heard = Arc::clone(&warning);
        let mut plain = login_config(connection, address, password, limits);
        plain.notice_callback(move |notice| note(&heard, &notice));
        let own = own_settings(connection.options.as_deref(), address, limits, self.learned.version);
        let place = address.to_string();
        let channel = Channel::to(connection, address, limits);
        let client = log_in(&channel, &plain, &own, &mut self.learned)
            .map_err(|error| Failure::from_login(&place, &error))?;
        Ok(WriteSession { client, place, tried, warning })
    }
}

/// What the server said.
enum Answer {
    Committed,
    /// It is a standby now.
    Standby,
    /// Another probe of this role is committing.
    Beside,
    /// And has been for longer than the deadline of a check.
    Hanging,
}

impl WriteSession {
    fn write(&mut self, limit: Duration) -> Result<Answer, NoCommit> {
        self.take_warning();
        let answer = self
            .client
            .simple_query(&text(limit))
            .map_err(|error| NoCommit::Failed(Failure::from_postgres(&self.place, &error, Asked::Query)))?;
        let warning = self.take_warning();
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let value = row.and_then(|row| row.try_get(0).ok().flatten()).unwrap_or_default();
        match (value, warning) {
            ("standby", _) => Ok(Answer::Standby),
            ("beside", _) => Ok(Answer::Beside),
            ("hanging", _) => Ok(Answer::Hanging),
            (_, Some(warning)) => {
                Err(NoCommit::Stalled(format!("{}: committed with a warning: {warning}", self.place)))
            }
            (lsn, None) if lsn.contains('/') => Ok(Answer::Committed),
            (_, None) => {
                let what =
                    format!("{}: the answer to \"{}\" is not what was asked for", self.place, text(limit));
                Err(NoCommit::Failed(Failure::new(Reason::QueryFailed, what)))
            }
        }
    }

    fn take_warning(&self) -> Option<String> {
        self.warning.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A commit that was not confirmed by the standby it had to wait for says so with a warning, and only where that comes from
/// tells it from others, whatever the server's language: 40 million transactions before it stops, each one is warned of that.
fn note(warning: &Mutex<Option<String>>, notice: &DbError) {
    log::debug!("notice from the server: {}", notice.message());
    let is_of_commit = notice.file().is_some_and(|file| file.ends_with("syncrep.c"));
    if notice.parsed_severity() == Some(Severity::Warning) && is_of_commit {
        warning
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(|| notice.message().to_owned());
    }
}

/// Writes a few bytes of WAL, and commits them as any transaction is committed, in a session whose transactions are
/// read-only, too; needs no privilege and no `wal_level` (PostgreSQL manual, section 9.28.6, `pg_logical_emit_message`).
/// Not beside another transaction of this kind that has an id already: who has one is on the way to its commit. What was
/// left behind by a process that has ended can be there for as long as no synchronous standby is. (The view
/// `pg_stat_activity` would look up names as well, and takes twice as long.) PgBouncer can put an address behind the name
/// (`application_name_add_host`); and a role may have been dropped, which leaves `session_user` an error.
fn text(limit: Duration) -> String {
    format!(
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'standby' ELSE coalesce(\
         (SELECT CASE WHEN pg_catalog.clock_timestamp() - a.query_start > interval '{} ms' \
         THEN 'hanging' ELSE 'beside' END \
         FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) AS own, \
         pg_catalog.pg_stat_get_activity(NULL) AS a \
         WHERE a.application_name LIKE '{APPLICATION_NAME}%' AND a.usesysid = own.usesysid \
         AND a.pid <> own.pid AND a.backend_xid IS NOT NULL ORDER BY a.query_start LIMIT 1), \
         pg_catalog.pg_logical_emit_message(true, 'pgsqlchk', '')::pg_catalog.text) END",
        limit.as_millis()
    )
}
