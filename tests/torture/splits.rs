//! Promotions: with the old primary gone for good, and those that leave two primaries behind.

use std::thread;
use std::time::Duration;

use crate::faults::{Undo, halt};
use crate::history::{Node, Role};
use crate::network::{self, NODES};
use crate::plan::{Guise, Meanwhile, Other, Split, Stop, Way};
use crate::poser::Poser;
use crate::support::Frozen;
use crate::world::{PEER_INTERVAL, TIMEOUT, World};

/// So long two primaries that hear each other are left as they are: as long as their agents may need to know, as the checker
/// has it, and then a while in which they have to.
const RIPENING: Duration = PEER_INTERVAL.saturating_add(TIMEOUT).saturating_add(Duration::from_millis(2000));

/// Another node.
pub fn other(node: Node, other: Other) -> Node {
    match other {
        Other::Next => (node + 1) % NODES.len(),
        Other::Last => (node + NODES.len() - 1) % NODES.len(),
    }
}

/// The primary stops, and this standby is the next one.
pub fn fail_over(world: &mut World, stop: Stop, heir: Other) -> Undo {
    let (old, next) = (world.primary, other(world.primary, heir));
    halt(world, old, stop);
    world.promote(next);
    world.primary = next;
    Box::new(move |world| world.follow(next))
}

/// Two nodes are primaries.
pub fn split(world: &mut World, split: Split, heir: Other, meanwhile: Meanwhile) -> Undo {
    let old = world.primary;
    let next = other(old, heir);
    let third = 3 - old - next;
    // Who has to hear of whom.
    let (loser, winner) = if split == Split::Rivals { (third, next) } else { (old, next) };
    let mend = match meanwhile {
        Meanwhile::Nothing | Meanwhile::WitnessFrozen | Meanwhile::WitnessDies => None,
        Meanwhile::Severed(way) => Some(sever(world, way, loser, winner)),
        Meanwhile::Posed(guise) => Some(pose(world, guise, loser, winner)),
    };
    match split {
        Split::LeftRunning | Split::GivenUp => world.promote(next),
        Split::Returns => {
            halt(world, old, Stop::Fast);
            world.promote(next);
            world.start(old, Role::Primary);
        }
        Split::Rivals => {
            halt(world, old, Stop::Fast);
            world.promote_both(next, third);
        }
    }
    let silenced = match meanwhile {
        Meanwhile::WitnessFrozen => Some(silence(world, winner, true)),
        Meanwhile::WitnessDies => Some(silence(world, winner, false)),
        Meanwhile::Nothing | Meanwhile::Severed(_) | Meanwhile::Posed(_) => None,
    };
    let primary = if split == Split::GivenUp { old } else { next };
    Box::new(move |world| {
        mend.into_iter().for_each(|mend| mend(world));
        // They hear each other now, or the witness has been silent for a while: time in which the checker can find something.
        thread::sleep(RIPENING);
        silenced.into_iter().for_each(|restore| restore(world));
        world.primary = primary;
        world.follow(primary);
    })
}

/// The witness has been heard for long enough, and is heard no more.
fn silence(world: &mut World, witness: Node, is_frozen: bool) -> Undo {
    thread::sleep(RIPENING);
    if is_frozen { freeze_agent(world, witness) } else { restart_agent(world, witness) }
}

/// The agent stands still until the fault ends.
pub fn freeze_agent(world: &mut World, node: Node) -> Undo {
    world.record.mute(node);
    let frozen = Frozen::new(world.agent(node).pid());
    Box::new(move |world| {
        drop(frozen);
        world.record.unmute(node);
    })
}

/// The agent ends as systemd ends it, and another one begins when the fault ends.
pub fn restart_agent(world: &mut World, node: Node) -> Undo {
    world.record.mute(node);
    let status = world.agent(node).terminate();
    assert!(status.success(), "an agent ends well after SIGTERM: {status}");
    world.servers[node].agent = None;
    Box::new(move |world| {
        world.start_agent(node);
        world.record.unmute(node);
    })
}

/// The way from a node to another one.
pub fn sever(world: &mut World, way: Way, from: Node, to: Node) -> Undo {
    world.record.deafen(from, to);
    if way != Way::Questions {
        world.record.deafen(to, from);
    }
    network::sever(from, to, way != Way::Questions);
    if way == Way::Both {
        network::sever(to, from, true);
    }
    Box::new(move |world| {
        network::mend(from, to);
        world.record.hears(from, to);
        if way == Way::Both {
            network::mend(to, from);
        }
        if way != Way::Questions {
            world.record.hears(to, from);
        }
    })
}

/// Somebody answers this agent in the place of another one.
pub fn pose(world: &mut World, guise: Guise, listener: Node, speaker: Node) -> Undo {
    // Who says the same within the deadline is heard.
    if guise != Guise::Slow {
        world.record.deafen(listener, speaker);
    }
    let poser = network::agent_address(speaker);
    let poser = Poser::start(guise, poser);
    network::pose(listener, Some((speaker, poser.address())));
    Box::new(move |world| {
        network::pose(listener, None);
        if guise != Guise::Slow {
            world.record.hears(listener, speaker);
        }
        drop(poser);
    })
}
