//! From a look at the instance to what others make of it: peers and poolers are called when a request arrives, a primary is
//! made to commit when its look is done and its peers speak for it, and what came of all that is laid beside the look.

mod told;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::order::{Order, Place};
use super::way::Way;
use crate::circle::{Call, Circle};
use crate::config::{Config, Protocol};
use crate::instance::{Observation, ProbeSettings, Role};
use crate::peers::{self, News, PeerSettings};
use crate::system::own_name::OwnName;
use crate::tally::Tally;
use crate::verdict::{Target, weigh};
use crate::work::{self, PoolerSeat, WriteSeat};
use told::Told;

/// Those who are asked beside the instance, and what the log has been told of them.
pub(crate) struct Witnesses {
    peers: Option<Circle<peers::Seat>>,
    min_peers: usize,
    /// How long a request waits for peers, and a document for the others.
    wait: Duration,
    poolers: Option<Circle<PoolerSeat>>,
    writer: Option<Circle<WriteSeat>>,
    /// The deadline of a request, which is how long it waits for the others where they decide.
    timeout: Duration,
    order: Order,
    told: Mutex<Told>,
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
    /// `None` where the configuration names none.
    pub(crate) fn start(config: &Config, tally: Arc<Tally>) -> io::Result<Option<Arc<Witnesses>>> {
        let settings = PeerSettings::of(config, &OwnName::get().agent);
        Witnesses::with(config, settings, Asks { peers: true, poolers: true, commit: true }, tally)
    }

    /// Only those who are asked for this target.
    pub(crate) fn for_one(
        config: &Config,
        settings: PeerSettings,
        target: Target,
    ) -> io::Result<Option<Arc<Witnesses>>> {
        Witnesses::with(config, settings, Asks::of(target), Arc::default())
    }

    fn with(
        config: &Config,
        settings: PeerSettings,
        asks: Asks,
        tally: Arc<Tally>,
    ) -> io::Result<Option<Arc<Witnesses>>> {
        let has_peers = asks.peers && !settings.peers.is_empty();
        let has_poolers = asks.poolers && !config.pooler.is_empty();
        let interval = config.write_probe.filter(|_| asks.commit);
        if !has_peers && !has_poolers && interval.is_none() {
            return Ok(None);
        }
        let start_writer = |interval| work::start_writer(ProbeSettings::of(config), interval, tally);
        Ok(Some(Arc::new(Witnesses {
            peers: has_peers.then(|| peers::start(&settings)).transpose()?,
            min_peers: config.min_peers,
            wait: settings.wait,
            poolers: has_poolers.then(|| work::start_poolers(config)).transpose()?,
            writer: interval.map(start_writer).transpose()?,
            timeout: config.timeout,
            order: Order::default(),
            told: Mutex::default(),
        })))
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
        if let Some(circle) = self.peers.as_ref().filter(|_| asks.peers) {
            circle.call(peers);
        }
        if let Some(circle) = self.poolers.as_ref().filter(|_| asks.poolers) {
            circle.call(others);
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
        let Some(circle) = self.peers.as_ref().filter(|_| target.asks_peers()) else {
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
        let Some(circle) = self.poolers.as_ref().filter(|_| is_asked) else { return then(observation) };
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
        if let Some(circle) = self.writer.as_ref().filter(|_| target.waits_for_commit(observation)) {
            circle.call(call);
        }
    }

    fn hear_writer(
        &self,
        target: Target,
        call: Call,
        mut observation: Observation,
        then: impl FnOnce(Observation) + Send + 'static,
    ) {
        let Some(circle) = &self.writer else { return then(observation) };
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
