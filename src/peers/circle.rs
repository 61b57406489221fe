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

/// Requests keep the order in which they came among those of one queue: their replies travel over one lane, where a later
/// one cannot be written before an earlier one is. There is one for each lane. The order is not that in which their looks
/// end, for those end on several threads.
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
    /// Of the next request.
    ticket: u64,
    /// Whether the log has been told that all peers are ourselves.
    has_told_all_self: bool,
}

/// A request, from its arrival until it has the news.
struct Parked {
    ticket: u64,
    call: Call,
    /// `None` until it has its look.
    attendant: Option<Attendant>,
}

/// Who waits for peers, or behind one that does.
struct Attendant {
    /// `false`: it only keeps its place.
    is_waiting: bool,
    then: Then,
}

/// The place of a request in its queue. Who gives it up holds nobody up.
pub struct Place {
    shared: Arc<Shared>,
    queue: usize,
    ticket: u64,
    has_attended: bool,
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
            state: Mutex::new(State {
                seats,
                parked: Default::default(),
                ticket: 0,
                has_told_all_self: false,
            }),
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

    /// The request has a place in this queue from now on. To be called in the order in which replies have to be written.
    pub fn line_up(&self, queue: usize, call: Call) -> Place {
        let mut state = self.shared.lock();
        let ticket = state.ticket;
        state.ticket += 1;
        state.parked[queue].push_back(Parked { ticket, call, attendant: None });
        drop(state);
        Place { shared: Arc::clone(&self.shared), queue, ticket, has_attended: false }
    }
}

impl Place {
    /// The request has its look, and `then` gets the news: now, unless it is to wait for peers that still owe an answer, or
    /// one before it in its queue does. Never blocks for a peer.
    pub fn attend(mut self, is_waiting: bool, then: Then) {
        self.has_attended = true;
        let shared = &self.shared;
        let mut state = shared.lock();
        if let Some(parked) = state.parked[self.queue].iter_mut().find(|parked| parked.ticket == self.ticket)
        {
            parked.attendant = Some(Attendant { is_waiting, then });
        }
        let due = state.take_due(Instant::now(), shared.wait);
        drop(state);
        shared.is_awaited.notify_one();
        deliver(due);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.has_attended {
            self.shared.lock().parked[self.queue].retain(|parked| parked.ticket != self.ticket);
            // Those behind it may be due.
            self.shared.is_awaited.notify_one();
        }
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
        let state = match state.next_limit() {
            Some(limit) => {
                let rest = limit.saturating_duration_since(now);
                shared.is_awaited.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0
            }
            None => shared.is_awaited.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
        drop(state);
    }
}

fn deliver(due: Vec<(Then, News)>) {
    for (then, news) in due {
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

    /// Those at the front of their queues that need not wait. All that came before them in their queues has been taken: a reply
    /// that is to be written waits for none that nobody is about to write.
    fn take_due(&mut self, now: Instant, wait: Duration) -> Vec<(Then, News)> {
        let mut due = Vec::new();
        for queue in 0..QUEUES {
            while let Some(Parked { call, attendant: Some(attendant), .. }) = self.parked[queue].front()
                && (!attendant.is_waiting || self.is_settled(*call, now, wait))
            {
                let news = self.news(*call, now);
                let taken = self.parked[queue].pop_front().and_then(|parked| parked.attendant);
                due.extend(taken.map(|attendant| (attendant.then, news)));
            }
        }
        due
    }

    /// When the next one is due at the latest.
    fn next_limit(&self) -> Option<Instant> {
        let fronts = self.parked.iter().filter_map(VecDeque::front);
        fronts.filter(|parked| parked.attendant.is_some()).map(|parked| parked.call.limit).min()
    }

    /// One configuration for all nodes names them all; one that names nobody else is a mistake.
    fn warn_where_all_are_ourselves(&mut self, now: Instant) {
        if !self.has_told_all_self && self.seats.iter().all(|seat| seat.is_self(now)) {
            self.has_told_all_self = true;
            log::warn!(target: "pgsqlchk", "each --peer is this agent itself: name the other nodes' agents");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// Peers that are never asked: nobody calls them.
    fn circle() -> Circle {
        let (interval, timeout) = (Duration::from_secs(1), Duration::from_secs(1));
        let settings =
            PeerSettings { peers: Vec::new(), interval, timeout, wait: timeout / 4, agent: "a".into() };
        Circle::start(&settings).unwrap()
    }

    fn told(order: &Receiver<u32>) -> Vec<u32> {
        order.try_iter().collect()
    }

    #[test]
    fn who_came_first_is_answered_first_whoever_has_its_look_first() {
        let circle = circle();
        let (tell, order) = channel();
        let then = |number: u32| -> Then {
            let tell = tell.clone();
            Box::new(move |_| tell.send(number).unwrap())
        };
        let places: Vec<Place> = (0..4).map(|_| circle.line_up(0, Call::none())).collect();
        let elsewhere = circle.line_up(1, Call::none());
        let [first, second, third, fourth] = <[Place; 4]>::try_from(places).ok().unwrap();
        third.attend(false, then(3));
        second.attend(false, then(2));
        assert!(told(&order).is_empty(), "their replies could not be written");
        elsewhere.attend(false, then(9));
        assert_eq!(told(&order), [9], "another queue is none of theirs");
        first.attend(false, then(1));
        assert_eq!(told(&order), [1, 2, 3]);
        fourth.attend(false, then(4));
        assert_eq!(told(&order), [4]);
    }

    #[test]
    fn who_gives_its_place_up_holds_nobody_up() {
        let circle = circle();
        let (tell, order) = channel();
        let (first, second) = (circle.line_up(0, Call::none()), circle.line_up(0, Call::none()));
        second.attend(false, Box::new(move |_| tell.send(2).unwrap()));
        drop(first);
        assert_eq!(order.recv_timeout(Duration::from_secs(10)), Ok(2));
    }
}
