//! What is known of one pooler, and when it is knocked at. A knock that was answered is good for `--knock-interval`, as one
//! at the postmaster; one that was not is good for those who were there already.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::circle::{self, Call, Circle, Member, Question};
use crate::config::{Config, PoolerAddress};
use crate::instance::{Failure, Pooler, PoolerKnocker};
use crate::panics;
use crate::reason::Reason;

/// One pooler.
pub struct Seat {
    address: Arc<str>,
    interval: Duration,
    knock: Question,
    /// When the last one was begun, and why it was not answered.
    last: Option<(Instant, Option<Arc<str>>)>,
}

/// What the administrator said of poolers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolerSettings {
    poolers: Vec<PoolerAddress>,
    timeout: Duration,
    interval: Duration,
}

impl PoolerSettings {
    /// What the configuration says; `None` where it names none.
    pub fn of(config: &Config) -> Option<PoolerSettings> {
        let (timeout, interval) = (config.timeout, config.knock_interval);
        let poolers = config.pooler.clone();
        (!poolers.is_empty()).then_some(PoolerSettings { poolers, timeout, interval })
    }
}

/// Starts a circle of them, which knows what one before it knows of the same poolers.
pub fn start(settings: &PoolerSettings, before: Option<&Circle<Seat>>) -> io::Result<Circle<Seat>> {
    let members = settings.poolers.iter().enumerate().map(|(number, pooler)| {
        let mut knocker = PoolerKnocker::new(pooler.clone(), settings.timeout);
        let work = move |()| {
            panics::trip("knocking at a pooler");
            knocker.knock()
        };
        let mut seat = Seat::new(pooler.to_string().into(), settings.interval);
        if let Some(before) = before {
            before.look(|seats| seat.inherit(seats));
        }
        Member { seat, thread: format!("pooler {number}"), work: Box::new(work) }
    });
    Circle::start("poolers", members.collect())
}

impl Seat {
    fn new(address: Arc<str>, interval: Duration) -> Seat {
        Seat { address, interval, knock: Question::default(), last: None }
    }

    fn inherit(&mut self, before: &[Seat]) {
        if let Some(before) = before.iter().find(|before| before.address == self.address) {
            self.last = before.last.clone();
        }
    }

    /// What the last knock tells this call.
    fn tells(&self, call: Call) -> Option<bool> {
        let (begun, cause) = self.last.as_ref()?;
        match cause {
            None => (*begun + self.interval >= call.arrived).then_some(true),
            Some(_) => (*begun >= call.arrived).then_some(false),
        }
    }
}

impl circle::Seat for Seat {
    type Task = ();
    type Outcome = Result<(), Failure>;
    type News = Pooler;

    fn want(&mut self, call: Call, _: Instant) -> bool {
        self.tells(call).is_none() && self.knock.want(call.arrived)
    }

    fn begin(&mut self, now: Instant) -> Option<()> {
        self.knock.begin(now)
    }

    fn end(&mut self, outcome: Result<(), Failure>, _: Instant) {
        let Some(begun) = self.knock.end() else { return };
        self.last = Some((begun, outcome.err().map(|failure| failure.cause.into())));
    }

    fn is_settled(&self, call: Call, _: Instant) -> bool {
        self.tells(call).is_some()
    }

    /// One that has not answered by the deadline does not answer.
    fn news(&self, call: Call, now: Instant) -> Pooler {
        let said = self.last.as_ref().and_then(|(_, cause)| cause.clone());
        let is_silent = if call.is_deadline { now >= call.limit } else { said.is_some() };
        let is_up = self.tells(call).or(is_silent.then_some(false));
        let cause = match is_up {
            Some(false) => Some(said.unwrap_or_else(|| "no answer by the deadline".into())),
            Some(true) | None => None,
        };
        Pooler { address: Arc::clone(&self.address), is_up, cause }
    }

    fn panicked() -> Result<(), Failure> {
        Err(Failure::new(Reason::AgentOutOfResources, "the knock panicked"))
    }
}

#[cfg(test)]
mod tests {
    use super::circle::Seat as _;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn call(arrived: Instant) -> Call {
        Call { arrived, limit: arrived + 100 * MS, is_deadline: true }
    }

    #[test]
    fn an_answer_is_good_for_the_interval_and_silence_for_those_who_were_there() {
        let t = Instant::now();
        let mut seat = Seat::new("node1:6432".into(), 10 * MS);
        assert!(seat.begin(t).is_none(), "nobody knocks without being asked");
        assert!(seat.want(call(t), t) && !seat.want(call(t), t));
        assert!(seat.begin(t + MS).is_some());
        assert!(!seat.want(call(t), t + MS), "it is under way");
        assert_eq!(seat.news(call(t), t + MS).is_up, None);
        seat.end(Ok(()), t + 2 * MS);
        for (later, is_up) in [(0, Some(true)), (11, Some(true)), (12, None)] {
            let call = call(t + later * MS);
            assert_eq!(seat.news(call, call.arrived).is_up, is_up, "{later}");
            assert_eq!(seat.is_settled(call, call.arrived), is_up.is_some());
        }
        let later = t + 20 * MS;
        assert!(seat.want(call(later), later) && seat.begin(later).is_some());
        seat.end(Err(Failure::new(Reason::Unreachable, "gone")), later + MS);
        let news = seat.news(call(later), later + MS);
        assert_eq!((news.is_up, news.cause.as_deref()), (Some(false), Some("gone")));
        assert_eq!(seat.news(call(later + MS), later + MS).is_up, None, "who comes later has it asked anew");
        assert!(seat.want(call(later + MS), later + MS));
    }

    #[test]
    fn who_has_not_answered_at_the_limit_does_not_answer() {
        let t = Instant::now();
        let mut seat = Seat::new("node1:6432".into(), 10 * MS);
        assert!(seat.want(call(t), t) && seat.begin(t).is_some());
        assert_eq!(seat.news(call(t), t + 99 * MS).is_up, None);
        assert_eq!(seat.news(call(t), t + 100 * MS).is_up, Some(false));
        let shown = |later: u32| Call { is_deadline: false, ..call(t + later * MS) };
        assert_eq!(seat.news(shown(0), t + 100 * MS).is_up, None, "nobody knows yet");
        seat.end(Err(Failure::new(Reason::Unreachable, "gone")), t + 200 * MS);
        assert_eq!(seat.news(shown(300), t + 300 * MS).is_up, Some(false), "what was known last");
    }
}
