//! What other agents say of their nodes. Each peer has a thread of its own that asks it when somebody wants to know, and
//! never without (`crate::circle`); what was heard is good for `--peer-interval`, and what has to stick sticks (`memory.rs`).

mod ask;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod memory;
mod seat;
mod statement;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub use memory::Claim;
pub use seat::Seat;
pub use statement::Statement;

use crate::circle::{Circle, Member};
use crate::config::{Config, PeerAddress};
use crate::panics;
use crate::tls::PeerTls;
use ask::Asker;
use seat::Answer;

/// So long a check waits for peers at most, and for a quarter of its own deadline.
const MAX_WAIT: Duration = Duration::from_millis(250);

/// What the administrator said of peers.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerSettings {
    /// Who they are; this agent itself may be among them.
    pub peers: Vec<PeerAddress>,
    /// How they are asked over TLS, if one of them is.
    pub tls: Option<PeerTls>,
    /// How long an answer is good for, counted from the question.
    pub interval: Duration,
    /// The deadline of one question.
    pub timeout: Duration,
    /// How long a check waits for answers.
    pub wait: Duration,
    /// The agent's own random name.
    pub agent: String,
}

impl PeerSettings {
    /// What the configuration says.
    pub fn of(config: &Config, agent: &str) -> PeerSettings {
        PeerSettings {
            peers: config.peer.clone(),
            tls: config.peer_tls.clone(),
            interval: config.peer_interval,
            timeout: config.timeout,
            wait: MAX_WAIT.min(config.timeout / 4),
            agent: agent.to_owned(),
        }
    }
}

/// Starts a circle of them. What one before it knows of the same peers is taken over: what sticks of their words must not be
/// forgotten because a reload names another one.
pub fn start(settings: &PeerSettings, before: Option<&Circle<Seat>>) -> io::Result<Circle<Seat>> {
    let members = settings.peers.iter().enumerate().map(|(number, peer)| {
        let asker = Asker::new(peer, settings);
        let mut seat = Seat::new(peer, settings);
        if let Some(before) = before {
            before.look(|seats| seat.inherit(seats));
        }
        let peer = peer.clone();
        let mut has_answered = seat.has_answered();
        let work = move |()| {
            panics::trip("asking a peer");
            let outcome = asker.ask();
            if has_answered.replace(outcome.is_ok()) != Some(outcome.is_ok()) {
                match &outcome {
                    Ok(_) => log::info!(target: "pgsqlchk", "peer {peer} answers"),
                    Err(why) => log::info!(target: "pgsqlchk", "peer {peer} does not answer: {why}"),
                }
            }
            Answer { said: outcome.ok(), at: SystemTime::now() }
        };
        Member { seat, thread: format!("peer {number}"), work: Box::new(work) }
    });
    Circle::start("peers", members.collect())
}

/// What is known of all peers, for one request.
#[derive(Clone, Debug)]
pub struct News {
    /// In the order of the configuration.
    pub peers: Vec<PeerNews>,
}

impl News {
    /// Where nobody is asked.
    pub fn none() -> News {
        News { peers: Vec::new() }
    }
}

/// What is known of one.
#[derive(Clone, Debug)]
pub struct PeerNews {
    /// Where it is asked.
    pub address: Arc<str>,
    /// It is this very agent.
    pub is_self: bool,
    /// It has answered a question that was asked at most `--peer-interval` before the request arrived.
    pub is_fresh: bool,
    /// What it said last.
    pub last: Option<Heard>,
    /// The last timeline that it said it was on.
    pub claim: Option<Claim>,
    /// The same where it was a primary then that did not drain.
    pub rival: Option<Claim>,
    /// The answer in which it told last by which names its sender knows it; `None` where it has no sender any more.
    pub told: Option<Arc<Statement>>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Heard {
    /// What was said.
    pub said: Arc<Statement>,
    /// When it was asked.
    pub asked: Instant,
    /// The same by this host's clock.
    pub at: SystemTime,
}

impl PeerNews {
    /// What is known of one that has said nothing but this; fresh or not.
    #[cfg(test)]
    pub(crate) fn of(said: Statement, is_fresh: bool) -> PeerNews {
        let said = Arc::new(said);
        let mut memory = memory::Memory::default();
        memory.hear(&said, SystemTime::UNIX_EPOCH);
        PeerNews {
            address: "192.0.2.1:23267".into(),
            is_self: false,
            is_fresh,
            last: Some(Heard { said, asked: Instant::now(), at: SystemTime::UNIX_EPOCH }),
            claim: memory.claim,
            rival: memory.rival,
            told: memory.told,
        }
    }

    /// What it says now.
    pub fn fresh(&self) -> Option<&Statement> {
        self.last.as_ref().filter(|_| self.is_fresh && !self.is_self).map(|heard| heard.said.as_ref())
    }

    /// Its name and address, for people.
    pub fn described(&self) -> String {
        match self.last.as_ref().map(|heard| heard.said.name.as_str()) {
            Some(name) if !name.is_empty() => format!("{name} ({})", self.address),
            Some(_) | None => self.address.to_string(),
        }
    }
}
