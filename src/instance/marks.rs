//! When a standby had replayed all that it knew of, from earlier looks at it. Pure.
//!
//! The age of the last commit says how old a standby's data is only while commits come. One that keeps up with a long
//! transaction, or receives its first WAL after an idle night, would seem to lag by the age of the commit before. But a
//! position that was known at an earlier look and is replayed now proves that what is missing has come since.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Lsn, Replication};

/// Positions that wait for their replay. When they are as many, later ones are not kept, and the lag seems larger.
const MAX_MARKS: usize = 64;

/// Between two positions that are kept: how exact the lag is, at least.
const SPACING: Duration = Duration::from_millis(50);

/// What is remembered between looks over one session, and of one WAL receiver: while there is none that lives, what is
/// known of the sender gets older, and so does what a new one begins with.
#[derive(Debug, Default)]
pub(super) struct Marks {
    receiver_pid: u32,
    /// Not replayed yet at the last look; the oldest first.
    waiting: VecDeque<(Instant, Lsn)>,
    /// The time of the last position that was seen to be replayed.
    caught_up: Option<Instant>,
}

impl Marks {
    /// Compares with earlier looks, and keeps this one, which began at `now`. Says how long ago everything was known
    /// that is replayed now; `None` where no earlier look knew so little.
    pub(super) fn compare(&mut self, replication: &Replication, now: Instant) -> Option<Duration> {
        let receiver = replication.receiver.as_ref().filter(|receiver| !receiver.is_silent());
        let receiver_pid = receiver.map_or(0, |receiver| receiver.pid);
        if receiver_pid != self.receiver_pid {
            *self = Marks { receiver_pid, ..Marks::default() };
        }
        receiver?;
        let (replayed, end) = replication.replayed.zip(replication.known_end())?;
        let replayed_marks = self.waiting.iter().take_while(|(_, position)| *position <= replayed).count();
        if let Some((time, _)) = self.waiting.drain(..replayed_marks).next_back() {
            self.caught_up = Some(time);
        }
        if end <= replayed {
            self.caught_up = Some(now);
        } else if self.is_worth_keeping(now, end) {
            self.waiting.push_back((now, end));
        }
        self.caught_up.map(|time| now.saturating_duration_since(time))
    }

    fn is_worth_keeping(&self, now: Instant, end: Lsn) -> bool {
        let is_new = |(time, position): &(Instant, Lsn)| *position < end && *time + SPACING <= now;
        self.waiting.len() < MAX_MARKS && self.waiting.back().is_none_or(is_new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Receiver;

    const STEP: Duration = Duration::from_millis(100);

    fn at(replayed: u64, received: u64) -> Replication {
        Replication {
            replayed: Some(Lsn(replayed)),
            received: Some(Lsn(received)),
            receiver: Some(Receiver { pid: 4711, ..Receiver::default() }),
            ..Replication::default()
        }
    }

    #[test]
    fn what_another_receiver_knew_does_not_count() {
        let (mut marks, now) = (Marks::default(), Instant::now());
        assert_eq!(marks.compare(&at(50, 50), now), Some(Duration::ZERO));
        let gone = Replication { receiver: None, ..at(50, 50) };
        assert_eq!(marks.compare(&gone, now + STEP), None);
        assert_eq!(marks.compare(&at(50, 90), now + 2 * STEP), None);

        assert_eq!(marks.compare(&at(90, 90), now + 3 * STEP), Some(Duration::ZERO));
        let mut other = at(90, 95);
        other.receiver = Some(Receiver { pid: 4712, ..Receiver::default() });
        assert_eq!(marks.compare(&other, now + 4 * STEP), None);
    }

    #[test]
    fn a_position_that_is_replayed_now_says_how_old_the_rest_can_be() {
        let (mut marks, start) = (Marks::default(), Instant::now());
        let mut compare = |steps, replayed, end| marks.compare(&at(replayed, end), start + steps * STEP);
        assert_eq!(compare(0, 10, 20), None, "who knows since when");
        assert_eq!(compare(1, 15, 30), None);
        assert_eq!(compare(2, 25, 40), Some(2 * STEP), "20 was known at 0");
        assert_eq!(compare(3, 40, 50), Some(STEP), "40 was known at 2");
        assert_eq!(compare(4, 40, 50), Some(2 * STEP));
        assert_eq!(compare(5, 50, 50), Some(Duration::ZERO));
        assert_eq!(compare(9, 50, 60), Some(4 * STEP));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_never_makes_the_lag_look_smaller() {
        let (mut marks, start) = (Marks::default(), Instant::now());
        marks.compare(&at(0, 0), start);
        for step in 1..1000 {
            let age = marks.compare(&at(0, step.into()), start + step * STEP);
            assert_eq!(age, Some(step * STEP), "nothing is replayed");
        }
        assert_eq!(marks.waiting.len(), MAX_MARKS);
        let age = marks.compare(&at(900, 2000), start + 1000 * STEP);
        assert_eq!(age, Some(936 * STEP), "the last one that was kept is of step 64");
    }
}
