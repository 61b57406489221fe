//! What the circle knows of one peer, and when it is asked and waited for. No I/O, and time comes from outside.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::memory::Memory;
use super::{Heard, PeerNews, Statement};

/// An agent that answered as ourselves is not asked again for so long; its address may become somebody else's.
const SELF_LASTS: Duration = Duration::from_secs(30);

/// One peer.
pub(super) struct Seat {
    address: Arc<str>,
    /// Somebody wants to know.
    is_wanted: bool,
    /// When the question under way was asked.
    asking: Option<Instant>,
    last_try: Option<Try>,
    last: Option<Heard>,
    memory: Memory,
    /// Until when it counts as ourselves.
    self_until: Option<Instant>,
}

/// A question that has come to its end.
struct Try {
    asked: Instant,
    took: Duration,
    has_answer: bool,
}

impl Seat {
    pub(super) fn new(address: String) -> Seat {
        Seat {
            address: address.into(),
            is_wanted: false,
            asking: None,
            last_try: None,
            last: None,
            memory: Memory::default(),
            self_until: None,
        }
    }

    /// Somebody needs an answer to a question that was asked no earlier than `need`. Says whether the peer has to be asked.
    pub(super) fn want(&mut self, need: Instant, now: Instant) -> bool {
        let is_under_way = self.asking.is_some_and(|asked| asked >= need);
        if self.is_self(now) || self.has_tried_since(need) || is_under_way || self.is_wanted {
            return false;
        }
        self.is_wanted = true;
        true
    }

    /// The question to be asked now, if somebody wants it asked.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let is_wanted = std::mem::replace(&mut self.is_wanted, false);
        if is_wanted {
            self.asking = Some(now);
        }
        is_wanted
    }

    /// The question that was begun has this outcome. `agent` is our own name.
    pub(super) fn end(&mut self, outcome: Result<Statement, ()>, agent: &str, now: Instant, at: SystemTime) {
        let Some(asked) = self.asking.take() else { return };
        let took = now.saturating_duration_since(asked);
        self.last_try = Some(Try { asked, took, has_answer: outcome.is_ok() });
        let Ok(said) = outcome.map(Arc::new) else { return };
        if said.agent == agent {
            self.memory.forget();
            self.self_until = Some(now + SELF_LASTS);
        } else {
            self.memory.hear(&said, at);
            self.self_until = None;
        }
        self.last = Some(Heard { said, asked, at });
    }

    /// Whether nobody who needs it since then has to wait: it has been tried, or waiting for it is of no use.
    pub(super) fn is_settled(&self, need: Instant, now: Instant, wait: Duration) -> bool {
        self.is_self(now) || self.has_tried_since(need) || self.is_silent(now, wait)
    }

    /// What is known of it, for who needs what was asked since then.
    pub(super) fn news(&self, need: Instant, now: Instant) -> PeerNews {
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

    pub(super) fn is_self(&self, now: Instant) -> bool {
        self.self_until.is_some_and(|until| now < until)
    }

    fn has_tried_since(&self, need: Instant) -> bool {
        self.last_try.as_ref().is_some_and(|last| last.asked >= need)
    }

    /// Whether it was silent the last time: who asks it once more does not wait for it.
    fn is_silent(&self, now: Instant, wait: Duration) -> bool {
        let was_slow = self.last_try.as_ref().is_some_and(|last| last.took > wait);
        was_slow || self.asking.is_some_and(|asked| now.saturating_duration_since(asked) > wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(250);
    const MS: Duration = Duration::from_millis(1);
    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    fn answer(agent: &str) -> Result<Statement, ()> {
        let json = format!("{{\"agent\":\"{agent}\",\"name\":\"node2\"}}");
        super::super::statement::read(json.as_bytes()).map_err(|_| ())
    }

    #[test]
    fn a_peer_is_asked_once_for_all_who_want_to_know() {
        let t = Instant::now();
        let mut seat = Seat::new("node2:1".into());
        assert!(!seat.begin(t), "nobody asks without being asked");
        assert!(seat.want(t, t) && !seat.want(t, t));
        assert!(seat.begin(t) && !seat.begin(t));
        assert!(!seat.want(t, t), "it is under way");
        assert!(!seat.is_settled(t, t, WAIT));
        // Whoever came later needs another one.
        assert!(seat.want(t + MS, t + MS));
        seat.end(answer("a"), "self", t + 2 * MS, AT);
        assert!(seat.is_settled(t, t + 2 * MS, WAIT) && !seat.is_settled(t + MS, t + 2 * MS, WAIT));
        assert!(seat.news(t, t + 2 * MS).is_fresh && !seat.news(t + MS, t + 2 * MS).is_fresh);
        assert!(seat.begin(t + 2 * MS));
    }

    #[test]
    fn a_silent_peer_is_waited_for_once() {
        let t = Instant::now();
        let mut seat = Seat::new("node2:1".into());
        assert!(seat.want(t, t) && seat.begin(t));
        assert!(!seat.is_settled(t, t + WAIT, WAIT));
        assert!(seat.is_settled(t, t + WAIT + MS, WAIT), "nobody waits any longer");
        seat.end(Err(()), "self", t + 2000 * MS, AT);
        let later = t + 3000 * MS;
        assert!(seat.want(later, later) && seat.begin(later));
        assert!(seat.is_settled(later, later, WAIT), "asked and not waited for");
        seat.end(answer("a"), "self", later + MS, AT);
        let again = later + 1000 * MS;
        assert!(seat.want(again, again) && seat.begin(again) && !seat.is_settled(again, again, WAIT));
        // Refused at once: that is no silence.
        seat.end(Err(()), "self", again + MS, AT);
        assert!(!seat.is_settled(again + 2 * MS, again + 2 * MS, WAIT));
        assert!(!seat.news(again, again + 2 * MS).is_fresh);
        assert!(seat.news(again, again + 2 * MS).last.is_some(), "what it said last is remembered");
    }

    #[test]
    fn who_is_ourselves_is_not_asked_for_a_while() {
        let t = Instant::now();
        let mut seat = Seat::new("node1:1".into());
        assert!(seat.want(t, t) && seat.begin(t));
        seat.end(answer("self"), "self", t, AT);
        let later = t + SELF_LASTS - MS;
        assert!(!seat.want(later, later) && seat.is_settled(later, later, WAIT));
        assert!(seat.news(later, later).is_self && seat.news(later, later).fresh().is_none());
        let over = t + SELF_LASTS;
        assert!(seat.want(over, over) && seat.begin(over));
        seat.end(answer("another"), "self", over, AT);
        assert!(seat.news(over, over).fresh().is_some());
    }
}
