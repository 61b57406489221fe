//! What it costs to know other agents: a check that finds their news fresh enough, and one that has to ask.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::client::{PATIENCE, buffer, exchange, timed};
use crate::report::{heading, median, say, timing_row};
use crate::support::{Agent, Cluster, eventually, http};

/// A peer's answer is older than the shortest interval after this.
const PAUSE: Duration = Duration::from_millis(12);

const CHECK: &str = "OPTIONS /primary HTTP/1.0\r\n\r\n";

/// The agents, each with what is aimed at.
const ROWS: [(&str, &str); 3] = [
    ("/primary without peers", "the unit"),
    ("/primary with a peer whose news is fresh", "at most 1.05"),
    ("/primary that asks a peer on this machine", "at most 2.00"),
];

/// One check of each, in turns, so many times: back to back where nobody is asked, then with pauses in which news gets old.
pub fn measure(turns: usize, title: &str) {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let witness = Agent::start(&["--dsn", &standby.dsn()]);
    let peer = witness.addr().to_string();
    let with_peer = |interval| {
        Agent::start(&[
            "--dsn",
            &primary.dsn(),
            "--peer",
            &peer,
            "--min-peers",
            "1",
            "--peer-interval",
            interval,
        ])
    };
    let agents = [Agent::start(&["--dsn", &primary.dsn()]), with_peer("1h"), with_peer("10ms")];
    for agent in &agents {
        let is_heard = || http::get(agent.addr(), "/primary").is_ok_and(|reply| reply.status == 200);
        eventually(PATIENCE, "the peer is heard", is_heard);
    }
    heading(&format!("agents that know each other, {title}"));
    let [alone, fresh, asking] = [0, 1, 2].map(|agent| (agents[agent].addr(), ROWS[agent]));
    print([alone, fresh], turns, Duration::ZERO);
    print([alone, asking], turns / 10, PAUSE);
    say("");
}

/// Checks of the agents in turns, each with its name and what is aimed at; the first one is the unit.
pub fn print<const COUNT: usize>(agents: [(SocketAddr, (&str, &str)); COUNT], turns: usize, pause: Duration) {
    let mut buffer = buffer();
    let mut timings = [(); COUNT].map(|()| Vec::with_capacity(turns));
    for turn in 0..turns + turns / 10 {
        for ((addr, _), timings) in agents.iter().zip(&mut timings) {
            if pause.is_zero() {
                // Once more than is timed, for the caches.
                exchange(*addr, CHECK, "200", &mut buffer);
            } else {
                thread::sleep(pause);
            }
            let took = timed(|| exchange(*addr, CHECK, "200", &mut buffer));
            if turn >= turns / 10 {
                timings.push(took);
            }
        }
    }
    let unit = median(&mut timings[0]);
    for ((_, (name, goal)), timings) in agents.iter().zip(&mut timings) {
        timing_row(name, timings, unit, goal);
    }
}
