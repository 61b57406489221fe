//! Those who are asked on threads of their own when somebody wants to know, never without, and the requests that wait for
//! what they say. The peers are a circle, the poolers another one, and who commits is one of a single seat.
//!
//! A request *calls* when it arrives, so that they are asked while PostgreSQL is, and *attends* when it has its look: it
//! gets the news at once where nothing is outstanding, else when the last answer comes or its limit is over. No thread waits
//! for an answer but that of the seat which is asked.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::monitor::RUNNER_STACK_BYTES;
use crate::panics;
use crate::system::threads;

/// What is known of one of them, and when it is asked and waited for. No I/O, and time comes from outside.
pub trait Seat: Send + 'static {
    /// What it can be told to do.
    type Task: Send;
    /// What comes of that.
    type Outcome: Send;
    /// What a request is told.
    type News: Send + 'static;

    /// Somebody calls. Says whether it has to be asked, and nobody has said so yet.
    fn want(&mut self, call: Call, now: Instant) -> bool;

    /// What it has to do now, if anything.
    fn begin(&mut self, now: Instant) -> Option<Self::Task>;

    /// What was begun has come to this end.
    fn end(&mut self, outcome: Self::Outcome, now: Instant);

    /// Whether waiting longer is of no use for this call.
    fn is_settled(&self, call: Call, now: Instant) -> bool;

    /// What is known, for this call.
    fn news(&self, call: Call, now: Instant) -> Self::News;

    /// What a panic comes to.
    fn panicked() -> Self::Outcome;
}

/// A request that has called.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// When the request arrived.
    pub arrived: Instant,
    /// Until when it would wait.
    pub limit: Instant,
    /// That is its deadline: who has said nothing until then does not answer it. Else it shows what is known by then.
    pub is_deadline: bool,
}

/// Whether somebody is to be asked, and since when he is: for seats whose questions are all alike.
#[derive(Default)]
pub struct Question {
    is_wanted: bool,
    begun: Option<Instant>,
}

impl Question {
    /// Somebody needs one that was begun no earlier than this. Says whether nobody has said so yet, and none is under way.
    pub fn want(&mut self, need: Instant) -> bool {
        let is_under_way = self.begun.is_some_and(|begun| begun >= need);
        !is_under_way && !std::mem::replace(&mut self.is_wanted, true)
    }

    /// Begins the one that is wanted.
    pub fn begin(&mut self, now: Instant) -> Option<()> {
        std::mem::take(&mut self.is_wanted).then(|| self.begun = Some(now))
    }

    /// Since when one is under way.
    pub fn begun(&self) -> Option<Instant> {
        self.begun
    }

    /// It has come to its end. When it was begun.
    pub fn end(&mut self) -> Option<Instant> {
        self.begun.take()
    }
}

/// All of them. Where it is dropped its threads end, each as soon as what it is at lets it.
pub struct Circle<S: Seat> {
    shared: Arc<Shared<S>>,
}

struct Shared<S: Seat> {
    state: Mutex<State<S>>,
    /// Signalled where one is to be asked.
    is_wanted: Condvar,
    /// Signalled where somebody waits.
    is_awaited: Condvar,
}

struct State<S: Seat> {
    seats: Vec<S>,
    waiting: Vec<Waiting<S>>,
    /// Nobody calls any more.
    is_over: bool,
}

struct Waiting<S: Seat> {
    call: Call,
    then: Then<S>,
}

type Then<S> = Box<dyn FnOnce(Vec<<S as Seat>::News>) + Send>;

/// What is due, and what it is told.
type Due<S> = Vec<(Then<S>, Vec<<S as Seat>::News>)>;

/// A seat, the name of its thread, and what that thread does with a task. It may block for as long as it pleases.
pub struct Member<S: Seat> {
    /// What is known of it.
    pub seat: S,
    /// The thread's name.
    pub thread: String,
    /// Does a task.
    pub work: Box<dyn FnMut(S::Task) -> S::Outcome + Send>,
}

impl<S: Seat> Circle<S> {
    /// Starts a thread for each member, and one of the name of the circle that keeps the limits of who waits. Fails where
    /// one cannot be started.
    pub fn start(name: &'static str, members: Vec<Member<S>>) -> io::Result<Circle<S>> {
        let mut seats = Vec::new();
        let mut works = Vec::new();
        for Member { seat, thread, work } in members {
            seats.push(seat);
            works.push((thread, work));
        }
        let state = Mutex::new(State { seats, waiting: Vec::new(), is_over: false });
        let shared = Arc::new(Shared { state, is_wanted: Condvar::new(), is_awaited: Condvar::new() });
        for (number, (thread, work)) in works.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            spawn(thread, move || keep_working(&shared, number, work))?;
        }
        let limits = Arc::clone(&shared);
        spawn(name.into(), move || keep_limits(&limits, name))?;
        Ok(Circle { shared })
    }

    /// Has those asked who have to be, for this call.
    pub fn call(&self, call: Call) {
        let now = Instant::now();
        self.tell(|seat| seat.want(call, now));
    }

    /// Tells each seat something; where one says that there is something to do, its thread is woken.
    pub fn tell(&self, tell: impl Fn(&mut S) -> bool) {
        if self.shared.lock().tell(tell) {
            self.shared.is_wanted.notify_all();
        }
    }

    /// What is known of all, in their order: for those who take their seats over.
    pub fn look<R>(&self, look: impl FnOnce(&[S]) -> R) -> R {
        look(&self.shared.lock().seats)
    }

    /// What is known now, whatever it is worth to this call.
    pub fn news(&self, call: Call) -> Vec<S::News> {
        self.shared.lock().news(call, Instant::now())
    }

    /// `then` gets the news as soon as waiting is of no use any more: now, on this thread, or later on another one. Never
    /// blocks for an answer. What a seat knew when the request called it may have been forgotten since, so who waits calls
    /// once more.
    pub fn attend(&self, call: Call, then: impl FnOnce(Vec<S::News>) + Send + 'static) {
        let mut state = self.shared.lock();
        let now = Instant::now();
        if state.is_settled(call, now) {
            let news = state.news(call, now);
            drop(state);
            return then(news);
        }
        let is_any_wanted = state.tell(|seat| seat.want(call, now));
        state.waiting.push(Waiting { call, then: Box::new(then) });
        drop(state);
        if is_any_wanted {
            self.shared.is_wanted.notify_all();
        }
        self.shared.is_awaited.notify_one();
    }
}

impl<S: Seat> Drop for Circle<S> {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.is_wanted.notify_all();
        self.shared.is_awaited.notify_all();
    }
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    threads::spawn(name, RUNNER_STACK_BYTES, work).map(drop)
}

/// The life of one seat's thread.
fn keep_working<S: Seat>(
    shared: &Shared<S>,
    number: usize,
    mut work: Box<dyn FnMut(S::Task) -> S::Outcome + Send>,
) {
    loop {
        let mut state = shared.lock();
        let task = loop {
            if state.is_over {
                return;
            }
            if let Some(task) = state.seats[number].begin(Instant::now()) {
                break task;
            }
            state = shared.is_wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        let outcome = panics::contain(|| work(task)).unwrap_or_else(|_| S::panicked());
        let now = Instant::now();
        let mut state = shared.lock();
        state.seats[number].end(outcome, now);
        let due = state.take_due(now);
        drop(state);
        deliver::<S>(due);
    }
}

/// Answers those whose limit is over. Who waits holds the circle, so none is left where that is over.
fn keep_limits<S: Seat>(shared: &Shared<S>, name: &'static str) {
    loop {
        panics::trip(name);
        let mut state = shared.lock();
        if state.is_over {
            return;
        }
        let now = Instant::now();
        let due = state.take_due(now);
        if !due.is_empty() {
            drop(state);
            deliver::<S>(due);
            continue;
        }
        let state = match state.waiting.iter().map(|waiting| waiting.call.limit).min() {
            Some(limit) => {
                let rest = limit.saturating_duration_since(now);
                shared.is_awaited.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0
            }
            None => shared.is_awaited.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
        drop(state);
    }
}

fn deliver<S: Seat>(due: Due<S>) {
    for (then, news) in due {
        let _ = panics::contain(|| then(news));
    }
}

impl<S: Seat> Shared<S> {
    /// No code that can panic runs under the lock; if it does all the same, the state is still whole.
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Seat> State<S> {
    /// Tells each seat. Whether one has something to do now.
    fn tell(&mut self, tell: impl Fn(&mut S) -> bool) -> bool {
        let mut has_any = false;
        for seat in &mut self.seats {
            has_any |= tell(seat);
        }
        has_any
    }

    fn is_settled(&self, call: Call, now: Instant) -> bool {
        now >= call.limit || self.seats.iter().all(|seat| seat.is_settled(call, now))
    }

    fn news(&self, call: Call, now: Instant) -> Vec<S::News> {
        self.seats.iter().map(|seat| seat.news(call, now)).collect()
    }

    fn take_due(&mut self, now: Instant) -> Due<S> {
        let mut due = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            if self.is_settled(waiting.call, now) {
                due.push((waiting.then, self.news(waiting.call, now)));
            } else {
                self.waiting.push(waiting);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    /// Counts how often it was asked, and is settled where that was after the call.
    #[derive(Default)]
    struct Counter {
        question: Question,
        asked: Option<Instant>,
        count: u32,
    }

    impl Seat for Counter {
        type Task = ();
        type Outcome = ();
        type News = u32;

        fn want(&mut self, call: Call, _: Instant) -> bool {
            let is_asked = self.asked.is_some_and(|asked| asked >= call.arrived);
            !is_asked && self.question.want(call.arrived)
        }

        fn begin(&mut self, now: Instant) -> Option<()> {
            self.question.begin(now)
        }

        fn end(&mut self, (): (), _: Instant) {
            self.asked = self.question.end();
            self.count += 1;
        }

        fn is_settled(&self, call: Call, _: Instant) -> bool {
            self.asked.is_some_and(|asked| asked >= call.arrived)
        }

        fn news(&self, _: Call, _: Instant) -> u32 {
            self.count
        }

        fn panicked() {}
    }

    /// What was known when the request called is forgotten before it waits: somebody else's look has failed.
    #[test]
    fn who_waits_for_what_was_forgotten_has_it_asked_again() {
        let member = Member { seat: Counter::default(), thread: "a".into(), work: Box::new(|()| ()) };
        let circle = Circle::start("circle", vec![member]).unwrap();
        let (tell, told) = channel();
        let arrived = Instant::now();
        let call = Call { arrived, limit: arrived + Duration::from_secs(600), is_deadline: true };
        let attend = |call| {
            let tell = tell.clone();
            circle.attend(call, move |news| tell.send(news).unwrap());
        };
        circle.call(call);
        attend(call);
        assert_eq!(told.recv().unwrap(), [1]);
        circle.tell(|seat| {
            seat.asked = None;
            false
        });
        attend(call);
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(vec![2]));
    }

    #[test]
    fn who_waits_is_told_when_the_last_one_has_answered_or_when_its_limit_is_over() {
        let (answer, question) = channel::<()>();
        let member =
            |work: Box<dyn FnMut(()) + Send>| Member { seat: Counter::default(), thread: "a".into(), work };
        let members = vec![
            member(Box::new(|()| ())),
            member(Box::new(move |()| {
                let _ = question.recv();
            })),
        ];
        let circle = Circle::start("circle", members).unwrap();
        let (tell, told) = channel();
        let attend = |call| {
            let tell = tell.clone();
            circle.attend(call, move |news| tell.send(news).unwrap());
        };
        let arrived = Instant::now();
        let call = Call { arrived, limit: arrived + Duration::from_secs(600), is_deadline: true };
        circle.call(call);
        attend(Call { limit: arrived, ..call });
        let _at_once = told.try_recv().expect("there is no time to wait");
        while circle.look(|seats| seats[0].count) == 0 {
            assert!(arrived.elapsed() < Duration::from_secs(10), "the first has answered");
            std::thread::yield_now();
        }
        attend(Call { limit: arrived + Duration::from_millis(20), ..call });
        assert_eq!(told.recv().unwrap(), [1, 0], "its limit is over");
        attend(call);
        assert!(told.try_recv().is_err());
        answer.send(()).unwrap();
        assert_eq!(told.recv().unwrap(), [1, 1], "all have answered");
    }
}
