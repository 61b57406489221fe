//! One probe and the requests that share it.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::instance::{Needs, Observation, StageCell};

/// Waits, then runs, then is settled; each happens once.
pub(super) struct Flight {
    needs: Mutex<Needs>,
    begun: OnceLock<Instant>,
    outcome: OnceLock<Observation>,
    pub(super) stage: StageCell,
}

impl Flight {
    pub(super) fn new() -> Flight {
        Flight {
            needs: Mutex::new(Needs::default()),
            begun: OnceLock::new(),
            outcome: OnceLock::new(),
            stage: StageCell::new(),
        }
    }

    pub(super) fn add_needs(&self, needs: Needs) {
        let mut all = self.needs.lock().unwrap_or_else(PoisonError::into_inner);
        *all = all.union(needs);
    }

    pub(super) fn needs(&self) -> Needs {
        *self.needs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, now: Instant) {
        let _ = self.begun.set(now);
    }

    /// Zero for a flight that has not begun.
    pub(super) fn running_for(&self, now: Instant) -> Duration {
        self.begun.get().map_or(Duration::ZERO, |begun| now.saturating_duration_since(*begun))
    }

    /// When the flight has had the whole timeout.
    pub(super) fn overdue_at(&self, timeout: Duration, now: Instant) -> Instant {
        *self.begun.get().unwrap_or(&now) + timeout
    }

    /// Only the first outcome counts: a flight that was given up stays so, whatever its prober says later.
    pub(super) fn settle(&self, outcome: Observation) {
        let _ = self.outcome.set(outcome);
    }

    pub(super) fn outcome(&self) -> Option<Observation> {
        self.outcome.get().cloned()
    }
}
