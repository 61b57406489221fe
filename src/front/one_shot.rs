//! One probe in a process that does nothing else: a fresh login, which proves the postmaster by itself.

use std::time::Instant;

use crate::config::{Config, Protocol};
use crate::gate::witnesses::Witnesses;
use crate::instance::{Failure, Needs, Observation, ProbeSettings, Prober};
use crate::monitor::RUNNER_STACK_BYTES;
use crate::panics;
use crate::peers::{News, PeerSettings};
use crate::reason::Reason;
use crate::system::own_name::OwnName;
use crate::system::slot::{Nothing, slot};
use crate::system::threads;
use crate::verdict::Target;

/// Looks at the instance for this target, and at what its peers make of it and whether a client could work: all are asked
/// at the same time but the commit, which comes last, and nothing is remembered. Returns by the deadline.
pub(super) fn check(
    config: &Config,
    target: Target,
    needs: Needs,
    arrived: Instant,
    deadline: Instant,
) -> (Observation, News) {
    let settings = PeerSettings::of(config, &OwnName::get().agent);
    check_with(config, settings, target, needs, arrived, deadline)
}

/// The same for somebody who has the time to wait for every peer.
pub(super) fn survey(config: &Config, target: Target, needs: Needs, arrived: Instant) -> (Observation, News) {
    let settings = PeerSettings::of(config, &OwnName::get().agent);
    let settings = PeerSettings { wait: config.timeout, ..settings };
    check_with(config, settings, target, needs, arrived, arrived + config.timeout)
}

fn check_with(
    config: &Config,
    settings: PeerSettings,
    target: Target,
    needs: Needs,
    arrived: Instant,
    deadline: Instant,
) -> (Observation, News) {
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
    let (giver, taker) = slot();
    witnesses.attend(target, summons, observation, move |observation, news| {
        giver.give((observation, news));
    });
    taker.take(None).unwrap_or_else(|_| {
        let failure = Failure::new(Reason::AgentOutOfResources, "weighing the others' words panicked");
        (Observation::failed(failure), News::none())
    })
}

/// Looks at the instance. Returns by the deadline; a probe that hangs is left behind, to end with the process.
fn look(config: &Config, needs: Needs, deadline: Instant) -> Observation {
    let mut prober = Prober::for_one_look(ProbeSettings::of(config));
    let stage = prober.stage();
    let (giver, taker) = slot();
    let probe = move || {
        let observation = panics::contain(|| {
            panics::trip("probe");
            prober.probe(needs, deadline, false)
        });
        match observation {
            Ok(observation) => giver.give(observation),
            // That nothing comes any more says enough.
            Err(_) => drop(giver),
        }
        // Closing the session waits for the server, and the process ends anyway.
        std::mem::forget(prober);
    };
    let spawned = threads::spawn("probe", RUNNER_STACK_BYTES, probe);
    if let Err(error) = spawned {
        let cause = format!("cannot start a thread: {error}");
        return Observation::failed(Failure::new(Reason::AgentOutOfResources, cause));
    }
    match taker.take(Some(deadline)) {
        Ok(observation) => observation,
        Err(Nothing::Never) => {
            Observation::failed(Failure::new(Reason::AgentOutOfResources, "the probe panicked"))
        }
        Err(Nothing::Late) => {
            stage.cut_short(stage.get().overdue(format_args!("after {:?}", config.timeout)))
        }
    }
}
