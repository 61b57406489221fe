//! Agents that know each other: each node's agent has all of them as peers, itself among them.

use std::fmt::Debug;
use std::time::Duration;

use serde_json::Value;

use super::{Agent, Cluster, free_port, millis};

/// The agents of a cluster that may not have been started yet.
pub struct Ring {
    ports: Vec<u16>,
}

impl Ring {
    /// Of so many nodes.
    pub fn of(nodes: usize) -> Ring {
        Ring { ports: (0..nodes).map(|_| free_port()).collect() }
    }

    /// Where the agent of this node is asked by the others.
    pub fn address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.ports[node])
    }

    /// The options by which all are named.
    pub fn peers(&self) -> Vec<String> {
        (0..self.ports.len()).map(|node| format!("--peer=http://{}", self.address(node))).collect()
    }

    /// All options by which the agent of this node is one of them.
    pub fn options(&self, node: usize) -> Vec<String> {
        [format!("--listen={}", self.address(node))].into_iter().chain(self.peers()).collect()
    }

    /// Starts the agent of this node.
    #[track_caller]
    pub fn start(&self, node: usize, server: &Cluster, options: &[&str]) -> Agent {
        let address = self.address(node);
        Agent::start_with(|command| {
            command.args(["--dsn", &server.dsn(), "--listen", &address]).args(self.peers()).args(options);
        })
    }
}

/// Status line and body of an answer.
pub fn said(agent: &Agent, path: &str) -> (String, String) {
    let reply = agent.get(path);
    (reply.line(), reply.body.trim_end().to_owned())
}

/// The status line alone.
pub fn line(agent: &Agent, path: &str) -> String {
    agent.get(path).line()
}

/// So long a check may have waited for peers in vain: they are told 200 ms, and answer then without what they have not
/// seen yet (src/peers.rs).
const LATE: Duration = millis(200);

/// What is said is this, unless a peer may have been late, as one may be on a busy machine: then it is asked for again,
/// four times at most.
#[track_caller]
pub fn assert_in_time<T: Debug + PartialEq<E>, E: Debug>(
    expected: E,
    mut ask: impl FnMut() -> (T, Duration),
) {
    for attempt in 1.. {
        let (said, elapsed) = ask();
        if said == expected {
            return;
        }
        assert!(elapsed >= LATE && attempt < 5, "{expected:?} is expected: {said:?} after {elapsed:?}");
    }
}

/// The status line of an answer, and how long it took.
pub fn timed_line(agent: &Agent, path: &str) -> (String, Duration) {
    let reply = agent.get(path);
    (reply.line(), reply.elapsed)
}

/// A document.
#[track_caller]
pub fn document(agent: &Agent, path: &str) -> Value {
    let reply = agent.get(path);
    assert_eq!(reply.line(), "200 OK", "{reply:?}");
    serde_json::from_str(&reply.body).unwrap_or_else(|error| panic!("{error}: {}", reply.body))
}
