//! Agents with a short deadline, and answers held against it.

use std::thread;
use std::time::{Duration, Instant};

use super::{Agent, Reply, eventually, millis, secs};

/// The deadline of the agents here.
pub const TIMEOUT: Duration = secs(1);
/// The agent may answer this much later than its deadline on a busy machine.
pub const SLACK: Duration = secs(1);

/// An agent with that deadline, and with knocks that are good for 100 ms.
#[track_caller]
pub fn agent(dsn: &str) -> Agent {
    Agent::start(&["--dsn", dsn, "--timeout", "1s", "--knock-interval", "100ms"])
}

/// Asks once and holds the answer against the deadline.
#[track_caller]
pub fn ask(agent: &Agent) -> Reply {
    let reply = agent.get("/");
    assert!(reply.elapsed < TIMEOUT + SLACK, "within the deadline: {reply:?}");
    reply
}

/// Asks until the answer changes from 200; the change has to come before a knock can have lost its worth twice.
#[track_caller]
pub fn first_failure(agent: &Agent) -> Reply {
    let began = Instant::now();
    loop {
        let asked = began.elapsed();
        let reply = ask(agent);
        if reply.line() != "200 Primary" {
            return reply;
        }
        assert!(asked < millis(500), "an old knock is believed: {reply:?}");
    }
}

/// Right again, and soon: a deadline after the cause is gone at the latest.
#[track_caller]
pub fn assert_heals(agent: &Agent) {
    eventually(TIMEOUT + SLACK, "the agent is right again by itself", || ask(agent).line() == "200 Primary");
}

/// One thread per case: most of them only wait for a deadline.
pub fn at_the_same_time<T: Send, const N: usize>(cases: [T; N], run: impl Fn(T) + Sync) {
    let run = &run;
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || run(case));
        }
    });
}

/// The agent notices within this time that a cause is gone; new attempts may be spaced.
const SPACED: Duration = secs(5);

/// Asks three times, for the second and third must not tell another story than the first.
#[track_caller]
pub fn assert_down(agent: &Agent, reason: &str) {
    for _ in 0..3 {
        let reply = agent.get("/");
        assert_eq!((reply.status, reply.body.as_str()), (503, format!("Down: {reason}\n").as_str()));
        assert_eq!(reply.reason, reason);
        assert!(reply.elapsed < secs(3), "within the deadline: {reply:?}");
    }
}

/// Right again by itself, without a restart of the agent.
#[track_caller]
pub fn assert_heals_soon(agent: &Agent) {
    eventually(SPACED, "the agent is right again by itself", || agent.get("/").line() == "200 Primary");
}
