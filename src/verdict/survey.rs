//! The cluster as this agent sees it: one row for each node, and what all of them amount to. Pure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attached::{Names, only};
use super::weigh::{foreign, is_same_instance};
use super::{Path, Target, Verdict, judge};
use crate::instance::{AttachedStandby, Drain, Lsn, Observation, Role};
use crate::peers::{News, PeerNews};
use crate::reason::Reason;
use crate::system::own_name::OwnName;

/// What a cluster's nodes amount to. The earlier one counts where two would hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Two nodes are primaries on one timeline, and neither drains.
    TwoPrimaries,
    /// A node is a primary that does not drain, although another one was seen on a higher timeline.
    SupersededPrimary,
    /// One is the primary.
    OnePrimary,
    /// None is, as far as can be seen.
    NoPrimary,
}

impl Condition {
    /// The word that stands in documents.
    pub const fn word(self) -> &'static str {
        match self {
            Condition::TwoPrimaries => "two-primaries",
            Condition::SupersededPrimary => "superseded-primary",
            Condition::OnePrimary => "one-primary",
            Condition::NoPrimary => "no-primary",
        }
    }

    /// What it means, in a sentence.
    pub const fn meaning(self) -> &'static str {
        match self {
            Condition::TwoPrimaries => {
                "Two nodes are primaries on one timeline: drain the one whose writes are to be lost."
            }
            Condition::SupersededPrimary => {
                "A primary was left behind by a promotion: what is written there is lost."
            }
            Condition::OnePrimary => "One node is the primary.",
            Condition::NoPrimary => "No node is seen to be the primary.",
        }
    }
}

/// One node. What was not heard is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Its host's name, as it was heard last.
    pub name: Option<String>,
    /// Where it is asked; of this node itself only where it stands among its own peers.
    pub address: Option<Arc<str>>,
    /// It is this one.
    pub is_self: bool,
    /// It answered within `--peer-interval`.
    pub is_reached: bool,
    /// It is of another cluster; `None` where one of both does not say.
    pub is_foreign: Option<bool>,
    /// How long ago it was asked what it answered last.
    pub age: Option<Duration>,
    /// As it says itself.
    pub role: Option<Role>,
    /// Why it has no role, or why its `/` does not hold. Of a peer without what it knows of others.
    pub reason: Option<String>,
    /// Whether its drain file exists.
    pub draining: Option<bool>,
    /// On a standby a lower bound.
    pub timeline: Option<u32>,
    /// Where a primary writes; how far a standby has replayed.
    pub lsn: Option<Lsn>,
    /// How much WAL a standby on the primary's timeline lacks, in bytes.
    pub lag_bytes: Option<u64>,
    /// As the primary says.
    pub sync_state: Option<String>,
    names: Names,
    standbys: Option<Vec<AttachedStandby>>,
}

/// All of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    /// What they amount to.
    pub condition: Condition,
    /// This node first, the others in the order of the configuration.
    pub nodes: Vec<Node>,
}

impl Survey {
    /// `target` has the administrator's standing limits.
    pub fn new(target: Target, observation: &Observation, news: &News, own_name: &OwnName) -> Survey {
        let now = Instant::now();
        let is_own = |peer: &&PeerNews| peer.is_self || is_same(observation, peer);
        let mut own = own_node(target, observation, own_name);
        own.address = news.peers.iter().find(is_own).map(|peer| Arc::clone(&peer.address));
        let others = news.peers.iter().filter(|peer| !is_own(peer));
        let mut nodes = vec![own];
        nodes.extend(others.map(|peer| peer_node(observation, peer, now)));
        measure(&mut nodes);
        Survey { condition: condition(observation, news, &nodes), nodes }
    }

    /// How many nodes say that they are the primary.
    pub fn primaries(&self) -> usize {
        primaries(&self.nodes).count()
    }

    /// Whether every node has answered.
    pub fn is_whole(&self) -> bool {
        self.nodes.iter().all(|node| node.is_reached)
    }
}

fn is_same(observation: &Observation, peer: &PeerNews) -> bool {
    let own = observation.sighting().and_then(|sighting| sighting.identity);
    own.zip(peer.fresh()).is_some_and(|(own, said)| is_same_instance(own, said))
}

fn own_node(target: Target, observation: &Observation, own_name: &OwnName) -> Node {
    let sighting = observation.sighting();
    let replication = sighting.and_then(|sighting| sighting.replication.as_ref());
    let position = sighting.and_then(|sighting| sighting.position);
    let reason = match judge(Target { path: Path::Contract, ..target }, observation) {
        _ if observation.failure().is_some() => observation.failure().map(|failure| failure.reason),
        Verdict::Holds(_) => None,
        Verdict::Draining => Some(Reason::Draining),
        Verdict::No(reason) | Verdict::Down(reason) => Some(reason),
    };
    Node {
        name: Some(own_name.host.clone()),
        is_self: true,
        is_reached: true,
        is_foreign: Some(false),
        age: Some(Duration::ZERO),
        role: sighting.map(|sighting| sighting.role),
        reason: reason.map(|reason| reason.word().to_owned()),
        draining: match observation.drain {
            Drain::On => Some(true),
            Drain::Off => Some(false),
            Drain::Unknown | Drain::NotLooked => None,
        },
        timeline: sighting.and_then(|sighting| sighting.timeline),
        lsn: position.or(replication.and_then(|replication| replication.replayed)),
        names: sighting.map(Names::of_receiver).unwrap_or_default(),
        standbys: sighting.and_then(|sighting| sighting.standbys.clone()),
        ..Node::default()
    }
}

fn peer_node(observation: &Observation, peer: &PeerNews, now: Instant) -> Node {
    let last = peer.last.as_ref();
    let node = Node {
        name: last.map(|heard| heard.said.name.clone()).filter(|name| !name.is_empty()),
        address: Some(Arc::clone(&peer.address)),
        is_reached: peer.is_fresh,
        age: last.map(|heard| now.saturating_duration_since(heard.asked)),
        ..Node::default()
    };
    let Some(said) = peer.fresh() else { return node };
    Node {
        is_foreign: foreign(observation, peer),
        role: said.role,
        reason: said.reason.clone(),
        draining: said.draining,
        timeline: said.timeline,
        lsn: said.lsn,
        names: Names::of_statement(said),
        standbys: said.standbys.clone(),
        ..node
    }
}

fn primaries(nodes: &[Node]) -> impl Iterator<Item = &Node> {
    nodes.iter().filter(|node| node.role == Some(Role::Primary) && node.is_foreign != Some(true))
}

/// Says of each standby how far it is from the primary, and how that counts it.
fn measure(nodes: &mut [Node]) {
    let furthest =
        primaries(nodes).max_by_key(|node| (node.timeline, node.draining != Some(true), node.lsn)).cloned();
    let Some(primary) = furthest else { return };
    let has_namesake: Vec<bool> = nodes.iter().map(|node| has_namesake(nodes, node)).collect();
    for (node, has_namesake) in nodes.iter_mut().zip(has_namesake) {
        let is_standby = node.role == Some(Role::Standby) && node.is_foreign != Some(true);
        if is_standby && node.timeline == primary.timeline {
            let positions = primary.lsn.zip(node.lsn);
            node.lag_bytes = positions.map(|(written, replayed)| written.bytes_since(replayed));
            let attached = primary.standbys.as_deref().filter(|_| !has_namesake);
            node.sync_state = attached.and_then(|attached| sync_state(attached, &node.names));
        }
    }
}

/// Whether the row of this standby could be that of another one.
fn has_namesake(nodes: &[Node], node: &Node) -> bool {
    let standbys = nodes.iter().filter(|other| other.role == Some(Role::Standby));
    standbys.filter(|other| other.is_foreign != Some(true) && other.names.collide(&node.names)).count() > 1
}

/// Where one row alone has these names.
fn sync_state(attached: &[AttachedStandby], names: &Names) -> Option<String> {
    only(names.rows(attached))?.sync_state.clone()
}

fn condition(observation: &Observation, news: &News, nodes: &[Node]) -> Condition {
    let against = observation.evidence.against.as_ref().map(|against| against.reason);
    let active = || primaries(nodes).filter(|node| node.draining != Some(true));
    let timelines: Vec<u32> = active().filter_map(|node| node.timeline).collect();
    let is_twice = |timeline: &u32| timelines.iter().filter(|other| *other == timeline).count() > 1;
    let own = observation.sighting().and_then(|sighting| sighting.identity);
    let claims = news.peers.iter().filter_map(|peer| peer.claim);
    let claims =
        claims.filter(|claim| own.is_none_or(|own| own.system_identifier == claim.system_identifier));
    let of_others = nodes.iter().filter(|node| node.is_foreign != Some(true));
    let highest = of_others.filter_map(|node| node.timeline).chain(claims.map(|claim| claim.timeline)).max();
    let is_left_behind = timelines.iter().any(|timeline| highest.is_some_and(|highest| *timeline < highest));
    if timelines.iter().any(is_twice) || against == Some(Reason::TwoPrimaries) {
        Condition::TwoPrimaries
    } else if is_left_behind {
        Condition::SupersededPrimary
    } else if primaries(nodes).next().is_some() {
        Condition::OnePrimary
    } else {
        Condition::NoPrimary
    }
}
