//! One probe in a process that does nothing else: a fresh login, which proves the postmaster by itself.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

use crate::config::{Config, Protocol};
use crate::gate::witnesses::Witnesses;
use crate::instance::{Failure, Needs, Observation, ProbeSettings, Prober};
use crate::monitor::RUNNER_STACK_BYTES;
use crate::panics;
use crate::peers::{News, PeerSettings};
use crate::reason::Reason;
use crate::system::own_name::OwnName;
use crate::verdict::Target;

/// Looks at the instance for this target, and at what its peers make of it and whether a client could work: all are asked
/// at the same time but the commit, which comes last, and nothing is remembered. Returns by the deadline.
pub(super) fn check(config: &Config, target: Target, needs: Needs, arrived: Instant) -> (Observation, News) {
    check_with(config, PeerSettings::of(config, &OwnName::get().agent), target, needs, arrived)
}

/// The same for somebody who has the time to wait for every peer.
pub(super) fn survey(config: &Config, target: Target, needs: Needs, arrived: Instant) -> (Observation, News) {
    let settings = PeerSettings::of(config, &OwnName::get().agent);
    check_with(config, PeerSettings { wait: config.timeout, ..settings }, target, needs, arrived)
}

fn check_with(
    config: &Config,
    settings: PeerSettings,
    target: Target,
    needs: Needs,
    arrived: Instant,
) -> (Observation, News) {
    let deadline = arrived + config.timeout;
    let witnesses = match Witnesses::for_one(config, settings, target) {
        Ok(Some(witnesses)) => witnesses,
        Ok(None) => return (look(config, needs, deadline), News::none()),
        Err(error) => {
            let cause = format!("cannot start a thread: {error}");
            let failure = Failure::new(Reason::AgentOutOfResources, cause);
            return (Observation::failed(failure), News::none());
        }
    };
    let summons = witnesses.call(Protocol::Http, target, arrived);
    let observation = look(config, needs, deadline);
    let (sender, receiver) = channel();
    witnesses.attend(target, summons, observation, move |observation, news| {
        // Who receives it waits below.
        let _ = sender.send((observation, news));
    });
    receiver.recv().unwrap_or_else(|_| {
        let failure = Failure::new(Reason::AgentOutOfResources, "weighing the others' words panicked");
        (Observation::failed(failure), News::none())
    })
}

/// Looks at the instance. Returns by the deadline; a probe that hangs is left behind, to end with the process.
fn look(config: &Config, needs: Needs, deadline: Instant) -> Observation {
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
