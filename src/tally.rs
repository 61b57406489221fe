//! What was counted since the process began, for `/metrics`.
//!
//! Owns numbers and nothing else: atomics in arrays of a fixed size, so that counting costs a check nothing one could
//! measure and no client can make them grow. The fronts, the gate and the monitor add; whoever answers `/metrics`
//! reads. A number alone is always right; two of them may be a moment apart.

mod clients;
mod probes;
mod requests;

use std::time::SystemTime;

pub use clients::{Clients, Refusal};
pub use probes::{BUCKETS_US, Outcome, ProbeCounts, Probes, Writing};
pub use requests::{RequestCounts, Requests};

use crate::system::process::ProcessFigures;

/// All counters of the process.
pub struct Tally {
    /// Replies given.
    pub requests: Requests,
    /// Looks at the instance.
    pub probes: Probes,
    /// Connections.
    pub clients: Clients,
    started: SystemTime,
}

/// The counters at one moment, and what the system says of the process.
pub struct Figures {
    /// Replies given, by path and code.
    pub requests: RequestCounts,
    /// Looks at the instance, by outcome and duration.
    pub probes: ProbeCounts,
    /// Clients connected now.
    pub connections: u64,
    /// Connections that got no answer, by the reason why.
    pub refused: [(Refusal, u64); Refusal::ALL.len()],
    /// When the process began, in seconds since 1970; `None` where the clock stands before that.
    pub started_unix_s: Option<f64>,
    /// What the system says of the process.
    pub process: ProcessFigures,
}

impl Tally {
    /// Nothing counted yet. Make it when the process begins: it also says when that was.
    pub fn new() -> Tally {
        Tally {
            requests: Requests::default(),
            probes: Probes::default(),
            clients: Clients::default(),
            started: SystemTime::now(),
        }
    }

    /// Everything as it is now. Reads small files of `/proc/self`.
    pub fn figures(&self) -> Figures {
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH);
        Figures {
            requests: self.requests.counts(),
            probes: self.probes.counts(),
            connections: self.clients.connected(),
            refused: self.clients.refused(),
            started_unix_s: started.ok().map(|since| since.as_secs_f64()),
            process: ProcessFigures::read(),
        }
    }
}

impl Default for Tally {
    fn default() -> Self {
        Tally::new()
    }
}
