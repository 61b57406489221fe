//! What is remembered for the documents: the last changes, and the lag of the last hour. Its memory is fixed.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use super::Condition;

/// Changes that are remembered; the oldest gives way.
pub const MAX_TRANSITIONS: usize = 20;

/// How much time shares one sample of the lag.
pub const LAG_BUCKET: Duration = Duration::from_secs(10);

/// The last hour.
pub const LAG_BUCKETS: usize = 360;

/// A copy of what is remembered, for one document.
#[derive(Clone, Debug, PartialEq)]
pub struct Chronicle {
    /// When it was copied, by this host's clock.
    pub now: SystemTime,
    /// What the instance was last seen to be, and since when; `None` where nobody has looked, or nothing is
    /// remembered.
    pub condition: Option<(Condition, SystemTime)>,
    /// The newest first, [`MAX_TRANSITIONS`] at most.
    pub transitions: Vec<Transition>,
    /// The oldest first, one for each [`LAG_BUCKET`] of the last hour; empty where nothing is remembered.
    pub lag: Vec<LagSample>,
}

impl Chronicle {
    /// What a process remembers that looks only once.
    pub fn blank() -> Chronicle {
        Chronicle { now: SystemTime::now(), condition: None, transitions: Vec::new(), lag: Vec::new() }
    }
}

/// Something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// When it was noticed, by this host's clock.
    pub at: SystemTime,
    /// What changed.
    pub change: Change,
}

/// What can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The instance.
    Condition {
        /// `None` for the first look.
        from: Option<Condition>,
        /// What it is now.
        to: Condition,
    },
    /// The drain file came or went.
    Drain {
        /// Whether it was there before; `None` where nobody had looked.
        from: Option<bool>,
        /// Whether it is there now.
        to: bool,
    },
}

/// The lag during a moment of the last hour. The later variant is the worse news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LagSample {
    /// Nobody asked for it.
    NotAsked,
    /// The largest that was seen, in bytes.
    Bytes(u64),
    /// It could not be known, at least once.
    Unknown,
}

/// The rings behind a [`Chronicle`].
pub(super) struct Rings {
    transitions: VecDeque<Transition>,
    lag: VecDeque<LagSample>,
    /// When the last bucket begins.
    bucket_begins: Instant,
}

impl Rings {
    pub(super) fn new(now: Instant) -> Rings {
        let lag = VecDeque::from([LagSample::NotAsked; LAG_BUCKETS]);
        Rings { transitions: VecDeque::with_capacity(MAX_TRANSITIONS), lag, bucket_begins: now }
    }

    pub(super) fn record_change(&mut self, change: Change) {
        self.transitions.truncate(MAX_TRANSITIONS - 1);
        self.transitions.push_front(Transition { at: SystemTime::now(), change });
    }

    pub(super) fn record_lag(&mut self, sample: LagSample, now: Instant) {
        self.advance(now);
        if let Some(last) = self.lag.back_mut() {
            *last = sample.max(*last);
        }
    }

    pub(super) fn copy(&mut self, condition: Option<(Condition, SystemTime)>, now: Instant) -> Chronicle {
        self.advance(now);
        Chronicle {
            now: SystemTime::now(),
            condition,
            transitions: self.transitions.iter().copied().collect(),
            lag: self.lag.iter().copied().collect(),
        }
    }

    /// Begins the buckets that time has brought since.
    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.bucket_begins).as_secs() / LAG_BUCKET.as_secs();
        for _ in 0..passed.min(LAG_BUCKETS as u64) {
            self.lag.pop_front();
            self.lag.push_back(LagSample::NotAsked);
        }
        self.bucket_begins += LAG_BUCKET * u32::try_from(passed).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(rings: &mut Rings, now: Instant) -> Vec<LagSample> {
        let lag = rings.copy(None, now).lag;
        assert_eq!(lag.len(), LAG_BUCKETS);
        lag[LAG_BUCKETS - 4..].to_vec()
    }

    #[test]
    fn a_bucket_holds_the_worst_news_and_one_without_a_question_is_a_gap() {
        use LagSample::{Bytes, NotAsked, Unknown};
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut rings = Rings::new(begun);
        for (seconds, sample) in
            [(1, Bytes(5)), (2, Bytes(90)), (9, Bytes(7)), (25, Bytes(1)), (31, Unknown), (32, Bytes(3))]
        {
            rings.record_lag(sample, at(seconds));
        }
        assert_eq!(tail(&mut rings, at(39)), [Bytes(90), NotAsked, Bytes(1), Unknown]);
        assert_eq!(tail(&mut rings, at(41)), [NotAsked, Bytes(1), Unknown, NotAsked]);
        assert_eq!(rings.copy(None, at(3639)).lag.iter().filter(|sample| **sample != NotAsked).count(), 0);
    }

    #[test]
    fn the_memory_is_fixed() {
        let begun = Instant::now();
        let mut rings = Rings::new(begun);
        for hour in 0..100 {
            rings.record_change(Change::Drain { from: Some(hour % 2 == 0), to: hour % 2 == 1 });
            rings.record_lag(LagSample::Bytes(hour), begun + Duration::from_secs(3600 * hour));
        }
        let copy = rings.copy(None, begun + Duration::from_secs(3600 * 99));
        assert_eq!((copy.transitions.len(), copy.lag.len()), (MAX_TRANSITIONS, LAG_BUCKETS));
        assert_eq!(copy.transitions[0].change, Change::Drain { from: Some(false), to: true });
        assert_eq!(copy.lag.last(), Some(&LagSample::Bytes(99)));
    }
}
