//! Agents with a listener for HAProxy's agent-check, and a standby whose lag they can say.

use std::time::Instant;

use super::wire::{PATIENCE, Wire};
use super::{Agent, Cluster, eventually, millis, secs};

/// On a free port.
pub const AGENT_LISTEN: [&str; 2] = ["--agent-listen", "127.0.0.1:0"];

/// An agent of this server.
pub fn beside(cluster: &Cluster, args: &[&str]) -> Agent {
    Agent::start(&[&["--dsn", &cluster.dsn()], &AGENT_LISTEN[..], args].concat())
}

/// What it answers to a line.
pub fn ask(agent: &Agent, line: &str) -> String {
    for _ in 0..5 {
        let begun = Instant::now();
        let mut wire = Wire::connect(agent.agent_check_addr());
        wire.send(format!("{line}\n"));
        let sent = begun.elapsed();
        let text = wire.receive(PATIENCE).text();
        // Who says nothing for 100 ms gets another answer.
        if sent < millis(50) {
            return text;
        }
    }
    panic!("this machine cannot send a line at once");
}

/// Pauses the standby's replay and lets it receive so much more.
#[track_caller]
pub fn lag(primary: &Cluster, standby: &Cluster, bytes: u32) {
    standby.psql("SELECT pg_wal_replay_pause()");
    primary.psql(&format!("SELECT pg_logical_emit_message(false, 'lag', repeat('x', {bytes}))"));
    let written = primary.psql("SELECT pg_current_wal_flush_lsn()");
    let has_received = format!("SELECT pg_last_wal_receive_lsn() >= '{written}'");
    eventually(secs(20), "the standby receives", || standby.psql(&has_received) == "t");
}

/// The weight in `up ready N%`; 0 for any other line.
pub fn percent(line: &str) -> u32 {
    let number = line.strip_prefix("up ready ").and_then(|rest| rest.strip_suffix("%\n"));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
