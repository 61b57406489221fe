//! Promotions: with the old primary gone for good, and those that leave two primaries behind.

use std::thread;
use std::time::Duration;

use crate::agents::{freeze_agent, restart_agent};
use crate::faults::{Undo, halt};
use crate::history::{Node, Role};
use crate::network::NODES;
use crate::plan::{Meanwhile, Other, Split, Stop};
use crate::ways::{pose, sever};
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
