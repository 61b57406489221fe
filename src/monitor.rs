//! One shared probe at a time, and everybody's own deadline.
//!
//! Owns: the prober with its one session, the flight that runs, the callers and their deadlines, and the count of
//! abandoned sessions. A *flight* is one probe with all the callers that share it. A caller joins the flight that
//! has not begun yet, never the running one: its answer could have been observed before the caller's request
//! arrived.
//!
//! No thread waits for another here. Whoever calls [`Monitor::park`] leaves its question, and whoever calls
//! [`Monitor::run`] while no flight runs does the probe itself, on its own thread, and answers. As the `postgres`
//! crate can block for ever, the watch (`monitor/watch.rs`) answers those whose deadline passes, and abandons a prober
//! that has been at one flight for the whole timeout: its thread ends the probe when the server or the network
//! lets it go, and the next flight gets a new session.

mod chronicle;
mod damper;
mod history;
mod privilege;
mod replay;
mod state;
mod watch;

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use crate::instance::advice::advice;
use crate::instance::{Failure, Needs, Observation, ProbeSettings, Prober, Retired};
use crate::panics;
use crate::reason::Reason;
use crate::tally::Tally;
pub use chronicle::{Change, Chronicle, LAG_BUCKET, LAG_BUCKETS, LagSample, MAX_TRANSITIONS, Transition};
pub use history::Condition;
use state::{Caller, Due, Running, State};
pub use watch::RUNNER_STACK_BYTES;

/// Sessions that may hang in the server at once, beside the current one: in a login, a query, or while they are closed.
const MAX_ABANDONED: usize = 4;

/// Threads that may hang in [`Monitor::run`] at once: in an abandoned flight or closing a session, in the current one, and
/// looking for the drain file. A pool that must always have one free needs one more.
pub const MAX_HANGING: usize = MAX_ABANDONED + 2;

/// What to do with an observation: called once, on any thread, never under a lock of the monitor's.
pub type Answer = Box<dyn FnOnce(Observation) + Send>;

/// Answers "what is the instance now?" for any number of callers.
#[derive(Clone)]
pub struct Monitor {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Mutex<Arc<ProbeSettings>>,
    state: Mutex<State>,
    /// Signalled when the watch has to look again before the time it said it would.
    look_again: Condvar,
}

impl Monitor {
    /// A monitor that has not connected yet; it counts its probes. Fails where its thread cannot be started.
    pub fn start(settings: ProbeSettings, tally: Arc<Tally>) -> io::Result<Monitor> {
        let state = Mutex::new(State::new(settings.timeout, tally));
        let settings = Mutex::new(Arc::new(settings));
        let shared = Arc::new(Shared { settings, state, look_again: Condvar::new() });
        watch::start(Arc::clone(&shared))?;
        Ok(Monitor { shared })
    }

    /// Looks that begin after this call follow these settings.
    pub fn adopt(&self, settings: ProbeSettings) {
        let settings = Arc::new(settings);
        let mut in_force = self.shared.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *in_force, Arc::clone(&settings));
        drop(in_force);
        let mut state = self.shared.lock();
        if before.connection != settings.connection {
            state.history.forget_instance();
        }
        state.adopt(&settings);
    }

    /// Leaves a question. `answer` gets what a probe saw that began after this call, or a failure at `deadline`.
    /// Somebody has to call [`Monitor::run`] afterwards.
    pub fn park(&self, needs: Needs, deadline: Instant, answer: Answer) {
        let mut state = self.shared.lock();
        if state.park(needs, deadline, answer) {
            self.shared.look_again.notify_one();
        }
    }

    /// What is remembered now. Not to be called by whoever holds the monitor's lock, so never by the monitor itself.
    pub fn chronicle(&self) -> Chronicle {
        self.shared.lock().history.chronicle(Instant::now())
    }

    /// Does the probes that wait, unless another thread is at it. Can hang for as long as the server pleases.
    pub fn run(&self) {
        self.shared.run();
    }
}

impl Shared {
    /// No code that can panic runs under the lock; if it does all the same, the state is still whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> Arc<ProbeSettings> {
        Arc::clone(&self.settings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn run(&self) {
        self.look_for_drain();
        loop {
            self.rest();
            let mut state = self.lock();
            let Some((flight, needs)) = state.take_waiting() else { return };
            let may_log_in_anew = state.may_hang_once_more();
            panics::trip("run");
            let settings = self.settings();
            let mut prober =
                state.prober.take().unwrap_or_else(|| Box::new(Prober::new(Arc::clone(&settings))));
            prober.adopt(&settings);
            let (begun, stage) = (Instant::now(), prober.stage());
            stage.restart();
            state.running = Some(Running { flight, begun, timeout: settings.timeout, stage });
            drop(state);

            // The driver panics where it cannot have a descriptor.
            let probe = panics::contain(|| {
                panics::trip("probe");
                prober.probe(needs, begun + settings.timeout, may_log_in_anew)
            });
            let mut outcome = probe.unwrap_or_else(|_| {
                // Nobody knows what its session would answer next.
                prober.forget_session();
                Observation::failed(Failure::new(Reason::AgentOutOfResources, "the probe panicked"))
            });

            self.advise(&mut outcome, &settings);
            privilege::notice(&outcome, &settings.connection.user);
            let retired = prober.take_retired();
            let mut state = self.lock();
            if state.running.as_ref().is_none_or(|running| running.flight != flight) {
                drop(state);
                drop(retired);
                self.bury(prober);
                continue;
            }
            state.running = None;
            state.prober = Some(prober);
            let due = state.settle(flight, outcome, begun.elapsed());
            state.closing += usize::from(!retired.is_empty());
            drop(state);
            deliver(due);
            self.close(retired);
        }
    }

    /// Adds what to type, where this failure will be a line in the log. That looks at files and accounts, so not under the
    /// lock.
    fn advise(&self, outcome: &mut Observation, settings: &ProbeSettings) {
        if outcome.failure().is_none() || !self.lock().history.is_news(outcome) {
            return;
        }
        if let Some(Err(failure)) = &mut outcome.instance {
            let os_user = whoami::username().ok();
            let told = advice(failure, &settings.connection, os_user.as_deref());
            failure.advice = told.map(|told| told.replace(char::is_control, " "));
        }
    }

    /// Closes sessions that are not asked any more, after everybody has the answer. They were counted before.
    fn close(&self, retired: Retired) {
        if !retired.is_empty() {
            drop(retired);
            self.lock().closing -= 1;
        }
    }

    /// Sleeps while another login would only be refused once more.
    fn rest(&self) {
        let now = Instant::now();
        let Some(until) = self.lock().begin_rest(now) else { return };
        thread::sleep(until.saturating_duration_since(now));
        self.lock().is_resting = false;
    }

    /// Nobody who only has to know that the node drains waits for an instance that others ask.
    fn look_for_drain(&self) {
        loop {
            let Some(until) = self.lock().begin_drain_look() else { return };
            let drain = self.settings().look_for_drain(log::Level::Warn);
            let due = self.lock().end_drain_look(until, drain);
            deliver(due);
        }
    }

    /// The end of an abandoned prober. Closing its session waits for the server, so its place is free only then.
    fn bury(&self, prober: Box<Prober>) {
        drop(prober);
        self.lock().bury();
        self.look_again.notify_one();
    }
}

/// One answer that panics must not take the others with it.
fn deliver(due: Due) {
    for (Caller { answer, .. }, outcome) in due {
        let _ = panics::contain(|| answer(outcome));
    }
}
