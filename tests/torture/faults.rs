//! How each fault is done and undone.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::agents;
use crate::history::{Node, Role};
use crate::network::{self, NODES};
use crate::plan::{Fault, Memory, Other, Packets, Process, Seat, Step, Stop};
use crate::refusals::{self, Refuses};
use crate::splits;
use crate::stoppages;
use crate::support::process::status_number;
use crate::support::{Frozen, Signal, StopMode, eventually, millis, secs, signal};
use crate::ways;
use crate::world::{Server, World};

/// Ends a fault.
pub type Undo = Box<dyn FnOnce(&mut World)>;

/// So long an agent without a session rests after a refused login, once there were three, for each line that it leaves in
/// the server's log. docs/guarantees.md says so.
const REST_PER_LINE: Duration = Duration::from_millis(1100);

/// How often a session is looked for that does not end before it is frozen.
const TRIES: usize = 5;

/// What holds for less is to be over before anybody could have noticed for certain.
const SHORT: Duration = millis(500);

/// On which node a step happens: some faults concern only the agent that connects over TCP, or the other one.
pub fn place(step: &Step, world: &World) -> Node {
    match step.fault {
        Fault::Network(_) | Fault::NoDns | Fault::Password(_) | Fault::Moved => world.tcp_node,
        Fault::SocketGone | Fault::ClockStep(_) => world.clock_node(),
        // What a role may do is the primary's to say; so is who holds a lock.
        Fault::Failover(..)
        | Fault::Split(..)
        | Fault::NoLogin(_)
        | Fault::ConnectionLimit(_)
        | Fault::LoginsHang => world.primary,
        Fault::Down(_)
        | Fault::Restart(_)
        | Fault::KillBackend
        | Fault::TerminateSession
        | Fault::Freeze(_)
        | Fault::Full(_)
        | Fault::Refused(_)
        | Fault::RefusedAll(_)
        | Fault::Unloadable
        | Fault::Pestered(_)
        | Fault::DiskFull
        | Fault::LinkDown
        | Fault::Severed(..)
        | Fault::Posed(..)
        | Fault::HalfOpen
        | Fault::AgentFrozen
        | Fault::AgentRestart
        | Fault::AgentDescriptors
        | Fault::AgentThreads
        | Fault::AgentMemory(_)
        | Fault::WalFrozen
        | Fault::PoolerFrozen
        | Fault::PoolerKilled => match step.seat {
            Seat::Primary => world.primary,
            Seat::Standby => splits::other(world.primary, Other::Next),
            Seat::OtherStandby => splits::other(world.primary, Other::Last),
        },
    }
}

/// How long the agent may rest yet when the fault is over, and be without an answer: one line for a server that starts, stops
/// or is full, three where a role is not let in.
pub fn longest_rest(fault: Fault) -> Duration {
    match fault {
        Fault::Down(_)
        | Fault::Restart(_)
        | Fault::KillBackend
        | Fault::Failover(..)
        | Fault::Split(..)
        | Fault::DiskFull
        | Fault::Unloadable => REST_PER_LINE,
        _ => refusal_of_agent(fault).filter(|refusal| refusal.is_lost).map_or(Duration::ZERO, |it| it.rest),
    }
}

/// The same where it has a session, and answers all the time.
pub fn longest_rest_with_session(fault: Fault) -> Option<Duration> {
    refusal_of_agent(fault).filter(|refusal| !refusal.is_lost).map(|refusal| refusal.rest)
}

/// Logins that are refused for a reason which may concern the agent alone.
struct Refusal {
    /// Whether its session is ended, too.
    is_lost: bool,
    rest: Duration,
}

fn refusal_of_agent(fault: Fault) -> Option<Refusal> {
    let (is_lost, lines) = match fault {
        Fault::Refused(is_lost)
        | Fault::RefusedAll(is_lost)
        | Fault::Password(is_lost)
        | Fault::NoLogin(is_lost) => (is_lost, 3),
        Fault::Full(is_lost) | Fault::ConnectionLimit(is_lost) => (is_lost, 1),
        _ => return None,
    };
    Some(Refusal { is_lost, rest: lines * REST_PER_LINE })
}

/// Whose answers it may touch.
pub fn troubled(fault: Fault, node: Node) -> Vec<Node> {
    match fault {
        Fault::Failover(..)
        | Fault::Split(..)
        | Fault::NoLogin(_)
        | Fault::ConnectionLimit(_)
        | Fault::LoginsHang => NODES.to_vec(),
        // Nothing that an agent hears, or does not hear, of others makes its own answer another one.
        Fault::Severed(..) | Fault::Posed(..) => Vec::new(),
        _ => vec![node],
    }
}

/// Begins a fault.
pub fn begin(world: &mut World, fault: Fault, node: Node) -> Undo {
    let role = world.role(node);
    match fault {
        Fault::Down(stop) => down(world, node, stop),
        Fault::Restart(stop) => {
            halt(world, node, stop);
            world.start(node, role);
            nothing()
        }
        Fault::KillBackend => {
            let pids = world.servers[node].cluster.backend_pids("pgsqlchk");
            pids.into_iter().for_each(|pid| signal(pid, Signal::KILL));
            nothing()
        }
        Fault::TerminateSession => {
            world.terminate_sessions(node);
            world.terminate_writing_sessions(node);
            nothing()
        }
        Fault::Freeze(process) => freeze(world, node, process),
        Fault::Failover(stop, heir) => splits::fail_over(world, stop, heir),
        Fault::Split(split, heir, meanwhile) => splits::split(world, split, heir, meanwhile),
        Fault::Severed(way, other) => ways::sever(world, way, node, splits::other(node, other)),
        Fault::Posed(guise, other) => ways::pose(world, guise, node, splits::other(node, other)),
        Fault::Full(is_lost) => refusals::fill(world, node, is_lost),
        Fault::Refused(is_lost) => refusals::refuse(world, node, Refuses::AgentInHba, is_lost),
        Fault::RefusedAll(is_lost) => refusals::refuse(world, node, Refuses::EverybodyInHba, is_lost),
        Fault::Password(is_lost) => refusals::refuse(world, node, Refuses::Password, is_lost),
        Fault::NoLogin(is_lost) => refusals::refuse(world, node, Refuses::Login, is_lost),
        Fault::ConnectionLimit(is_lost) => refusals::refuse(world, node, Refuses::ConnectionLimit, is_lost),
        Fault::Unloadable => refusals::break_libraries(world, node),
        Fault::LoginsHang => refusals::hang_logins(world, node),
        Fault::Pestered(pest) => refusals::pester(world, node, pest),
        Fault::Moved => {
            // A standby's address leads to the primary, and the primary's to a standby.
            let is_primary = node == world.primary;
            let there = if is_primary { splits::other(node, Other::Next) } else { world.primary };
            let [own, port] = [node, there].map(|node| world.servers[node].cluster.port());
            world.record.moves(node, there);
            network::divert(node, own, Some((there, port)));
            let role = world.role(there);
            assert!(world.proves(node, role), "a new session on the agent's way meets the {role:?}");
            world.record.has_moved(node);
            Box::new(move |world| {
                world.record.moves_back(node);
                network::divert(node, own, None);
                world.record.moved_back(node);
            })
        }
        Fault::SocketGone => {
            let socket = world.servers[node].cluster.socket_path();
            let hidden = socket.with_extension("hidden");
            world.record.cuts_off(node);
            fs::rename(&socket, &hidden).expect("hide the socket");
            Box::new(move |world| {
                fs::rename(&hidden, &socket).expect("put the socket back");
                world.record.rejoined(node);
            })
        }
        Fault::DiskFull => fill_disk(world, node),
        Fault::Network(packets) => {
            let verdict = match packets {
                Packets::Dropped => "drop",
                Packets::Rejected => "reject",
                Packets::Reset => "reject with tcp reset",
            };
            world.record.cuts_off(node);
            network::filter(node, world.servers[node].cluster.port(), Some(verdict));
            Box::new(move |world| {
                network::filter(node, 0, None);
                world.record.rejoined(node);
            })
        }
        Fault::LinkDown => {
            world.record.mute(node);
            network::link(node, false);
            Box::new(move |world| {
                network::link(node, true);
                world.record.unmute(node);
            })
        }
        Fault::HalfOpen => agents::vanish(node),
        Fault::AgentFrozen => agents::freeze_agent(world, node),
        Fault::AgentRestart => agents::restart_agent(world, node),
        Fault::AgentDescriptors => {
            // Not below what it has: poll(2) takes no more entries than the limit allows descriptors.
            let count = world.agent(node).descriptors();
            agents::deprive(world, node, "nofile", &count.to_string())
        }
        Fault::NoDns => {
            world.record.cuts_off(node);
            world.names.set_silent(true);
            world.terminate_sessions(node);
            Box::new(move |world| {
                world.names.set_silent(false);
                world.record.rejoined(node);
            })
        }
        Fault::ClockStep(seconds) => {
            world.clock.step(seconds);
            let seen =
                world.servers[node].cluster.psql("SELECT extract(epoch FROM clock_timestamp())::bigint");
            let real = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs();
            let off = seen.parse::<i64>().expect("a time") - i64::try_from(real).expect("a time");
            assert!((off - i64::from(seconds)).abs() <= 2, "the clock is {off} s off, not {seconds} s");
            Box::new(|world| world.clock.step(0))
        }
        Fault::AgentThreads => {
            // Only a session that is given up needs a new thread.
            let thaw = freeze(world, node, Process::Session);
            let restore = agents::deprive(world, node, "nproc", "0");
            Box::new(move |world| {
                restore(world);
                thaw(world);
            })
        }
        Fault::AgentMemory(memory) => {
            let pid = world.agent(node).pid();
            let now = |figure| (status_number(pid, figure) * 1024).to_string();
            let restore = match memory {
                Memory::AddressSpace => agents::deprive(world, node, "as", &now("VmSize")),
                Memory::Data => agents::deprive(world, node, "data", &now("VmData")),
                Memory::Group => agents::confine(world, node),
            };
            // A new session wants memory.
            world.terminate_sessions(node);
            restore
        }
        Fault::WalFrozen => stoppages::freeze_wal(world, node),
        Fault::PoolerFrozen => stoppages::freeze_pooler(world, node),
        Fault::PoolerKilled => stoppages::kill_pooler(world, node),
    }
}

fn nothing() -> Undo {
    Box::new(|_| {})
}

/// Stops PostgreSQL.
pub fn halt(world: &mut World, node: Node, stop: Stop) {
    match stop {
        // Nobody leaves: what comes then is what an administrator does next.
        Stop::Smart => {
            signal(world.servers[node].cluster.postmaster_pid(), Signal::TERM);
            world.stop(node, StopMode::Fast);
        }
        Stop::Fast => world.stop(node, StopMode::Fast),
        Stop::Immediate => world.stop(node, StopMode::Immediate),
        Stop::Kill => world.kill(node),
    }
}

fn down(world: &mut World, node: Node, stop: Stop) -> Undo {
    if stop == Stop::Smart {
        return go_down_smartly(world, node);
    }
    halt(world, node, stop);
    Box::new(move |world| world.start(node, world.role(node)))
}

/// A client's session stays, and its server with it; nobody else is let in any more.
fn go_down_smartly(world: &mut World, node: Node) -> Undo {
    let cluster = &world.servers[node].cluster;
    let client = cluster.connect();
    signal(cluster.postmaster_pid(), Signal::TERM);
    eventually(secs(5), "new clients are refused", || !world.admits_client(node));
    world.record.closed(node);
    Box::new(move |world| {
        world.record.opens(node);
        world.stop(node, StopMode::Fast);
        drop(client);
        world.start(node, world.role(node));
    })
}

fn freeze(world: &mut World, node: Node, process: Process) -> Undo {
    let cluster = &world.servers[node].cluster;
    // What is found may be about to end: an agent logs in anew all the time.
    let worker = |kind: &str| {
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE backend_type = '{kind}'");
        cluster.psql(&sql).parse::<u32>().ok().and_then(Frozen::unless_gone)
    };
    let newest = || cluster.backend_pids("pgsqlchk").into_iter().next_back();
    let session = || (0..TRIES).find_map(|_| newest().and_then(Frozen::unless_gone));
    let (child, is_postmaster) = match process {
        Process::Postmaster => (None, true),
        Process::Session => (session(), false),
        Process::WalReceiver if world.role(node) == Role::Standby => (worker("walreceiver"), false),
        Process::WalReceiver => (worker("walwriter"), false),
        Process::Checkpointer => (worker("checkpointer"), false),
        Process::Both => (session(), true),
    };
    let mut frozen: Vec<Frozen> = child.into_iter().collect();
    if is_postmaster {
        frozen.push(Frozen::new(cluster.postmaster_pid()));
        world.record.froze(node);
    }
    Box::new(move |world| {
        if is_postmaster {
            world.record.thaws(node);
        }
        drop(frozen);
    })
}

fn fill_disk(world: &World, node: Node) -> Undo {
    let Server { cluster, disk, .. } = &world.servers[node];
    let ballasts = [cluster.socket_dir().join("ballast"), disk.ballast()];
    for path in &ballasts {
        network::shell(&format!("cat /dev/zero >{} 2>/dev/null || true", path.display()));
    }
    // Something to write: segments that are recycled would hide the shortage for long.
    let load =
        "INSERT INTO load SELECT repeat('x', 1000) FROM generate_series(1, 20000); SELECT pg_switch_wal()";
    let _ = world.servers[world.primary].cluster.try_psql(load);
    Box::new(move |world| {
        ballasts.iter().for_each(|path| fs::remove_file(path).expect("remove the ballast"));
        let primary = &world.servers[world.primary].cluster;
        let _ = primary.try_psql("TRUNCATE load");
    })
}

/// How long a step goes on: faults that are over at once need no time, and what is to prove something needs it.
pub fn hold(step: &Step) -> Duration {
    match step.fault {
        Fault::Restart(_) | Fault::KillBackend | Fault::TerminateSession => Duration::ZERO,
        Fault::WalFrozen | Fault::PoolerFrozen | Fault::PoolerKilled if step.hold >= SHORT => {
            step.hold + stoppages::RIPENING
        }
        _ => step.hold,
    }
}
