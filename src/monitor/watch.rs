//! The watch: the thread that keeps everybody's deadline while a probe may hang.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::state::Due;
use super::{Shared, deliver};
use crate::instance::{Failure, Observation};
use crate::panics;
use crate::reason::Reason;
use crate::system::threads;

/// The watch formats a reply or two.
const WATCH_STACK_BYTES: usize = 128 * 1024;

/// For threads that call [`super::Monitor::run`]: room for the driver's login, its deepest part.
pub const RUNNER_STACK_BYTES: usize = if cfg!(feature = "tls") { 1024 } else { 256 } * 1024;

/// Starts the watch; it ends with the process.
pub(super) fn start(shared: Arc<Shared>) -> io::Result<()> {
    let watch = move || keep_watch(&shared);
    threads::spawn("watch", WATCH_STACK_BYTES, watch).map(drop)
}

fn keep_watch(shared: &Arc<Shared>) {
    loop {
        panics::trip("watch");
        let mut state = shared.lock();
        let now = Instant::now();
        let mut due = state.expire(now);
        let others = state.abandon_overdue(now);
        if others.is_some() || !due.is_empty() {
            due.extend(others.unwrap_or_default());
            // The prober that would have gone on with the next flight may just have been abandoned.
            let lacks_runner = state.lacks_runner();
            drop(state);
            if lacks_runner {
                // Behind the others: on a lane, a reply waits until those to earlier requests are written, and this
                // is the thread that writes them.
                due.extend(run_elsewhere(shared));
            }
            deliver(due);
            continue;
        }
        let until = state.next_look(now);
        state.watch_sleeps_until = until;
        let condvar = &shared.look_again;
        let state = match until {
            Some(until) => {
                let limit = until.saturating_duration_since(now);
                condvar.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0
            }
            None => condvar.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
        drop(state);
    }
}

/// A thread for the flight that waits behind an abandoned one; at times for one that a thread is about to begin, and
/// then it ends at once. Where none can be started, the answers that come of that.
fn run_elsewhere(shared: &Arc<Shared>) -> Due {
    let runner = Arc::clone(shared);
    let spawned = threads::spawn("runner", RUNNER_STACK_BYTES, move || {
        panics::trip("runner");
        runner.run();
    });
    let Err(error) = spawned else { return Due::new() };
    let mut state = shared.lock();
    let Some((flight, _)) = state.take_waiting() else { return Due::new() };
    let failure = Failure::new(Reason::AgentOutOfResources, format!("cannot start a thread: {error}"));
    state.settle(flight, Observation::failed(failure), Duration::ZERO)
}
