//! Where one thread leaves something for another, once. The standard library's channels would do, but each type that goes
//! through one is seven kilobytes of the program.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

type Boxed = Box<dyn Any + Send>;

#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    left: Option<Boxed>,
    /// Nobody will leave anything any more.
    is_over: bool,
}

/// Who leaves it.
pub struct Giver<T> {
    slot: Arc<Slot>,
    kind: PhantomData<fn(T)>,
}

/// Who waits for it.
pub struct Taker<T> {
    slot: Arc<Slot>,
    kind: PhantomData<fn() -> T>,
}

/// Why there is nothing to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// The time is over.
    Late,
    /// The other one is gone without having left anything.
    Never,
}

/// A slot, and its two ends.
pub fn slot<T: Send + 'static>() -> (Giver<T>, Taker<T>) {
    let slot = Arc::new(Slot::default());
    (Giver { slot: Arc::clone(&slot), kind: PhantomData }, Taker { slot, kind: PhantomData })
}

impl<T: Send + 'static> Giver<T> {
    /// Leaves it.
    pub fn give(self, what: T) {
        self.slot.lock().left = Some(Box::new(what));
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        self.slot.lock().is_over = true;
        self.slot.changed.notify_all();
    }
}

impl<T: 'static> Taker<T> {
    /// Takes what was left, waiting until the deadline at most; without one for as long as it takes.
    pub fn take(&self, deadline: Option<Instant>) -> Result<T, Nothing> {
        let left = self.slot.take(deadline)?;
        left.downcast().map(|left| *left).map_err(|_| Nothing::Never)
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, deadline: Option<Instant>) -> Result<Boxed, Nothing> {
        let mut state = self.lock();
        loop {
            if let Some(left) = state.left.take() {
                return Ok(left);
            }
            if state.is_over {
                return Err(Nothing::Never);
            }
            state = match deadline {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let rest = deadline.saturating_duration_since(Instant::now());
                    if rest.is_zero() {
                        return Err(Nothing::Late);
                    }
                    self.changed.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_left_is_taken_and_who_is_gone_leaves_nothing() {
        let (giver, taker) = slot();
        assert_eq!(taker.take(Some(Instant::now())), Err(Nothing::Late));
        let giving = thread::spawn(move || giver.give(7));
        assert_eq!(taker.take(Some(Instant::now() + Duration::from_secs(60))), Ok(7));
        giving.join().unwrap();
        assert_eq!(taker.take(None), Err(Nothing::Never), "once");
        let (giver, taker) = slot::<u8>();
        let going = thread::spawn(move || drop(giver));
        assert_eq!(taker.take(None), Err(Nothing::Never));
        going.join().unwrap();
    }
}
