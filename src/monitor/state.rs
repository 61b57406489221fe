//! What the monitor knows, and how it changes; no waiting, no I/O but the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::history::History;
use super::{Answer, MAX_ABANDONED};
use crate::instance::{Drain, Failure, Needs, Observation, ProbeSettings, Prober, StageCell};
use crate::reason::Reason;
use crate::tally::Tally;

/// A question and whom to tell.
pub(super) struct Caller {
    pub(super) flight: u64,
    number: u64,
    /// Where the node drains, this one needs to know no more.
    ends_with_drain: bool,
    pub(super) deadline: Instant,
    pub(super) answer: Answer,
}

/// Answers to be given as soon as the lock is free, in the order of their questions.
pub(super) type Due = Vec<(Caller, Observation)>;

/// The flight that a thread is at.
pub(super) struct Running {
    pub(super) flight: u64,
    pub(super) begun: Instant,
    /// The deadline of a check when it began.
    pub(super) timeout: Duration,
    pub(super) stage: Arc<StageCell>,
}

pub(super) struct State {
    timeout: Duration,
    /// The prober between flights.
    pub(super) prober: Option<Box<Prober>>,
    pub(super) running: Option<Running>,
    abandoned: usize,
    /// Threads that close sessions which are not asked any more.
    pub(super) closing: usize,
    /// A thread sleeps until the next login may be tried, and begins the waiting flight then.
    pub(super) is_resting: bool,
    /// A thread has rested since the last flight was settled.
    has_rested: bool,
    /// What the flight needs that has not begun; `None` where nobody waits for one.
    waiting: Option<Needs>,
    /// The number of the flight that has not begun.
    next_flight: u64,
    callers: VecDeque<Caller>,
    /// The number of the caller to come.
    next_caller: u64,
    /// Callers numbered below have been looked for the drain file for, apart from their flight.
    drain_looked_until: u64,
    is_looking_for_drain: bool,
    /// When the last flight that failed was settled, and why it failed.
    last_failure: Option<(Instant, Reason)>,
    pub(super) history: History,
    tally: Arc<Tally>,
    /// Until when the watch sleeps; `None`: until it is signalled.
    pub(super) watch_sleeps_until: Option<Instant>,
}

impl State {
    pub(super) fn new(timeout: Duration, tally: Arc<Tally>) -> State {
        State {
            timeout,
            prober: None,
            running: None,
            abandoned: 0,
            closing: 0,
            is_resting: false,
            has_rested: false,
            waiting: None,
            next_flight: 0,
            callers: VecDeque::new(),
            next_caller: 0,
            drain_looked_until: 0,
            is_looking_for_drain: false,
            last_failure: None,
            history: History::new(),
            tally,
            watch_sleeps_until: None,
        }
    }

    /// Flights that begin from now on follow these settings. A prober that is not at one knows it at once: what it was refused
    /// elsewhere is no reason to rest.
    pub(super) fn adopt(&mut self, settings: &Arc<ProbeSettings>) {
        self.timeout = settings.timeout;
        if let Some(prober) = &mut self.prober {
            prober.adopt(settings);
        }
    }

    /// Joins the flight that has not begun. Says whether the watch would sleep too long for this caller.
    pub(super) fn park(&mut self, needs: Needs, deadline: Instant, answer: Answer) -> bool {
        self.waiting = Some(self.waiting.unwrap_or_default().union(needs));
        let ends_with_drain = needs.drain && !needs.despite_drain;
        let (flight, number) = (self.next_flight, self.next_caller);
        self.next_caller += 1;
        self.callers.push_back(Caller { flight, number, ends_with_drain, deadline, answer });
        self.watch_sleeps_until.is_none_or(|until| deadline < until)
    }

    /// The flight to begin now, if one waits and none runs. One that nobody waits for any more is none.
    pub(super) fn take_waiting(&mut self) -> Option<(u64, Needs)> {
        if self.running.is_some() || self.is_resting {
            return None;
        }
        if self.callers.is_empty() {
            self.waiting = None;
        }
        let needs = self.waiting.take()?;
        let flight = self.next_flight;
        self.next_flight += 1;
        Some((flight, needs))
    }

    /// Until when whoever would begin the waiting flight has to rest first; everybody else need not wait for that thread.
    pub(super) fn begin_rest(&mut self, now: Instant) -> Option<Instant> {
        if self.running.is_some() || self.is_resting || self.waiting.is_none() {
            return None;
        }
        let until = self.prober.as_ref()?.rests_until().filter(|until| *until > now)?;
        (self.is_resting, self.has_rested) = (true, true);
        Some(until)
    }

    /// Whether one more session may hang in the server. One that commits may do so at any time.
    pub(super) fn may_hang_once_more(&self) -> bool {
        self.abandoned + self.closing + usize::from(self.tally.probes.is_writing()) < MAX_ABANDONED
    }

    /// Whether somebody has to look for the drain file apart from a flight, and then for the callers numbered below.
    /// A flight looks for itself, before it asks the instance; so this is for those who would wait for an instance
    /// that others need: behind a flight that runs or rests, or in one that goes on despite the drain.
    pub(super) fn begin_drain_look(&mut self) -> Option<u64> {
        let would_wait = self.running.is_some()
            || self.is_resting
            || self.waiting.is_some_and(|needs| needs.despite_drain);
        let mut new = self.callers.iter().rev().take_while(|caller| caller.number >= self.drain_looked_until);
        if self.is_looking_for_drain || !would_wait || !new.any(|caller| caller.ends_with_drain) {
            return None;
        }
        self.is_looking_for_drain = true;
        Some(self.next_caller)
    }

    /// Answers those for whom it is enough. Nothing is recorded here: a flight that began earlier may settle later,
    /// and the next one finds the same.
    pub(super) fn end_drain_look(&mut self, until: u64, drain: Drain) -> Due {
        self.is_looking_for_drain = false;
        self.drain_looked_until = until;
        match drain {
            Drain::On => {
                let outcome = Observation::new(drain, None, None);
                self.take_callers(|caller| caller.ends_with_drain && caller.number < until, &outcome)
            }
            Drain::Off | Drain::Unknown | Drain::NotLooked => Due::new(),
        }
    }

    /// Whether a flight waits that a running one does not lead on to.
    pub(super) fn lacks_runner(&self) -> bool {
        self.waiting.is_some() && self.running.is_none() && !self.is_resting
    }

    /// A flight has its outcome, so long after it began: the one place where outcomes are recorded.
    pub(super) fn settle(&mut self, flight: u64, outcome: Observation, lasted: Duration) -> Due {
        let now = Instant::now();
        self.has_rested = false;
        if let Some(failure) = outcome.failure() {
            self.last_failure = Some((now, failure.reason));
        }
        self.history.record(&outcome, now);
        self.tally.probes.record(&outcome, lasted);
        self.take_callers(|caller| caller.flight == flight, &outcome)
    }

    /// Answers for those whose deadline has passed. If the running flight had nearly the whole timeout, it is
    /// abandoned: the caller that began it arrived a moment before it, so its deadline is the flight's.
    pub(super) fn expire(&mut self, now: Instant) -> Due {
        if !self.callers.iter().any(|caller| caller.deadline <= now) {
            return Due::new();
        }
        let failure = self.blame(now);
        let (flight, outcome) = match &self.running {
            Some(running) => (Some(running.flight), running.stage.cut_short(failure.clone())),
            None => (None, Observation::failed(failure.clone())),
        };
        let is_late = |caller: &Caller| caller.deadline <= now;
        // In the order of their questions: those in the air first.
        let mut due = self.take_callers(|caller| is_late(caller) && Some(caller.flight) == flight, &outcome);
        due.extend(self.take_callers(is_late, &Observation::failed(failure)));
        let limit = self.running.as_ref().map(|running| running.timeout * 9 / 10);
        if limit.is_some_and(|limit| self.running_for(now) >= limit) {
            match self.abandon() {
                Some(others) => due.extend(others),
                None => self.history.record(&outcome, now),
            }
        }
        due
    }

    /// Abandons the running flight if it has had the whole timeout and somebody still waits; `None` where it goes on.
    /// Those who share it may all have been answered before.
    pub(super) fn abandon_overdue(&mut self, now: Instant) -> Option<Due> {
        let limit = self.running.as_ref()?.timeout;
        if self.callers.is_empty() || self.running_for(now) < limit {
            return None;
        }
        self.abandon()
    }

    /// When the watch has to look again, if nothing else happens.
    pub(super) fn next_look(&self, now: Instant) -> Option<Instant> {
        let deadline = self.callers.iter().map(|caller| caller.deadline).min()?;
        let overdue = self.running.as_ref().map(|running| running.begun + running.timeout);
        // A flight that is overdue already may not be abandoned yet; then only the deadlines count.
        Some(overdue.filter(|overdue| *overdue > now).map_or(deadline, |overdue| overdue.min(deadline)))
    }

    /// Why a caller got no answer: what its time was spent on, its own flight or the one it had to wait for.
    fn blame(&self, now: Instant) -> Failure {
        if let Some(running) = &self.running
            && self.running_for(now) >= running.timeout / 2
        {
            return running.stage.get().overdue("at the deadline");
        }
        let is_recent = |settled: Instant| self.has_rested || settled + self.timeout / 2 >= now;
        let recent = self.last_failure.filter(|(settled, _)| is_recent(*settled));
        let reason = recent.map_or(Reason::DeadlinePassed, |(_, reason)| reason);
        Failure::new(reason, "the time went by waiting for an earlier probe")
    }

    /// Gives up the running flight with its prober, and answers those who share it. A bounded stage ends by itself
    /// within moments and keeps both; so does a hanging one while too many others hang already.
    fn abandon(&mut self) -> Option<Due> {
        let running = self.running.as_ref()?;
        let stage = running.stage.get();
        if stage.is_bounded() || !self.may_hang_once_more() {
            return None;
        }
        let (flight, lasted) = (running.flight, running.begun.elapsed());
        let failure = stage.overdue(format_args!("after {:?}; session abandoned", running.timeout));
        let outcome = running.stage.cut_short(failure);
        self.running = None;
        self.abandoned += 1;
        self.tally.probes.set_abandoned(self.abandoned);
        Some(self.settle(flight, outcome, lasted))
    }

    /// An abandoned prober has come to its end.
    pub(super) fn bury(&mut self) {
        self.abandoned -= 1;
        self.tally.probes.set_abandoned(self.abandoned);
    }

    fn running_for(&self, now: Instant) -> Duration {
        self.running.as_ref().map_or(Duration::ZERO, |running| now.saturating_duration_since(running.begun))
    }

    fn take_callers(&mut self, is_meant: impl Fn(&Caller) -> bool, outcome: &Observation) -> Due {
        let mut due = Due::new();
        for caller in std::mem::take(&mut self.callers) {
            if is_meant(&caller) {
                due.push((caller, outcome.clone()));
            } else {
                self.callers.push_back(caller);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Stage;

    /// A deadline that was said to have passed had not quite: seen once in thousands of faults.
    #[test]
    fn who_shares_a_look_that_hangs_ends_with_it_a_tenth_early_at_most() {
        let timeout = Duration::from_secs(1);
        for (later_ms, told) in [(0, 2), (100, 2), (101, 1)] {
            let mut state = State::new(timeout, Arc::default());
            let arrived = Instant::now();
            // Both wait until the look before theirs has ended.
            let begun = arrived + Duration::from_millis(later_ms);
            for arrived in [arrived, begun] {
                state.park(Needs::default(), arrived + timeout, Box::new(|_| {}));
            }
            let (flight, _) = state.take_waiting().unwrap();
            let stage = Arc::new(StageCell::new());
            stage.enter(Stage::Querying);
            state.running = Some(Running { flight, begun, timeout, stage });
            assert_eq!(state.expire(arrived + timeout).len(), told, "{later_ms} ms later");
        }
    }
}
