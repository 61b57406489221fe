//! What keeps clients from working where PostgreSQL says what it always said: the disk of its WAL stands still, or the
//! pooler before it.

use std::time::Duration;

use crate::faults::Undo;
use crate::history::Node;
use crate::network;
use crate::support::{Frozen, secs};
use crate::world::{TIMEOUT, WRITE_PROBE, World};

/// So long a stoppage is no proof yet, as the checker has it, with a second before and one after it; for a pooler less.
pub const RIPENING: Duration = WRITE_PROBE.saturating_add(TIMEOUT).saturating_add(secs(2));

/// Nothing is written to WAL until the fault ends. On a standby that holds up what it receives, and no answer.
pub fn freeze_wal(world: &World, node: Node) -> Undo {
    let frozen = world.servers[node].disk.freeze();
    Box::new(move |_| drop(frozen))
}

/// The pooler stands still.
pub fn freeze_pooler(world: &World, node: Node) -> Undo {
    let frozen = Frozen::new(world.servers[node].pooler.pid());
    Box::new(move |_| drop(frozen))
}

/// The pooler dies, and another one begins when the fault ends.
pub fn kill_pooler(world: &mut World, node: Node) -> Undo {
    world.servers[node].pooler.kill();
    Box::new(move |world| network::on(node, || world.servers[node].pooler.start()))
}
