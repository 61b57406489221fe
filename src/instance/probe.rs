//! One look at the instance, start to end: the role over the reused session, replaced by a fresh login where it was lost
//! or is too old, and the knock where the last one is too old.

use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use super::address::{Address, try_in_order};
use super::advice::advice;
use super::knock::Knocker;
use super::login::{LoginRefused, Refusals};
use super::session::Session;
use super::startup::{Learned, TimeLimits};
use super::timeline::SeenTimeline;
use super::{Drain, Failure, Needs, Observation, ProbeSettings, Sighting, Stage, StageCell};
use crate::reason::Reason;

/// How often a look asks again, or logs in again, because somebody cancelled its query or ended its session: often enough
/// to get through between two of them, and bounded where they never end.
const MAX_TRIES: u32 = 10;

/// Where several servers take turns behind one address, each login reaches another one: no line for each.
const PAUSE_BETWEEN_MOVES: Duration = Duration::from_secs(60);

/// Owns the session, and remembers the last knock and the last login.
pub struct Prober {
    settings: Arc<ProbeSettings>,
    session: Option<Connected>,
    /// Sessions that are not asked any more; closing one waits for its server.
    retired: Vec<Session>,
    knocker: Knocker,
    knocked: Option<Instant>,
    refusals: Refusals,
    /// The refused login that the session has outlasted.
    refused: Option<LoginRefused>,
    learned: Learned,
    seen_timeline: SeenTimeline,
    moved: Option<Instant>,
    stage: Arc<StageCell>,
    /// It looks once and ends with its process.
    is_for_one_look: bool,
}

/// Sessions that are not asked any more. Dropping them can hang as a look can.
pub struct Retired(Vec<Session>);

impl Retired {
    /// Whether there is nothing to be dropped.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

struct Connected {
    session: Session,
    address: Address,
    /// When the last login began, be it this session's own or one that was refused since.
    tried: Instant,
}

impl Prober {
    /// A prober without a session; the first probe opens it.
    pub fn new(settings: Arc<ProbeSettings>) -> Prober {
        Prober {
            session: None,
            retired: Vec::new(),
            knocker: Knocker::for_settings(&settings.connection),
            settings,
            knocked: None,
            refusals: Refusals::default(),
            refused: None,
            learned: Learned::default(),
            seen_timeline: SeenTimeline::default(),
            moved: None,
            stage: Arc::new(StageCell::new()),
            is_for_one_look: false,
        }
    }

    /// For a process that looks once: a fresh login proves the postmaster by itself, and what would be one line in a
    /// process that stays would be one per request here.
    pub fn for_one_look(settings: ProbeSettings) -> Prober {
        let settings = ProbeSettings { knock_interval: Duration::ZERO, ..settings };
        Prober { is_for_one_look: true, ..Prober::new(Arc::new(settings)) }
    }

    /// Looks from now on as these settings say. The session stays, unless they lead elsewhere; then nothing of the server
    /// before is remembered.
    pub fn adopt(&mut self, settings: &Arc<ProbeSettings>) {
        let before = std::mem::replace(&mut self.settings, Arc::clone(settings));
        if !Arc::ptr_eq(&before, settings) && before.connection != settings.connection {
            self.forget_session();
            let retired = std::mem::take(&mut self.retired);
            *self = Prober { retired, ..Prober::new(Arc::clone(settings)) };
        }
    }

    /// Where to read, from another thread, what the current probe is busy with.
    pub fn stage(&self) -> Arc<StageCell> {
        Arc::clone(&self.stage)
    }

    /// Until when a look would only add to the server's log what stands there already: it has no session, and was refused
    /// one several times.
    pub fn rests_until(&self) -> Option<Instant> {
        self.refusals.rest_until().filter(|_| self.session.is_none())
    }

    /// Asks the session no more; the next look opens a new one.
    pub fn forget_session(&mut self) {
        self.retired.extend(self.session.take().map(|connected| connected.session));
        self.knocked = None;
        self.refused = None;
    }

    /// Hands over the sessions that are not asked any more.
    pub fn take_retired(&mut self) -> Retired {
        Retired(std::mem::take(&mut self.retired))
    }

    /// Looks at the instance now. Blocks beyond the deadline where a look for a file, login or query does; after it no
    /// lost session is replaced. Where a fresh login is due it is made only if it `may_log_in_anew`.
    pub fn probe(&mut self, needs: Needs, deadline: Instant, may_log_in_anew: bool) -> Observation {
        let begun = Instant::now();
        let drain = if needs.drain { self.look_for_drain() } else { Drain::NotLooked };
        let is_needed = drain != Drain::On || needs.despite_drain;
        let instance = is_needed.then(|| {
            if may_log_in_anew {
                self.log_in_anew_when_due(begun, deadline)?;
            }
            self.look_at_instance(needs, deadline)
        });
        Observation::new(drain, instance, Some(begun.elapsed()))
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

    /// The old session goes on answering while the server lets in nobody else (a smart shutdown, a library that cannot be
    /// loaded, a locked catalog). So a login that fails is the answer, unless it may concern the agent alone.
    fn log_in_anew_when_due(&mut self, now: Instant, deadline: Instant) -> Result<(), Failure> {
        let interval = self.settings.login_interval;
        let Some(connected) = &mut self.session else { return Ok(()) };
        if !self.refusals.is_login_due(connected.tried, interval, now) {
            return Ok(());
        }
        connected.tried = now;
        match self.connect(deadline) {
            Ok(fresh) => {
                self.note_move(&fresh);
                self.retired.extend(self.session.replace(fresh).map(|connected| connected.session));
                self.refused = None;
                Ok(())
            }
            Err(failure) if failure.concerns_perhaps_the_agent_alone() => {
                let os_user = whoami::username().ok();
                let advice = advice(&failure, &self.settings.connection, os_user.as_deref());
                self.refused = Some(LoginRefused::after(self.refused.take(), &failure, advice));
                Ok(())
            }
            // Somebody ended the new session, not the old one.
            Err(failure) if failure.is_disturbance() => Ok(()),
            Err(failure) => {
                self.forget_session();
                Err(failure)
            }
        }
    }

    fn look_at_instance(&mut self, needs: Needs, deadline: Instant) -> Result<Sighting, Failure> {
        let mut sighting = self.sight(needs, deadline)?;
        if self.knock_when_due(deadline)? {
            sighting = self.sight(needs, deadline)?;
        }
        sighting.login_refused = self.refused.clone();
        self.seen_timeline.raise(&mut sighting);
        Ok(sighting)
    }

    /// Asks the session, and another one where that tells more than its error: the server may have been restarted since the
    /// last check. What somebody cancelled or ended is asked again, too.
    fn sight(&mut self, needs: Needs, deadline: Instant) -> Result<Sighting, Failure> {
        for _ in 1..MAX_TRIES {
            let is_fresh = self.session.is_none();
            let failure = match self.sight_once(needs, deadline) {
                Ok(sighting) => return Ok(sighting),
                Err(failure) => failure,
            };
            if (is_fresh && !failure.is_disturbance()) || Instant::now() >= deadline {
                return Err(failure);
            }
            log::debug!("asking again: {}", failure.cause);
        }
        self.sight_once(needs, deadline)
    }

    fn sight_once(&mut self, needs: Needs, deadline: Instant) -> Result<Sighting, Failure> {
        let connected = match self.session.take() {
            Some(connected) => connected,
            None => self.connect(deadline)?,
        };
        let connected = self.session.insert(connected);
        self.stage.enter(Stage::Querying);
        let limit = self.settings.timeout;
        let sighting = connected.session.keep_to(limit).and_then(|()| connected.session.observe(needs));
        if let Err(failure) = &sighting
            && failure.reason != Reason::QueryCanceled
        {
            self.forget_session();
        }
        sighting
    }

    /// Logs in at the first address that lets it.
    fn connect(&mut self, deadline: Instant) -> Result<Connected, Failure> {
        let result = self.connect_to_any(deadline);
        match &result {
            Ok(_) => self.refusals.end(),
            Err(failure) => self.refusals.record(failure, Instant::now()),
        }
        result
    }

    fn connect_to_any(&mut self, deadline: Instant) -> Result<Connected, Failure> {
        let addresses = self.resolve()?;
        try_in_order(addresses, deadline, |address, share| {
            // The last one has until whoever waits gives up.
            let limit = share.limit.unwrap_or(self.settings.timeout);
            self.connect_to(address, share.until, limit)
        })
    }

    fn resolve(&self) -> Result<Vec<Address>, Failure> {
        self.stage.enter(Stage::Resolving);
        Address::resolve(&self.settings.connection)
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
        let tried = Instant::now();
        let connection = &self.settings.connection;
        let password = connection.look_up_password().unwrap_or_else(|problem| {
            log_once_about_passfile(&problem.to_string(), self.trouble_level());
            None
        });
        let limits = TimeLimits { connect: limit, statement: self.settings.timeout };
        let session = if self.is_for_one_look {
            match Session::open_for_one_look(connection, &address, password, limits) {
                // Who does not speak PostgreSQL's protocol may have closed it for that: what it says to a knock tells.
                Err(failure) if failure.reason == Reason::ConnectionLost => {
                    let deadline = self.connect_deadline(deadline);
                    self.knocker.knock(&address, deadline, &self.stage)?;
                    return Err(failure);
                }
                opened => opened?,
            }
        } else {
            Session::open(connection, &address, password, limits, &mut self.learned)?
        };
        self.knocked = Some(Instant::now());
        Ok(Connected { session, address, tried })
    }

    /// The session answers from an old backend; only the knock shows that the postmaster still does. Where the host's name
    /// means another address by now, the session is of a server that no new client meets: says whether to look again.
    fn knock_when_due(&mut self, deadline: Instant) -> Result<bool, Failure> {
        let now = Instant::now();
        let interval = self.settings.knock_interval;
        let is_due = self.knocked.is_none_or(|knocked| now.duration_since(knocked) >= interval);
        let Some(connected) = &self.session else { return Ok(false) };
        if interval.is_zero() || !is_due {
            return Ok(false);
        }
        if !self.resolve()?.contains(&connected.address) {
            log::debug!("the server's name does not mean {} any more", connected.address);
            self.forget_session();
            return Ok(true);
        }
        self.knocked = None;
        self.knocker.knock(&connected.address, deadline, &self.stage)?;
        self.knocked = Some(now);
        Ok(false)
    }

    /// The administrator may want to know that an address moved; from now on the answers are the other server's.
    fn note_move(&mut self, fresh: &Connected) {
        let Some(old) = &self.session else { return };
        if !fresh.session.is_of_another_server(&old.session) {
            return;
        }
        let now = Instant::now();
        if self.moved.is_none_or(|moved| now.duration_since(moved) >= PAUSE_BETWEEN_MOVES) {
            self.moved = Some(now);
            log::info!(target: "pgsqlchk", "behind {} is another server now", fresh.address);
        }
    }

    fn connect_deadline(&self, deadline: Instant) -> Instant {
        match self.settings.connection.connect_timeout {
            Some(limit) => deadline.min(Instant::now() + limit),
            None => deadline,
        }
    }
}

/// One line per process: the passfile is read at every login, and a log line per login helps nobody.
fn log_once_about_passfile(problem: &str, level: log::Level) {
    static LOGGED: Once = Once::new();
    LOGGED.call_once(|| log::log!(target: "pgsqlchk", level, "{problem}"));
}
