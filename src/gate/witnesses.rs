//! From a look at the instance to what other nodes make of it: peers are called when a request arrives, and weighed when
//! its look is done.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::way::Way;
use crate::config::{Config, Protocol};
use crate::instance::{Evidence, Observation};
use crate::peers::{Call, Circle, News, PeerSettings, Place};
use crate::reason::Reason;
use crate::system::own_name::OwnName;
use crate::verdict::{Target, foreign, weigh};

/// The peers, and what the log has been told of them.
pub(crate) struct Witnesses {
    circle: Circle,
    min_peers: usize,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    against: Option<Reason>,
    /// Whether each peer is of another cluster.
    foreign: Vec<bool>,
}

/// A request has arrived, and its peers have been called.
pub(crate) struct Summons(Place);

impl Witnesses {
    /// `None` where the configuration names no peers.
    pub(crate) fn start(config: &Config) -> io::Result<Option<Arc<Witnesses>>> {
        Witnesses::with(config, PeerSettings::of(config, &OwnName::get().agent))
    }

    /// The same with settings of one's own.
    pub(crate) fn with(config: &Config, settings: PeerSettings) -> io::Result<Option<Arc<Witnesses>>> {
        if settings.peers.is_empty() {
            return Ok(None);
        }
        let circle = Circle::start(&settings)?;
        Ok(Some(Arc::new(Witnesses { circle, min_peers: config.min_peers, told: Mutex::default() })))
    }

    /// Calls the peers where the target may need their news. To be done in the order in which requests are taken.
    pub(crate) fn call(&self, protocol: Protocol, target: Target, arrived: Instant) -> Summons {
        let call = match target.asks_peers() {
            true => self.circle.call(arrived),
            false => Call::none(),
        };
        Summons(self.circle.line_up(Way::of(protocol, target) as usize, call))
    }

    /// Gives `then` the observation with what the peers' words add to it, as soon as it need not wait for any. Never blocks
    /// for a peer.
    pub(crate) fn attend(
        self: &Arc<Self>,
        target: Target,
        summons: Summons,
        observation: Observation,
        then: impl FnOnce(Observation, News) + Send + 'static,
    ) {
        let witnesses = Arc::clone(self);
        let is_waiting = target.waits_for_peers(&observation);
        let hear = move |news: News| {
            let mut observation = observation;
            if target.asks_peers() {
                observation.evidence = weigh(&observation, &news, witnesses.min_peers);
                witnesses.tell(&observation, &news);
            }
            then(observation, news);
        };
        summons.0.attend(is_waiting, Box::new(hear));
    }

    /// Tells the log what has changed.
    fn tell(&self, observation: &Observation, news: &News) {
        if observation.sighting().is_none() {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.note_against(&observation.evidence);
        told.note_foreign(observation, news);
    }
}

impl Told {
    fn note_against(&mut self, evidence: &Evidence) {
        let reason = evidence.against.as_ref().map(|against| against.reason);
        let before = std::mem::replace(&mut self.against, reason);
        if let Some(before) = before.filter(|before| Some(*before) != reason) {
            log::info!(target: "pgsqlchk", "{before} no more");
        }
        if let Some(against) = evidence.against.as_ref().filter(|_| before != reason) {
            log::warn!(target: "pgsqlchk", "{}: {}", against.reason, against.what);
        }
    }

    fn note_foreign(&mut self, observation: &Observation, news: &News) {
        self.foreign.resize(news.peers.len(), false);
        for (peer, was_foreign) in news.peers.iter().zip(&mut self.foreign) {
            let Some(is_foreign) = foreign(observation, peer) else { continue };
            if is_foreign && !*was_foreign {
                let peer = peer.described();
                log::warn!(
                    target: "pgsqlchk",
                    "peer {peer} is of another cluster, and does not count: its system identifier is another one"
                );
            }
            *was_foreign = is_foreign;
        }
    }
}
