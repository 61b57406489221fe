//! What happens to an agent itself: it stands still, ends, lacks what it needs, or has clients that vanish.

use std::io::Write;
use std::net::TcpStream;

use crate::faults::Undo;
use crate::history::Node;
use crate::memory_group::MemoryGroup;
use crate::network::{self, STRANGER, agent_address};
use crate::support::{Frozen, secs};
use crate::world::{World, agent_user};

/// More clients than the agent serves at once (`--max-connections`, 128).
const STRANGERS: usize = 200;

/// What the agent still gets in a control group: at times enough, at times its end.
const GROUP_LIMIT_BYTES: u64 = 128 * 1024;

/// What they have said when they vanish.
const SAID: [&str; 3] = ["", "GET /metrics HTTP/1.1\r\nHost: ", "GET /metrics HTTP/1.1\r\n\r\n"];

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

/// Strangers connect, say something, and lose their network for good: neither reply nor end of connection gets through.
/// The others have to be served as if nothing had been.
pub fn vanish(node: Node) -> Undo {
    let mut crowd: Vec<TcpStream> = network::on(STRANGER, || {
        let connect = |_| TcpStream::connect_timeout(&agent_address(node), secs(5));
        (0..STRANGERS).map(connect).collect::<Result<_, _>>().expect("connect to the agent")
    });
    for (stream, said) in crowd.iter_mut().zip(SAID.iter().cycle()) {
        // The agent may have closed it already: somebody else needed the place.
        let _ = stream.write_all(said.as_bytes());
    }
    network::silence(STRANGER, true);
    drop(crowd);
    Box::new(|_| network::silence(STRANGER, false))
}

/// Lowers a soft limit of the agent. It may keep clients waiting, and give up others, but may tell no lies.
pub fn deprive(world: &mut World, node: Node, what: &'static str, soft: &str) -> Undo {
    world.record.mute(node);
    let pid = world.agent(node).pid();
    let old = limit(node, pid, what, soft);
    Box::new(move |world| {
        if world.agent(node).is_alive() {
            limit(node, pid, what, &old);
        }
        // Without memory a program may end; without anything else it has to live.
        revive(world, node, ["as", "data"].contains(&what));
        world.record.unmute(node);
    })
}

/// Bounds what the agent takes from now on. The kernel may refuse it, or kill the agent.
pub fn confine(world: &mut World, node: Node) -> Undo {
    world.record.mute(node);
    let group = MemoryGroup::enter(world.agent(node).pid(), GROUP_LIMIT_BYTES);
    Box::new(move |world| {
        drop(group);
        revive(world, node, true);
        world.record.unmute(node);
    })
}

/// What systemd does with an agent that has ended.
fn revive(world: &mut World, node: Node, may_have_ended: bool) {
    if !world.agent(node).is_alive() {
        world.record.died_agent(node, may_have_ended);
        world.servers[node].agent = None;
        world.start_agent(node);
    }
}

/// Sets a soft limit, by prlimit's name for it, and returns the old one. As the agent's user: even for root it takes
/// a privilege to reach the limits of others.
fn limit(node: Node, pid: u32, what: &str, soft: &str) -> String {
    let user = agent_user(node);
    let prlimit = format!("setpriv --reuid={user} --regid={user} --clear-groups prlimit --pid {pid}");
    let old = network::shell(&format!("{prlimit} --{what} --output SOFT --noheadings"));
    network::shell(&format!("{prlimit} --{what}={soft}:"));
    old.trim().to_owned()
}
