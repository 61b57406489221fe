//! The threads that ask, and the requests that wait for them.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::ask::Asker;
use super::seat::Seat;
use super::{News, PeerSettings};
use crate::config::PeerAddress;
use crate::monitor::RUNNER_STACK_BYTES;
use crate::panics;

/// Requests keep their order among those of one queue: their replies travel over one lane, where a later one cannot be
/// written before an earlier one is. There is one for each lane.
const QUEUES: usize = 4;

/// All peers.
#[derive(Clone)]
pub struct Circle {
    shared: Arc<Shared>,
}

/// A request that has called its peers.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// What was asked before is too old.
    need: Instant,
    /// Until when it would wait.
    limit: Instant,
}

impl Call {
    /// For who needs no news.
    pub fn none() -> Call {
        let now = Instant::now();
        Call { need: now, limit: now }
    }
}

struct Shared {
    agent: String,
    interval: Duration,
    wait: Duration,
    state: Mutex<State>,
    /// Signalled where a peer is to be asked.
    is_wanted: Condvar,
    /// Signalled where somebody waits.
    is_awaited: Condvar,
}

struct State {
    seats: Vec<Seat>,
    parked: [VecDeque<Parked>; QUEUES],
    /// Whether the log has been told that all peers are ourselves.
    has_told_all_self: bool,
}

/// A request that has its look, and waits for its peers or behind one that does.
struct Parked {
    call: Call,
    /// `false`: it only keeps its place.
    is_waiting: bool,
    then: Then,
}

type Then = Box<dyn FnOnce(News) + Send>;

impl Circle {
    /// Starts a thread for each peer, and one that keeps the limits of who waits. Fails where one cannot be started.
    pub fn start(settings: &PeerSettings) -> io::Result<Circle> {
        let seats = settings.peers.iter().map(|peer| Seat::new(peer.to_string())).collect();
        let shared = Arc::new(Shared {
            agent: settings.agent.clone(),
            interval: settings.interval,
            wait: settings.wait,
            state: Mutex::new(State { seats, parked: Default::default(), has_told_all_self: false }),
            is_wanted: Condvar::new(),
            is_awaited: Condvar::new(),
        });
        for (number, peer) in settings.peers.iter().enumerate() {
            let (shared, peer, timeout) = (Arc::clone(&shared), peer.clone(), settings.timeout);
            spawn(format!("peer {number}"), move || keep_asking(&shared, number, &peer, timeout))?;
        }
        let limits = Arc::clone(&shared);
        spawn("peers".into(), move || keep_limits(&limits))?;
        Ok(Circle { shared })
    }

    /// A request has arrived: has those asked whose last answer would be too old for it.
    pub fn call(&self, arrived: Instant) -> Call {
        let need = arrived.checked_sub(self.shared.interval).unwrap_or(arrived);
        let now = Instant::now();
        let mut state = self.shared.lock();
        let mut is_any_wanted = false;
        for seat in &mut state.seats {
            is_any_wanted |= seat.want(need, now);
        }
        drop(state);
        if is_any_wanted {
            self.shared.is_wanted.notify_all();
        }
        Call { need, limit: now + self.shared.wait }
    }

    /// The request has its look, and `then` gets the news: now, unless it is to wait for peers that still owe an answer, or
    /// one before it in its queue does. Never blocks for a peer.
    pub fn attend(&self, queue: usize, call: Call, is_waiting: bool, then: Then) {
        let shared = &self.shared;
        let now = Instant::now();
        let mut state = shared.lock();
        let is_free = state.parked[queue].is_empty();
        if is_free && (!is_waiting || state.is_settled(call, now, shared.wait)) {
            let news = state.news(call, now);
            drop(state);
            return then(news);
        }
        state.parked[queue].push_back(Parked { call, is_waiting, then });
        drop(state);
        shared.is_awaited.notify_one();
    }
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name).stack_size(RUNNER_STACK_BYTES).spawn(work).map(drop)
}

/// The life of one peer's thread.
fn keep_asking(shared: &Shared, number: usize, peer: &PeerAddress, timeout: Duration) {
    let asker = Asker::new(peer, timeout);
    let mut has_answered = None;
    loop {
        let mut state = shared.lock();
        while !state.seats[number].begin(Instant::now()) {
            state = shared.is_wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        let outcome = panics::contain(|| {
            panics::trip("asking a peer");
            asker.ask()
        });
        let outcome = outcome.unwrap_or_else(|_| Err("the question panicked".into()));
        if has_answered.replace(outcome.is_ok()) != Some(outcome.is_ok()) {
            match &outcome {
                Ok(_) => log::info!(target: "pgsqlchk", "peer {peer} answers"),
                Err(why) => log::info!(target: "pgsqlchk", "peer {peer} does not answer: {why}"),
            }
        }
        let now = Instant::now();
        let mut state = shared.lock();
        state.seats[number].end(outcome.map_err(drop), &shared.agent, now, SystemTime::now());
        state.warn_where_all_are_ourselves(now);
        let due = state.take_due(now, shared.wait);
        drop(state);
        deliver(due);
    }
}

/// Answers those whose limit is over.
fn keep_limits(shared: &Shared) {
    loop {
        panics::trip("peers");
        let mut state = shared.lock();
        let now = Instant::now();
        let due = state.take_due(now, shared.wait);
        if !due.is_empty() {
            drop(state);
            deliver(due);
            continue;
        }
        let limits = state.parked.iter().flatten().map(|parked| parked.call.limit);
        let state = match limits.min() {
            Some(limit) => {
                let rest = limit.saturating_duration_since(now);
                shared.is_awaited.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0
            }
            None => shared.is_awaited.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
        drop(state);
    }
}

fn deliver(due: Vec<(Parked, News)>) {
    for (Parked { then, .. }, news) in due {
        let _ = panics::contain(|| then(news));
    }
}

impl Shared {
    /// No code that can panic runs under the lock; if it does all the same, the state is still whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_settled(&self, call: Call, now: Instant, wait: Duration) -> bool {
        now >= call.limit || self.seats.iter().all(|seat| seat.is_settled(call.need, now, wait))
    }

    fn news(&self, call: Call, now: Instant) -> News {
        News { peers: self.seats.iter().map(|seat| seat.news(call.need, now)).collect() }
    }

    /// Those at the front of their queues that need not wait.
    fn take_due(&mut self, now: Instant, wait: Duration) -> Vec<(Parked, News)> {
        let mut due = Vec::new();
        for queue in 0..QUEUES {
            while let Some(parked) = self.parked[queue].front()
                && (!parked.is_waiting || self.is_settled(parked.call, now, wait))
            {
                let news = self.news(parked.call, now);
                due.extend(self.parked[queue].pop_front().map(|parked| (parked, news)));
            }
        }
        due
    }

    /// One configuration for all nodes names them all; one that names nobody else is a mistake.
    fn warn_where_all_are_ourselves(&mut self, now: Instant) {
        if !self.has_told_all_self && self.seats.iter().all(|seat| seat.is_self(now)) {
            self.has_told_all_self = true;
            log::warn!(target: "pgsqlchk", "each --peer is this agent itself: name the other nodes' agents");
        }
    }
}
