//! From a look at the instance to what others make of it: peers and poolers are called when a request arrives, a primary is
//! made to commit when its look is done and its peers speak for it, and what came of all that is laid beside the look.

mod told;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::order::{Order, Place};
use super::way::Way;
use crate::circle::{Call, Circle, Seat};
use crate::config::{Config, Protocol};
use crate::instance::{Observation, Role};
use crate::peers::{self, News, PeerSettings};
use crate::system::own_name::OwnName;
use crate::tally::Tally;
use crate::verdict::{Target, weigh};
use crate::work::{self, PoolerSeat, PoolerSettings, WriteSeat, WriteSettings};
use told::Told;

/// Those who are asked beside the instance, and what the log has been told of them.
pub(crate) struct Witnesses {
    peers: Option<Asked<peers::Seat, PeerSettings>>,
    min_peers: usize,
    /// How long a request waits for peers, and a document for the others.
    wait: Duration,
    poolers: Option<Asked<PoolerSeat, PoolerSettings>>,
    writer: Option<Asked<WriteSeat, WriteSettings>>,
    /// The deadline of a request, which is how long it waits for the others where they decide.
    timeout: Duration,
    order: Order,
    told: Arc<Mutex<Told>>,
}

/// A circle, and what it was started with.
struct Asked<S: Seat, T> {
    circle: Arc<Circle<S>>,
    settings: T,
}

impl<S: Seat, T: PartialEq> Asked<S, T> {
    /// One for these settings, if there are any: the one from before where it was started with the same, else a new one, which
    /// can ask the old one what it knows.
    fn renew(
        before: Option<&Asked<S, T>>,
        settings: Option<T>,
        start: impl FnOnce(&T, Option<&Circle<S>>) -> io::Result<Circle<S>>,
    ) -> io::Result<Option<Asked<S, T>>> {
        let Some(settings) = settings else { return Ok(None) };
        let circle = match before {
            Some(before) if before.settings == settings => Arc::clone(&before.circle),
            _ => Arc::new(start(&settings, before.map(|before| before.circle.as_ref()))?),
        };
        Ok(Some(Asked { circle, settings }))
    }
}

/// A request has arrived, and those have been called who can be before it has its look.
pub(crate) struct Summons {
    place: Place,
    peers: Call,
    others: Call,
}

/// Whom it can matter to ask.
#[derive(Clone, Copy)]
struct Asks {
    peers: bool,
    poolers: bool,
    commit: bool,
}

impl Asks {
    fn of(target: Target) -> Asks {
        Asks { peers: target.asks_peers(), poolers: target.asks_poolers(), commit: target.asks_for_commit() }
    }
}

impl Witnesses {
    /// All whom the configuration names. Those of a configuration before stay where nothing about them has changed, and
    /// nothing that was heard of the others is forgotten.
    pub(crate) fn start(
        config: &Config,
        before: Option<&Witnesses>,
        tally: Arc<Tally>,
    ) -> io::Result<Arc<Witnesses>> {
        let settings = PeerSettings::of(config, &OwnName::get().agent);
        let asks = Asks { peers: true, poolers: true, commit: true };
        Witnesses::with(config, settings, asks, before, tally)
    }

    /// Only those who are asked for this target; `None` where that is nobody.
    pub(crate) fn for_one(
        config: &Config,
        settings: PeerSettings,
        target: Target,
    ) -> io::Result<Option<Arc<Witnesses>>> {
        let witnesses = Witnesses::with(config, settings, Asks::of(target), None, Arc::default())?;
        Ok(Some(witnesses).filter(|witnesses| !witnesses.are_none()))
    }

    fn with(
        config: &Config,
        settings: PeerSettings,
        asks: Asks,
        before: Option<&Witnesses>,
        tally: Arc<Tally>,
    ) -> io::Result<Arc<Witnesses>> {
        let wait = settings.wait;
        let peers = Some(settings).filter(|settings| asks.peers && !settings.peers.is_empty());
        let poolers = PoolerSettings::of(config).filter(|_| asks.poolers);
        let writer = WriteSettings::of(config).filter(|_| asks.commit);
        Ok(Arc::new(Witnesses {
            peers: Asked::renew(before.and_then(|before| before.peers.as_ref()), peers, peers::start)?,
            min_peers: config.min_peers,
            wait,
            poolers: Asked::renew(
                before.and_then(|before| before.poolers.as_ref()),
                poolers,
                work::start_poolers,
            )?,
            // Nothing that was committed before the settings changed says that a commit comes back now.
            writer: Asked::renew(before.and_then(|before| before.writer.as_ref()), writer, |settings, _| {
                work::start_writer(settings, tally)
            })?,
            timeout: config.timeout,
            // Requests of both stand on the same lanes, and the log is one.
            order: before.map(|before| before.order.clone()).unwrap_or_default(),
            told: before.map(|before| Arc::clone(&before.told)).unwrap_or_default(),
        }))
    }

    /// Whether nobody is asked.
    fn are_none(&self) -> bool {
        self.peers.is_none() && self.poolers.is_none() && self.writer.is_none()
    }

    /// Whether there are peers.
    pub(crate) fn has_peers(&self) -> bool {
        self.peers.is_some()
    }

    /// Calls those whom the target may need. To be done in the order in which requests are taken.
    pub(crate) fn call(&self, protocol: Protocol, target: Target, arrived: Instant) -> Summons {
        let asks = Asks::of(target);
        let deadline = arrived + self.timeout;
        let peers = Call { arrived, limit: deadline.min(Instant::now() + self.wait), is_deadline: false };
        let others = match target.path.is_document() {
            true => peers,
            false => Call { arrived, limit: deadline, is_deadline: true },
        };
        if let Some(asked) = self.peers.as_ref().filter(|_| asks.peers) {
            asked.circle.call(peers);
        }
        if let Some(asked) = self.poolers.as_ref().filter(|_| asks.poolers) {
            asked.circle.call(others);
        }
        Summons { place: self.order.line_up(Way::of(protocol, target)), peers, others }
    }

    /// Gives `then` the observation with what all others add to it, as soon as it need not wait for any. Never blocks for one
    /// of them.
    pub(crate) fn attend(
        self: &Arc<Self>,
        target: Target,
        summons: Summons,
        observation: Observation,
        then: impl FnOnce(Observation, News) + Send + 'static,
    ) {
        let Summons { place, peers, others } = summons;
        if self.are_none() {
            return place.release(move || then(observation, News::none()));
        }
        let witnesses = Arc::clone(self);
        self.hear_peers(target, peers, observation, move |observation, news| {
            let last = Arc::clone(&witnesses);
            witnesses.call_writer(target, others, &observation);
            witnesses.hear_poolers(target, others, observation, move |observation| {
                let teller = Arc::clone(&last);
                last.hear_writer(target, others, observation, move |observation| {
                    teller.tell(&observation, &news);
                    place.release(move || then(observation, news));
                });
            });
        });
    }

    fn hear_peers(
        &self,
        target: Target,
        call: Call,
        mut observation: Observation,
        then: impl FnOnce(Observation, News) + Send + 'static,
    ) {
        let Some(Asked { circle, .. }) = self.peers.as_ref().filter(|_| target.asks_peers()) else {
            return then(observation, News::none());
        };
        let (min_peers, is_waiting) = (self.min_peers, target.waits_for_peers(&observation));
        let hear = move |peers| {
            let news = News { peers };
            observation.evidence = weigh(&observation, &news, min_peers);
            then(observation, news);
        };
        if is_waiting { circle.attend(call, hear) } else { hear(circle.news(call)) }
    }

    fn hear_poolers(
        &self,
        target: Target,
        call: Call,
        mut observation: Observation,
        then: impl FnOnce(Observation) + Send + 'static,
    ) {
        let is_asked = target.asks_poolers() || target.path.shows_work();
        let Some(Asked { circle, .. }) = self.poolers.as_ref().filter(|_| is_asked) else {
            return then(observation);
        };
        let is_waiting = target.waits_for_poolers(&observation);
        let hear = move |poolers| {
            observation.evidence.poolers = poolers;
            then(observation);
        };
        if is_waiting { circle.attend(call, hear) } else { hear(circle.news(call)) }
    }

    /// Has a primary commit for which all but the poolers speak. Beside them, not after them: one that answers at the last
    /// moment would leave a commit no time, and it would be called stalled.
    fn call_writer(&self, target: Target, call: Call, observation: &Observation) {
        if let Some(asked) = self.writer.as_ref().filter(|_| target.waits_for_commit(observation)) {
            asked.circle.call(call);
        }
    }

    fn hear_writer(
        &self,
        target: Target,
        call: Call,
        mut observation: Observation,
        then: impl FnOnce(Observation) + Send + 'static,
    ) {
        let Some(Asked { circle, .. }) = &self.writer else { return then(observation) };
        let role = observation.sighting().map(|sighting| sighting.role);
        if role.is_none() {
            if observation.failure().is_some() {
                circle.tell(WriteSeat::let_go);
            }
            return then(observation);
        }
        if role == Some(Role::Standby) {
            circle.tell(WriteSeat::stop);
            return then(observation);
        }
        let (is_waiting, is_shown) = (target.waits_for_commit(&observation), target.path.shows_work());
        let hear = move |writes: Vec<_>| {
            observation.evidence.write = writes.into_iter().flatten().next();
            then(observation);
        };
        if is_waiting {
            circle.attend(call, hear);
        } else if is_shown {
            hear(circle.news(call));
        } else {
            hear(Vec::new());
        }
    }

    /// Tells the log what has changed.
    fn tell(&self, observation: &Observation, news: &News) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.note(observation, news, self.timeout);
    }
}
