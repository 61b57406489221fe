//! Lines about changes, a bounded number of them: a role that is refused and let in many times a second is one piece of
//! news. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many lines in a [`WINDOW`].
const MAX_LINES: usize = 8;

const WINDOW: Duration = Duration::from_secs(10);

/// Counts lines, and those that were held back.
#[derive(Default)]
pub(super) struct Damper {
    lines: VecDeque<Instant>,
    held_back: u64,
}

impl Damper {
    /// Whether a change may have a line now; if not, it is counted.
    pub(super) fn lets_through(&mut self, now: Instant) -> bool {
        self.forget_old(now);
        if self.lines.len() >= MAX_LINES {
            self.held_back += 1;
            return false;
        }
        self.lines.push_back(now);
        true
    }

    /// How many changes had no line, once that can be said.
    pub(super) fn take_held_back(&mut self, now: Instant) -> Option<u64> {
        self.forget_old(now);
        if self.held_back == 0 || self.lines.len() >= MAX_LINES {
            return None;
        }
        Some(std::mem::take(&mut self.held_back))
    }

    fn forget_old(&mut self, now: Instant) {
        while self.lines.front().is_some_and(|line| now.saturating_duration_since(*line) >= WINDOW) {
            self.lines.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_has_its_first_lines_and_one_about_the_rest() {
        let begun = Instant::now();
        let mut damper = Damper::default();
        let let_through = (0..100).filter(|ms| damper.lets_through(begun + Duration::from_millis(*ms)));
        assert_eq!(let_through.count(), MAX_LINES);
        assert_eq!(damper.take_held_back(begun + Duration::from_millis(100)), None);
        let later = begun + WINDOW + Duration::from_millis(100);
        assert_eq!(damper.take_held_back(later), Some(100 - MAX_LINES as u64));
        assert_eq!(damper.take_held_back(later), None);
        assert!(damper.lets_through(later));
    }
}
