//! One shared probe at a time, and everybody's own deadline.
//!
//! Owns: the current prober thread with its one session, the flight that runs, the flight that waits, and the
//! count of abandoned threads. A *flight* is one probe with all the requests that share it. A request joins the
//! flight that has not begun yet, never the running one: its answer could have been observed before the request
//! arrived.
//!
//! Nobody waits for a thread here: the `postgres` crate can block for ever, so whoever asks waits on a condition
//! variable until its own deadline. A prober that has been at one flight for the whole timeout is abandoned: it
//! loses its place to a new thread with a new session, and ends when the server or the network lets it go.

mod flight;
mod history;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::ConnectionSettings;
use crate::instance::{Failure, Needs, Observation, Prober};
use crate::reason::Reason;
use flight::Flight;
use history::History;

/// Threads that may hang in the server at once beside the current one. Each can hold one server connection.
const MAX_ABANDONED: usize = 4;

/// The prober runs the driver's login and little else; measured at under 40 KiB, the rest is reserve.
const PROBER_STACK_BYTES: usize = 256 * 1024;

/// Answers "what is the instance now?" for any number of threads.
#[derive(Clone)]
pub struct Monitor {
    shared: Arc<Shared>,
}

struct Shared {
    settings: ConnectionSettings,
    timeout: Duration,
    knock_interval: Duration,
    state: Mutex<State>,
    /// Signalled when a flight is settled or a place for a new prober becomes free.
    changed: Condvar,
}

struct State {
    prober: Option<SyncSender<Arc<Flight>>>,
    /// Tells the current prober from abandoned ones.
    prober_number: u64,
    running: Option<Arc<Flight>>,
    waiting: Option<Arc<Flight>>,
    abandoned: usize,
    /// When the last flight that failed was settled, and why it failed.
    last_failure: Option<(Instant, Reason)>,
    history: History,
}

impl Monitor {
    /// A monitor that has not connected yet. `timeout` is the deadline of one check; `knock_interval` zero
    /// turns the knock off.
    pub fn new(settings: ConnectionSettings, timeout: Duration, knock_interval: Duration) -> Monitor {
        let state = State {
            prober: None,
            prober_number: 0,
            running: None,
            waiting: None,
            abandoned: 0,
            last_failure: None,
            history: History::new(),
        };
        Monitor {
            shared: Arc::new(Shared {
                settings,
                timeout,
                knock_interval,
                state: Mutex::new(state),
                changed: Condvar::new(),
            }),
        }
    }

    /// What a probe sees that begins after this call. Returns by the deadline.
    pub fn observe(&self, needs: Needs, deadline: Instant) -> Observation {
        let shared = &self.shared;
        let mut state = shared.lock();
        let now = Instant::now();
        if now >= deadline {
            return Err(shared.give_up(&mut state, None, now));
        }
        let flight = state.join(needs);
        shared.launch(&mut state);
        loop {
            if let Some(outcome) = flight.outcome() {
                return outcome;
            }
            let now = Instant::now();
            shared.abandon_overdue(&mut state, now);
            if now >= deadline {
                return Err(shared.give_up(&mut state, Some(&flight), now));
            }
            let wake_at = match &state.running {
                Some(running) if !Arc::ptr_eq(running, &flight) => running.overdue_at(shared.timeout, now),
                _ => deadline,
            };
            // An overdue flight that may not be abandoned (yet) must not turn this wait into a busy loop.
            let wake_at = if wake_at <= now { deadline } else { wake_at.min(deadline) };
            state = shared
                .changed
                .wait_timeout(state, wake_at.duration_since(now))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl State {
    fn join(&mut self, needs: Needs) -> Arc<Flight> {
        let flight = self.waiting.get_or_insert_with(|| Arc::new(Flight::new()));
        flight.add_needs(needs);
        Arc::clone(flight)
    }
}

impl Shared {
    /// No code that can panic runs under the lock; if it does all the same, the state is still whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the waiting flight to the prober if that is free, starting one where there is none.
    fn launch(self: &Arc<Self>, state: &mut State) {
        if state.running.is_some() {
            return;
        }
        let Some(flight) = state.waiting.take() else { return };
        let prober = match state.prober.take() {
            Some(prober) => prober,
            None => match self.spawn_prober(state) {
                Ok(prober) => prober,
                Err(error) => {
                    let cause = format!("cannot start a thread: {error}");
                    self.settle(state, &flight, Err(Failure::new(Reason::AgentOutOfResources, cause)));
                    return;
                }
            },
        };
        flight.begin(Instant::now());
        // The channel holds one flight and the prober is idle, so this never blocks.
        if prober.send(Arc::clone(&flight)).is_ok() {
            state.prober = Some(prober);
            state.running = Some(flight);
        } else {
            self.settle(state, &flight, Err(Failure::new(Reason::AgentOutOfResources, "the prober is gone")));
        }
    }

    fn spawn_prober(self: &Arc<Self>, state: &mut State) -> std::io::Result<SyncSender<Arc<Flight>>> {
        state.prober_number += 1;
        let number = state.prober_number;
        let (sender, flights) = sync_channel(1);
        let shared = Arc::clone(self);
        thread::Builder::new()
            .name(format!("prober {number}"))
            .stack_size(PROBER_STACK_BYTES)
            .spawn(move || run_prober(&shared, number, &flights))?;
        Ok(sender)
    }

    fn settle(&self, state: &mut State, flight: &Flight, outcome: Observation) {
        let now = Instant::now();
        if let Err(failure) = &outcome {
            state.last_failure = Some((now, failure.reason));
        }
        state.history.record(&outcome, now);
        flight.settle(outcome);
        self.changed.notify_all();
    }

    /// Abandons a prober that has been at one flight for the whole timeout, and launches what waits behind it.
    /// A bounded stage ends by itself within moments and keeps its thread.
    fn abandon_overdue(self: &Arc<Self>, state: &mut State, now: Instant) {
        let is_overdue = |flight: &Arc<Flight>| flight.running_for(now) >= self.timeout;
        if let Some(flight) = state.running.clone().filter(is_overdue) {
            self.abandon(state, &flight);
            self.launch(state);
        }
    }

    fn abandon(&self, state: &mut State, flight: &Arc<Flight>) {
        let stage = flight.stage.get();
        if stage.is_bounded() || state.abandoned >= MAX_ABANDONED {
            return;
        }
        state.abandoned += 1;
        state.prober = None;
        state.running = None;
        let cause = format!("still {} after {:?}; session abandoned", stage.describe(), self.timeout);
        self.settle(state, flight, Err(Failure::new(stage.overdue_reason(), cause)));
    }

    /// The answer for a request whose deadline passed before its flight was settled, or before it had one.
    /// The reason is what it spent its time on: its own flight, or the one it had to wait for.
    fn give_up(self: &Arc<Self>, state: &mut State, flight: Option<&Arc<Flight>>, now: Instant) -> Failure {
        let mut suspects = flight.into_iter().chain(state.running.as_ref());
        let Some(culprit) = suspects.find(|suspect| suspect.running_for(now) >= self.timeout / 2).cloned()
        else {
            let recent = state.last_failure.filter(|(settled, _)| *settled + self.timeout / 2 >= now);
            let reason = recent.map_or(Reason::DeadlinePassed, |(_, reason)| reason);
            return Failure::new(reason, "the time went by waiting for an earlier probe");
        };
        let stage = culprit.stage.get();
        let cause = format!("still {} at the deadline", stage.describe());
        let failure = Failure::new(stage.overdue_reason(), cause);
        let is_running = state.running.as_ref().is_some_and(|running| Arc::ptr_eq(running, &culprit));
        // The request that started the flight arrived a moment before it: its deadline is the flight's.
        if is_running && culprit.running_for(now) >= self.timeout * 9 / 10 {
            state.history.record(&Err(failure.clone()), now);
            self.abandon(state, &culprit);
            self.launch(state);
        }
        failure
    }
}

fn run_prober(shared: &Arc<Shared>, number: u64, flights: &Receiver<Arc<Flight>>) {
    let mut prober = Prober::new(shared.settings.clone(), shared.timeout, shared.knock_interval);
    while let Ok(flight) = flights.recv() {
        let deadline = flight.overdue_at(shared.timeout, Instant::now());
        // The driver panics where it cannot have a descriptor; the thread and its session must survive that.
        let probe = AssertUnwindSafe(|| prober.probe(flight.needs(), deadline, &flight.stage));
        let outcome = catch_unwind(probe)
            .unwrap_or_else(|_| Err(Failure::new(Reason::AgentOutOfResources, "the probe panicked")));
        let mut state = shared.lock();
        if state.prober_number != number || state.prober.is_none() {
            break;
        }
        state.running = None;
        shared.settle(&mut state, &flight, outcome);
        shared.launch(&mut state);
    }
    // Closing the session waits for the server, so the place is free only afterwards.
    drop(prober);
    let mut state = shared.lock();
    state.abandoned = state.abandoned.saturating_sub(1);
    shared.changed.notify_all();
}
