//! What the circle knows of one peer, and when it is asked and waited for. No I/O, and time comes from outside.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::memory::Memory;
use super::{Heard, PeerNews, PeerSettings, Statement};
use crate::circle::{self, Call, Question};
use crate::config::PeerAddress;

/// An agent that answered as ourselves is not asked again for so long; its address may become somebody else's.
const SELF_LASTS: Duration = Duration::from_secs(30);

/// One peer.
pub struct Seat {
    address: Arc<str>,
    /// Our own name.
    agent: String,
    /// How long an answer is good for.
    interval: Duration,
    /// Who takes longer than this is silent.
    wait: Duration,
    question: Question,
    last_try: Option<Try>,
    last: Option<Heard>,
    memory: Memory,
    /// Until when it counts as ourselves.
    self_until: Option<Instant>,
}

/// A question that has come to its end.
#[derive(Clone, Copy)]
struct Try {
    asked: Instant,
    took: Duration,
    has_answer: bool,
}

/// What came of a question.
pub struct Answer {
    /// `None` where it was not answered.
    pub(super) said: Option<Statement>,
    /// When, by this host's clock.
    pub(super) at: SystemTime,
}

impl Seat {
    pub(super) fn new(address: &PeerAddress, settings: &PeerSettings) -> Seat {
        Seat {
            address: address.to_string().into(),
            agent: settings.agent.clone(),
            interval: settings.interval,
            wait: settings.wait,
            question: Question::default(),
            last_try: None,
            last: None,
            memory: Memory::default(),
            self_until: None,
        }
    }

    /// Knows what one of these seats knew of the same peer.
    pub(super) fn inherit(&mut self, before: &[Seat]) {
        if let Some(before) = before.iter().find(|before| before.address == self.address) {
            self.last_try = before.last_try;
            self.last = before.last.clone();
            self.memory = before.memory.clone();
            self.self_until = before.self_until;
        }
    }

    /// Whether it answered when it was asked last.
    pub(super) fn has_answered(&self) -> Option<bool> {
        self.last_try.as_ref().map(|last| last.has_answer)
    }

    /// What was asked before is too old for this call.
    fn need(&self, call: Call) -> Instant {
        call.arrived.checked_sub(self.interval).unwrap_or(call.arrived)
    }

    fn is_self(&self, now: Instant) -> bool {
        self.self_until.is_some_and(|until| now < until)
    }

    fn has_tried_since(&self, need: Instant) -> bool {
        self.last_try.as_ref().is_some_and(|last| last.asked >= need)
    }

    /// Whether it was silent the last time: who asks it once more does not wait for it.
    fn is_silent(&self, now: Instant) -> bool {
        let was_slow = self.last_try.as_ref().is_some_and(|last| last.took > self.wait);
        was_slow
            || self.question.begun().is_some_and(|asked| now.saturating_duration_since(asked) > self.wait)
    }
}

impl circle::Seat for Seat {
    type Task = ();
    type Outcome = Answer;
    type News = PeerNews;

    fn want(&mut self, call: Call, now: Instant) -> bool {
        let need = self.need(call);
        !self.is_self(now) && !self.has_tried_since(need) && self.question.want(need)
    }

    fn begin(&mut self, now: Instant) -> Option<()> {
        self.question.begin(now)
    }

    fn end(&mut self, answer: Answer, now: Instant) {
        let Some(asked) = self.question.end() else { return };
        let took = now.saturating_duration_since(asked);
        self.last_try = Some(Try { asked, took, has_answer: answer.said.is_some() });
        let Some(said) = answer.said.map(Arc::new) else { return };
        if said.agent == self.agent {
            self.memory.forget();
            self.self_until = Some(now + SELF_LASTS);
        } else {
            self.memory.hear(&said, answer.at);
            self.self_until = None;
        }
        self.last = Some(Heard { said, asked, at: answer.at });
    }

    /// It has been tried, or waiting for it is of no use.
    fn is_settled(&self, call: Call, now: Instant) -> bool {
        self.is_self(now) || self.has_tried_since(self.need(call)) || self.is_silent(now)
    }

    fn news(&self, call: Call, now: Instant) -> PeerNews {
        let need = self.need(call);
        let is_self = self.is_self(now);
        let is_answered = self.last_try.as_ref().is_some_and(|last| last.asked >= need && last.has_answer);
        PeerNews {
            address: Arc::clone(&self.address),
            is_self,
            is_fresh: is_self || is_answered,
            last: self.last.clone(),
            claim: self.memory.claim,
            rival: self.memory.rival,
            told: self.memory.told.clone(),
        }
    }

    fn panicked() -> Answer {
        Answer { said: None, at: SystemTime::now() }
    }
}

#[cfg(test)]
mod tests {
    use super::circle::Seat as _;
    use super::*;
    use crate::config::HostPort;

    const WAIT: Duration = Duration::from_millis(250);
    const MS: Duration = Duration::from_millis(1);

    fn seat() -> Seat {
        let place = HostPort { host: "node2".into(), port: 1 };
        let address = PeerAddress { place, is_tls: false };
        let settings = PeerSettings {
            tls: None,
            peers: vec![address.clone()],
            interval: Duration::ZERO,
            timeout: 4 * WAIT,
            wait: WAIT,
            agent: "self".into(),
        };
        Seat::new(&address, &settings)
    }

    /// Of a request that needs what was asked since then.
    fn since(arrived: Instant) -> Call {
        Call { arrived, limit: arrived + WAIT, is_deadline: false }
    }

    fn answer(agent: &str) -> Answer {
        let json = format!("{{\"agent\":\"{agent}\",\"name\":\"node2\"}}");
        Answer { said: super::super::statement::read(json.as_bytes()).ok(), at: SystemTime::UNIX_EPOCH }
    }

    fn silence() -> Answer {
        Answer { said: None, at: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn a_peer_is_asked_once_for_all_who_want_to_know() {
        let t = Instant::now();
        let mut seat = seat();
        assert!(seat.begin(t).is_none(), "nobody asks without being asked");
        assert!(seat.want(since(t), t) && !seat.want(since(t), t));
        assert!(seat.begin(t).is_some() && seat.begin(t).is_none());
        assert!(!seat.want(since(t), t), "it is under way");
        assert!(!seat.is_settled(since(t), t));
        // Whoever came later needs another one.
        assert!(seat.want(since(t + MS), t + MS));
        seat.end(answer("a"), t + 2 * MS);
        assert!(seat.is_settled(since(t), t + 2 * MS) && !seat.is_settled(since(t + MS), t + 2 * MS));
        assert!(seat.news(since(t), t + 2 * MS).is_fresh && !seat.news(since(t + MS), t + 2 * MS).is_fresh);
        assert!(seat.begin(t + 2 * MS).is_some());
    }

    #[test]
    fn what_was_heard_is_good_for_the_interval() {
        let t = Instant::now();
        let mut seat = Seat { interval: WAIT, ..seat() };
        assert!(seat.want(since(t), t) && seat.begin(t).is_some());
        seat.end(answer("a"), t + MS);
        for (later, is_fresh) in [(WAIT, true), (WAIT + MS, false)] {
            let arrived = t + later;
            assert_eq!(seat.news(since(arrived), arrived).is_fresh, is_fresh, "{later:?}");
            assert_eq!(!seat.want(since(arrived), arrived), is_fresh, "{later:?}");
        }
    }

    #[test]
    fn a_silent_peer_is_waited_for_once() {
        let t = Instant::now();
        let mut seat = seat();
        assert!(seat.want(since(t), t) && seat.begin(t).is_some());
        assert!(!seat.is_settled(since(t), t + WAIT));
        assert!(seat.is_settled(since(t), t + WAIT + MS), "nobody waits any longer");
        seat.end(silence(), t + 2000 * MS);
        let later = t + 3000 * MS;
        assert!(seat.want(since(later), later) && seat.begin(later).is_some());
        assert!(seat.is_settled(since(later), later), "asked and not waited for");
        seat.end(answer("a"), later + MS);
        let again = later + 1000 * MS;
        assert!(seat.want(since(again), again) && seat.begin(again).is_some());
        assert!(!seat.is_settled(since(again), again));
        // Refused at once: that is no silence.
        seat.end(silence(), again + MS);
        assert!(!seat.is_settled(since(again + 2 * MS), again + 2 * MS));
        assert!(!seat.news(since(again), again + 2 * MS).is_fresh);
        assert!(seat.news(since(again), again + 2 * MS).last.is_some(), "what it said last is remembered");
    }

    #[test]
    fn who_is_ourselves_is_not_asked_for_a_while() {
        let t = Instant::now();
        let mut seat = seat();
        assert!(seat.want(since(t), t) && seat.begin(t).is_some());
        seat.end(answer("self"), t);
        let later = t + SELF_LASTS - MS;
        assert!(!seat.want(since(later), later) && seat.is_settled(since(later), later));
        let news = seat.news(since(later), later);
        assert!(news.is_self && news.fresh().is_none());
        let over = t + SELF_LASTS;
        assert!(seat.want(since(over), over) && seat.begin(over).is_some());
        seat.end(answer("another"), over);
        assert!(seat.news(since(over), over).fresh().is_some());
    }
}
