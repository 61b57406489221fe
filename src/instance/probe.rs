//! One look at the instance, start to end: the role over the reused session, replaced in place where it was
//! lost, and the knock where the last one is too old.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use super::address::Address;
use super::knock::Knocker;
use super::session::{Session, TimeLimits};
use super::{Drain, Failure, Needs, Observation, Sighting};
use crate::config::ConnectionSettings;
use crate::reason::Reason;
use crate::system::drain_file;

/// What a probe is busy with, so that whoever runs out of time can say what it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Looking for the drain file.
    LookingForDrain,
    /// Looking up the host name.
    Resolving,
    /// Opening a TCP connection for the knock.
    Connecting,
    /// Waiting for the postmaster's answer to the knock.
    Knocking,
    /// Logging in.
    LoggingIn,
    /// Waiting for the answer to the query.
    Querying,
}

impl Stage {
    /// The failure of a probe that is given up in this stage; `when` ends its cause.
    pub fn overdue(self, when: impl Display) -> Failure {
        Failure::new(self.overdue_reason(), format!("still {} {when}", self.describe()))
    }

    fn overdue_reason(self) -> Reason {
        match self {
            Stage::Resolving => Reason::NameNotResolved,
            Stage::Connecting => Reason::Unreachable,
            Stage::Knocking => Reason::PostmasterNotAnswering,
            Stage::LookingForDrain | Stage::LoggingIn | Stage::Querying => Reason::DeadlinePassed,
        }
    }

    /// Whether the stage ends by itself at the probe's deadline.
    pub fn is_bounded(self) -> bool {
        match self {
            Stage::Connecting | Stage::Knocking => true,
            Stage::LookingForDrain | Stage::Resolving | Stage::LoggingIn | Stage::Querying => false,
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Stage::LookingForDrain => "looking for the drain file",
            Stage::Resolving => "looking up the host name",
            Stage::Connecting => "connecting",
            Stage::Knocking => "waiting for the postmaster's answer to the knock",
            Stage::LoggingIn => "logging in",
            Stage::Querying => "waiting for the answer to the query",
        }
    }
}

/// The stage of a running probe and what it has seen on the way, readable from other threads.
#[derive(Debug)]
pub struct StageCell {
    stage: AtomicU8,
    drain: AtomicU8,
}

impl StageCell {
    const STAGES: [Stage; 6] = [
        Stage::LookingForDrain,
        Stage::Resolving,
        Stage::Connecting,
        Stage::Knocking,
        Stage::LoggingIn,
        Stage::Querying,
    ];

    const DRAINS: [Drain; 4] = [Drain::NotLooked, Drain::Off, Drain::On, Drain::Unknown];

    /// A cell of a probe that has not begun.
    pub fn new() -> StageCell {
        StageCell {
            stage: AtomicU8::new(Stage::Querying as u8),
            drain: AtomicU8::new(Drain::NotLooked as u8),
        }
    }

    /// Called before a probe that others wait for: nothing has been seen yet.
    pub fn restart(&self) {
        self.saw(Drain::NotLooked);
    }

    /// Called by the probe.
    pub fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// Called by the probe.
    pub fn saw(&self, drain: Drain) {
        self.drain.store(drain as u8, Ordering::Relaxed);
    }

    /// Called by whoever waits.
    pub fn get(&self) -> Stage {
        Self::STAGES[usize::from(self.stage.load(Ordering::Relaxed))]
    }

    /// What is known for those who wait no longer: the drain file, if it was looked for, and no instance.
    pub fn cut_short(&self, failure: Failure) -> Observation {
        let drain = Self::DRAINS[usize::from(self.drain.load(Ordering::Relaxed))];
        Observation { drain, ..Observation::failed(failure) }
    }
}

impl Default for StageCell {
    fn default() -> Self {
        StageCell::new()
    }
}

/// What a look needs to know from the administrator.
#[derive(Clone, Debug)]
pub struct ProbeSettings {
    /// How PostgreSQL is reached.
    pub connection: ConnectionSettings,
    /// The deadline of one check; it bounds what the server does for a look.
    pub timeout: Duration,
    /// How long one knock is good for; zero: it never knocks.
    pub knock_interval: Duration,
    /// While this file exists, the node drains.
    pub drain_file: PathBuf,
}

impl ProbeSettings {
    /// Looks for the drain file now; blocks for as long as the file system pleases. `trouble_level` is that of the
    /// line about a file that cannot be looked for.
    pub fn look_for_drain(&self, trouble_level: log::Level) -> Drain {
        let found = drain_file::exists(&self.drain_file);
        log_change_of_trouble(&self.drain_file, found.as_ref().err(), trouble_level);
        match found {
            Ok(true) => Drain::On,
            Ok(false) => Drain::Off,
            Err(_) => Drain::Unknown,
        }
    }
}

/// Owns the session and the time of the last knock.
pub struct Prober {
    settings: ProbeSettings,
    session: Option<Connected>,
    knocker: Knocker,
    knocked: Option<Instant>,
    stage: Arc<StageCell>,
    /// It looks once and ends with its process.
    is_for_one_look: bool,
}

struct Connected {
    session: Session,
    address: Address,
}

impl Prober {
    /// A prober without a session; the first probe opens it.
    pub fn new(settings: ProbeSettings) -> Prober {
        Prober {
            settings,
            session: None,
            knocker: Knocker::default(),
            knocked: None,
            stage: Arc::new(StageCell::new()),
            is_for_one_look: false,
        }
    }

    /// For a process that looks once: a fresh login proves the postmaster by itself, and what would be one line in a
    /// process that stays would be one per request here.
    pub fn for_one_look(settings: ProbeSettings) -> Prober {
        let settings = ProbeSettings { knock_interval: Duration::ZERO, ..settings };
        Prober { is_for_one_look: true, ..Prober::new(settings) }
    }

    /// Where to read, from another thread, what the current probe is busy with.
    pub fn stage(&self) -> Arc<StageCell> {
        Arc::clone(&self.stage)
    }

    /// Closes the session; the next look opens a new one. Can hang as a look can.
    pub fn forget_session(&mut self) {
        self.session = None;
        self.knocked = None;
    }

    /// Looks at the instance now. Blocks beyond the deadline where a look for a file, login or query does; after it no
    /// lost session is replaced.
    pub fn probe(&mut self, needs: Needs, deadline: Instant) -> Observation {
        let begun = Instant::now();
        let drain = if needs.drain { self.look_for_drain() } else { Drain::NotLooked };
        let is_needed = drain != Drain::On || needs.despite_drain;
        let instance = is_needed.then(|| self.look_at_instance(needs, deadline));
        Observation { drain, instance, took: Some(begun.elapsed()) }
    }

    fn look_for_drain(&self) -> Drain {
        self.stage.enter(Stage::LookingForDrain);
        let drain = self.settings.look_for_drain(self.trouble_level());
        self.stage.saw(drain);
        drain
    }

    /// Of trouble that is worth one line per process, but not one per check.
    fn trouble_level(&self) -> log::Level {
        if self.is_for_one_look { log::Level::Debug } else { log::Level::Warn }
    }

    fn look_at_instance(&mut self, needs: Needs, deadline: Instant) -> Result<Sighting, Failure> {
        let sighting = self.sight(needs, deadline)?;
        self.knock_when_due(deadline)?;
        Ok(sighting)
    }

    fn sight(&mut self, needs: Needs, deadline: Instant) -> Result<Sighting, Failure> {
        if let Some(connected) = &mut self.session {
            self.stage.enter(Stage::Querying);
            match connected.session.observe(needs) {
                Ok(sighting) => return Ok(sighting),
                // Whatever went wrong, a new session tells more than an old error: the server may have been
                // restarted since the last check.
                Err(failure) => {
                    log::debug!("session lost: {}", failure.cause);
                    self.forget_session();
                    if Instant::now() >= deadline {
                        return Err(failure);
                    }
                }
            }
        }
        let mut connected = self.connect(deadline)?;
        self.stage.enter(Stage::Querying);
        let sighting = connected.session.observe(needs)?;
        self.session = Some(connected);
        Ok(sighting)
    }

    /// Tries the addresses in their order, as libpq does: `localhost` is often ::1 first, and the server listens
    /// on 127.0.0.1. Each gets an equal share of the time that is left.
    fn connect(&mut self, deadline: Instant) -> Result<Connected, Failure> {
        self.stage.enter(Stage::Resolving);
        let addresses = Address::resolve(&self.settings.connection)?;
        let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let mut last_failure = Failure::new(Reason::NameNotResolved, "no address");
        for address in addresses {
            let now = Instant::now();
            let share = deadline.saturating_duration_since(now) / left;
            // Nobody comes after the last one: it has until whoever waits gives up.
            let limit = if left > 1 { share } else { self.settings.timeout };
            left -= 1;
            match self.connect_to(address, now + share, limit) {
                Err(failure) if is_next_address_worth_it(failure.reason) => last_failure = failure,
                result => return result,
            }
        }
        Err(last_failure)
    }

    /// Knocks first and logs in only where the postmaster answered, because nothing bounds a login but, over TCP, its
    /// first step: the connection has to come within the limit.
    fn connect_to(
        &mut self,
        address: Address,
        deadline: Instant,
        limit: Duration,
    ) -> Result<Connected, Failure> {
        if !self.settings.knock_interval.is_zero() {
            let deadline = self.connect_deadline(deadline);
            self.knocker.knock(&address, deadline, &self.stage)?;
        }
        // The passfile may be on a disk that hangs.
        self.stage.enter(Stage::LoggingIn);
        let password = self.settings.connection.look_up_password().unwrap_or_else(|problem| {
            log_once_about_passfile(&problem.to_string(), self.trouble_level());
            None
        });
        let limits = TimeLimits { connect: limit, statement: self.settings.timeout };
        let session =
            Session::open(&self.settings.connection, &address, password, limits, !self.is_for_one_look)?;
        self.knocked = Some(Instant::now());
        Ok(Connected { session, address })
    }

    /// The session answers from an old backend; only the knock shows that the postmaster still does.
    fn knock_when_due(&mut self, deadline: Instant) -> Result<(), Failure> {
        let now = Instant::now();
        let is_due =
            self.knocked.is_none_or(|knocked| now.duration_since(knocked) >= self.settings.knock_interval);
        if self.settings.knock_interval.is_zero() || !is_due {
            return Ok(());
        }
        if let Some(connected) = &self.session {
            self.knocked = None;
            self.knocker.knock(&connected.address, deadline, &self.stage)?;
            self.knocked = Some(now);
        }
        Ok(())
    }

    fn connect_deadline(&self, deadline: Instant) -> Instant {
        match self.settings.connection.connect_timeout {
            Some(limit) => deadline.min(Instant::now() + limit),
            None => deadline,
        }
    }
}

/// Whether the failure says no more than that nobody was reached at this address.
fn is_next_address_worth_it(reason: Reason) -> bool {
    matches!(reason, Reason::ConnectionRefused | Reason::Unreachable | Reason::PostmasterNotAnswering)
}

/// One line where the trouble begins, changes or ends. Of the process, for probers come and go.
fn log_change_of_trouble(path: &Path, error: Option<&io::Error>, level: log::Level) {
    static LAST: AtomicI32 = AtomicI32::new(0);
    let errno = error.map_or(0, |error| error.raw_os_error().unwrap_or(-1));
    if LAST.swap(errno, Ordering::Relaxed) == errno {
        return;
    }
    let path = path.display();
    match error {
        Some(error) => log::log!(target: "pgsqlchk", level, "cannot look for the drain file {path}: {error}"),
        None => log::info!(target: "pgsqlchk", "the drain file {path} can be looked for again"),
    }
}

/// One line per process: the passfile is read at every login, and a log line per login helps nobody.
fn log_once_about_passfile(problem: &str, level: log::Level) {
    static LOGGED: Once = Once::new();
    LOGGED.call_once(|| log::log!(target: "pgsqlchk", level, "{problem}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_no_longer_learns_of_the_drain_file_what_was_seen() {
        let cell = StageCell::new();
        let known = || cell.cut_short(Failure::new(Reason::DeadlinePassed, "")).drain;
        assert_eq!(known(), Drain::NotLooked);
        for drain in StageCell::DRAINS {
            cell.saw(drain);
            assert_eq!(known(), drain);
        }
        cell.restart();
        assert_eq!(known(), Drain::NotLooked);
    }
}
