//! Requests of one way are answered in the order in which they came: their replies travel over one lane, where a later one
//! cannot be written before an earlier one is. The order in which they are ready is another one, for looks end on several
//! threads, and what is waited for beside them differs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::way::{WAYS, Way};
use crate::monitor::RUNNER_STACK_BYTES;
use crate::panics;
use crate::system::threads;

/// Answers a request.
type Then = Box<dyn FnOnce() + Send>;

/// All requests under way.
#[derive(Clone, Default)]
pub(super) struct Order {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    queues: [VecDeque<Parked>; WAYS],
    /// Of the next request.
    ticket: u64,
}

/// A request, from its arrival until it is answered.
struct Parked {
    ticket: u64,
    /// `None` until it is ready.
    then: Option<Then>,
}

/// The place of a request in its queue. Who gives it up holds nobody up.
pub(super) struct Place {
    order: Order,
    way: Way,
    ticket: u64,
    is_ready: bool,
}

impl Order {
    /// The request has a place from now on. To be called in the order in which replies have to be written.
    pub(super) fn line_up(&self, way: Way) -> Place {
        let mut state = self.lock();
        let ticket = state.ticket;
        state.ticket += 1;
        state.queues[way as usize].push_back(Parked { ticket, then: None });
        Place { order: self.clone(), way, ticket, is_ready: false }
    }

    /// No code that can panic runs under the lock; if it does all the same, the state is still whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The request can be answered: it is, as soon as all before it are, on this thread or on that of the last of them.
    pub(super) fn release(mut self, then: impl FnOnce() + Send + 'static) {
        self.is_ready = true;
        let mut state = self.order.lock();
        let queue = &mut state.queues[self.way as usize];
        if let Some(parked) = queue.iter_mut().find(|parked| parked.ticket == self.ticket) {
            parked.then = Some(Box::new(then));
        }
        let due = take_due(queue);
        drop(state);
        deliver(due);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_ready {
            return;
        }
        let mut state = self.order.lock();
        let queue = &mut state.queues[self.way as usize];
        queue.retain(|parked| parked.ticket != self.ticket);
        let due = take_due(queue);
        drop(state);
        if !due.is_empty() {
            // Not here: what this request is answered with, for it panicked, may yet have to be written on this thread.
            let _ = threads::spawn("behind", RUNNER_STACK_BYTES, || deliver(due));
        }
    }
}

/// Those at the front that are ready. All that came before them has been taken: a reply that is to be written waits for none
/// that nobody is about to write.
fn take_due(queue: &mut VecDeque<Parked>) -> Vec<Then> {
    let mut due = Vec::new();
    while let Some(then) = queue.front_mut().and_then(|parked| parked.then.take()) {
        queue.pop_front();
        due.push(then);
    }
    due
}

fn deliver(due: Vec<Then>) {
    for then in due {
        let _ = panics::contain(then);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;

    fn told(order: &Receiver<u32>) -> Vec<u32> {
        order.try_iter().collect()
    }

    #[test]
    fn who_came_first_is_answered_first_whoever_is_ready_first() {
        let order = Order::default();
        let (tell, order_of_replies) = channel();
        let release = |place: Place, number: u32| {
            let tell = tell.clone();
            place.release(move || tell.send(number).unwrap());
        };
        let places: Vec<Place> = (0..4).map(|_| order.line_up(Way::Role)).collect();
        let elsewhere = order.line_up(Way::Instance);
        let [first, second, third, fourth] = <[Place; 4]>::try_from(places).ok().unwrap();
        release(third, 3);
        release(second, 2);
        assert!(told(&order_of_replies).is_empty(), "their replies could not be written");
        release(elsewhere, 9);
        assert_eq!(told(&order_of_replies), [9], "another queue is none of theirs");
        release(first, 1);
        assert_eq!(told(&order_of_replies), [1, 2, 3]);
        release(fourth, 4);
        assert_eq!(told(&order_of_replies), [4]);
    }

    #[test]
    fn who_gives_its_place_up_holds_nobody_up() {
        let order = Order::default();
        let (tell, told) = channel();
        let first = order.line_up(Way::Role);
        order.line_up(Way::Role).release(move || tell.send(2).unwrap());
        assert!(told.try_recv().is_err());
        drop(first);
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(2));
    }
}
