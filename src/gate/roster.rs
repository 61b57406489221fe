//! Which worker receives the next request. One at a time does, and nobody else is woken for it unless a second request
//! comes while the first is under way: waking a thread costs a check more than anything else here.
//!
//! The gate says what it has sent to tiny_http. Whoever has taken a request leaves its turn open and goes to answer; it
//! takes the turn again when it is done. Only if something else is under way by then, or is sent meanwhile, another
//! worker is woken for the turn.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Shared by the gate and the workers.
#[derive(Default)]
pub(crate) struct Roster {
    state: Mutex<State>,
    /// Signalled where a worker that waits has to receive.
    wanted: Condvar,
}

#[derive(Default)]
struct State {
    is_receiving: bool,
    /// Workers that wait for their turn.
    waiting: usize,
    /// Requests sent to tiny_http that no worker has taken.
    on_the_way: usize,
}

/// The turn of one worker, to receive and take a request.
pub(crate) struct Turn<'a> {
    roster: &'a Roster,
}

impl Roster {
    /// Called before a request is sent to tiny_http.
    pub(crate) fn announce(&self) {
        let mut state = self.lock();
        state.on_the_way += 1;
        self.wake_if_wanted(&state);
    }

    /// Waits for a turn. It ends when it is dropped.
    pub(crate) fn turn(&self) -> Turn<'_> {
        let mut state = self.lock();
        while state.is_receiving {
            state.waiting += 1;
            state = self.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state.is_receiving = true;
        Turn { roster: self }
    }

    fn wake_if_wanted(&self, state: &State) {
        if !state.is_receiving && state.on_the_way > 0 && state.waiting > 0 {
            self.wanted.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// A request has been received.
    pub(crate) fn received(&self) {
        let mut state = self.roster.lock();
        state.on_the_way = state.on_the_way.saturating_sub(1);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.roster.lock();
        state.is_receiving = false;
        self.roster.wake_if_wanted(&state);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn another_worker_is_woken_only_for_another_request() {
        let roster = Arc::new(Roster::default());
        let first = roster.turn();
        let (sender, woken) = channel();
        let other = Arc::clone(&roster);
        let worker = thread::spawn(move || {
            let turn = other.turn();
            sender.send(()).unwrap();
            turn.received();
        });
        while roster.lock().waiting == 0 {
            thread::yield_now();
        }
        roster.announce();
        first.received();
        drop(first);
        let rest = Duration::from_millis(50);
        assert_eq!(woken.recv_timeout(rest), Err(RecvTimeoutError::Timeout), "nothing else is under way");
        drop(roster.turn());
        assert_eq!(woken.recv_timeout(rest), Err(RecvTimeoutError::Timeout), "still nothing");
        roster.announce();
        assert_eq!(
            woken.recv_timeout(Duration::from_secs(10)),
            Ok(()),
            "the turn is open, and a request comes"
        );
        worker.join().unwrap();
        assert_eq!(roster.lock().on_the_way, 0);
    }

    #[test]
    fn who_leaves_a_request_behind_wakes_another_worker() {
        let roster = Arc::new(Roster::default());
        let first = roster.turn();
        let other = Arc::clone(&roster);
        let worker = thread::spawn(move || other.turn().received());
        while roster.lock().waiting == 0 {
            thread::yield_now();
        }
        roster.announce();
        roster.announce();
        first.received();
        drop(first);
        worker.join().unwrap();
    }
}
