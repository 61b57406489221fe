//! What stands between two agents: a way that is cut, or somebody else who answers.

use crate::faults::Undo;
use crate::history::Node;
use crate::network;
use crate::plan::{Guise, Way};
use crate::poser::Poser;
use crate::world::World;

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
