//! One probe in a process that does nothing else: a fresh login, which proves the postmaster by itself.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

use crate::config::Config;
use crate::instance::{Failure, Needs, Observation, ProbeSettings, Prober};
use crate::monitor::RUNNER_STACK_BYTES;
use crate::panics;
use crate::reason::Reason;

/// Looks at the instance. Returns by the deadline; a probe that hangs is left behind, to end with the process.
pub(super) fn look(config: &Config, needs: Needs, deadline: Instant) -> Observation {
    let mut prober = Prober::for_one_look(ProbeSettings::of(config));
    let stage = prober.stage();
    let (sender, receiver) = channel();
    let probe = move || {
        let observation = panics::contain(|| {
            panics::trip("probe");
            prober.probe(needs, deadline, false)
        });
        match observation {
            Ok(observation) => drop(sender.send(observation)),
            // That nothing comes any more says enough.
            Err(_) => drop(sender),
        }
        // Closing the session waits for the server, and the process ends anyway.
        std::mem::forget(prober);
    };
    let spawned = thread::Builder::new().name("probe".into()).stack_size(RUNNER_STACK_BYTES).spawn(probe);
    if let Err(error) = spawned {
        let cause = format!("cannot start a thread: {error}");
        return Observation::failed(Failure::new(Reason::AgentOutOfResources, cause));
    }
    match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(observation) => observation,
        Err(RecvTimeoutError::Disconnected) => {
            Observation::failed(Failure::new(Reason::AgentOutOfResources, "the probe panicked"))
        }
        Err(RecvTimeoutError::Timeout) => {
            stage.cut_short(stage.get().overdue(format_args!("after {:?}", config.timeout)))
        }
    }
}
