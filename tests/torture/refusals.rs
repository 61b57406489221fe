//! Logins that are refused, to the agent or to everybody, and sessions that are not left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use postgres::{Client, NoTls};

use crate::faults::Undo;
use crate::history::Node;
use crate::network::NODES;
use crate::plan::{LONGEST_HOLD_MS, Pest};
use crate::support::millis;
use crate::world::{PASSWORD, World};

/// More sessions than the server allows.
const SESSIONS_TO_FILL: usize = 40;

/// Between two hits of a pest.
const PEST_PAUSE_MS: u64 = 1;

/// What refuses the agent.
#[derive(Clone, Copy, Debug)]
pub enum Refuses {
    /// Its line has gone from pg_hba.conf.
    AgentInHba,
    /// pg_hba.conf lets nobody in but superusers. The server says to each what it says to the agent.
    EverybodyInHba,
    /// Its role has another password.
    Password,
    /// Its role may not log in.
    Login,
    /// Its role may have no session.
    ConnectionLimit,
}

impl Refuses {
    fn begin(self, world: &World, node: Node) {
        match self {
            Refuses::AgentInHba => world.admit_agent(node, false),
            Refuses::EverybodyInHba => world.reject_everybody(node),
            Refuses::Password => alter_role(world, "PASSWORD 'another'"),
            Refuses::Login => alter_role(world, "NOLOGIN"),
            Refuses::ConnectionLimit => alter_role(world, "CONNECTION LIMIT 0"),
        }
    }

    fn end(self, world: &World, node: Node) {
        match self {
            Refuses::AgentInHba | Refuses::EverybodyInHba => world.admit_agent(node, true),
            Refuses::Password => alter_role(world, &format!("PASSWORD '{PASSWORD}'")),
            Refuses::Login => alter_role(world, "LOGIN"),
            Refuses::ConnectionLimit => alter_role(world, "CONNECTION LIMIT -1"),
        }
    }

    /// Whose agents meet it.
    fn nodes(self, node: Node) -> Vec<Node> {
        match self {
            Refuses::AgentInHba | Refuses::EverybodyInHba | Refuses::Password => vec![node],
            Refuses::Login | Refuses::ConnectionLimit => NODES.to_vec(),
        }
    }
}

/// Roles are the primary's; a standby's agent meets the change when it has been replayed.
fn alter_role(world: &World, what: &str) {
    world.servers[world.primary].cluster.psql(&format!("ALTER ROLE pgsqlchk {what}"));
}

/// Refuses the agent. The session that it has may go on answering, unless it is ended.
pub fn refuse(world: &mut World, node: Node, what: Refuses, is_lost: bool) -> Undo {
    what.begin(world, node);
    if is_lost {
        what.nodes(node).into_iter().for_each(|node| world.terminate_sessions(node));
    }
    Box::new(move |world| what.end(world, node))
}

/// Takes every session that is not kept for superusers.
pub fn fill(world: &mut World, node: Node, is_lost: bool) -> Undo {
    let dsn = world.servers[node].cluster.dsn_of("filler");
    let mut held = Vec::new();
    for round in 0..2 {
        if round == 1 {
            if !is_lost {
                break;
            }
            world.terminate_sessions(node);
        }
        while held.len() < SESSIONS_TO_FILL {
            let Ok(client) = Client::connect(&dsn, NoTls) else { break };
            held.push(client);
        }
    }
    Box::new(move |_| drop(held))
}

/// From now on every new session ends with a FATAL, a superuser's too.
pub fn break_libraries(world: &mut World, node: Node) -> Undo {
    world.servers[node].cluster.configure(&[("session_preload_libraries", "no_such_library")]);
    assert!(!world.admits_client(node), "nobody loads what is not there");
    world.record.closed(node);
    Box::new(move |world| {
        world.record.opens(node);
        world.servers[node].cluster.configure(&[("session_preload_libraries", "")]);
    })
}

/// Everybody who logs in looks up roles. A standby replays the lock, some time later.
pub fn hang_logins(world: &mut World, node: Node) -> Undo {
    let mut owner = world.servers[node].cluster.connect();
    owner.batch_execute("BEGIN; LOCK TABLE pg_authid IN ACCESS EXCLUSIVE MODE").expect("lock pg_authid");
    world.record.closed(node);
    Box::new(move |world| {
        world.record.opens(node);
        owner.batch_execute("COMMIT").expect("unlock pg_authid");
    })
}

/// Hits the agent's sessions, all the time and for no longer than a fault lasts.
pub fn pester(world: &mut World, node: Node, pest: Pest) -> Undo {
    let function = match pest {
        Pest::Cancels => "pg_cancel_backend",
        Pest::Terminates => "pg_terminate_backend",
    };
    let sql = format!("SELECT {function}(pid) FROM pg_stat_activity WHERE application_name = 'pgsqlchk'");
    let mut administrator = world.servers[node].cluster.connect();
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let thread = thread::spawn(move || {
        for _ in 0..LONGEST_HOLD_MS / PEST_PAUSE_MS {
            if over.load(Ordering::Relaxed) || administrator.simple_query(&sql).is_err() {
                return;
            }
            thread::sleep(millis(PEST_PAUSE_MS));
        }
    });
    Box::new(move |_| {
        is_over.store(true, Ordering::Relaxed);
        thread.join().expect("the pest ends");
    })
}
