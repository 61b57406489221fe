//! What a running look is busy with, and what it has seen on the way: read by those who run out of time.

use std::fmt::Display;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{Drain, Failure, Observation};
use crate::reason::Reason;

/// What a probe is busy with, so that whoever runs out of time can say what it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Looking for the drain file.
    LookingForDrain,
    /// Looking up the host name.
    Resolving,
    /// Opening a TCP connection for the knock.
    Connecting,
    /// Waiting for the postmaster's answer to the knock.
    Knocking,
    /// Logging in.
    LoggingIn,
    /// Waiting for the answer to the query.
    Querying,
}

impl Stage {
    /// The failure of a probe that is given up in this stage; `when` ends its cause.
    pub fn overdue(self, when: impl Display) -> Failure {
        Failure::new(self.overdue_reason(), format!("still {} {when}", self.describe()))
    }

    fn overdue_reason(self) -> Reason {
        match self {
            Stage::Resolving => Reason::NameNotResolved,
            Stage::Connecting => Reason::Unreachable,
            Stage::Knocking => Reason::PostmasterNotAnswering,
            Stage::LookingForDrain | Stage::LoggingIn | Stage::Querying => Reason::DeadlinePassed,
        }
    }

    /// Whether the stage ends by itself at the probe's deadline.
    pub fn is_bounded(self) -> bool {
        match self {
            Stage::Connecting | Stage::Knocking => true,
            Stage::LookingForDrain | Stage::Resolving | Stage::LoggingIn | Stage::Querying => false,
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Stage::LookingForDrain => "looking for the drain file",
            Stage::Resolving => "looking up the host name",
            Stage::Connecting => "connecting",
            Stage::Knocking => "waiting for the postmaster's answer to the knock",
            Stage::LoggingIn => "logging in",
            Stage::Querying => "waiting for the answer to the query",
        }
    }
}

/// The stage of a running probe and what it has seen on the way, readable from other threads.
#[derive(Debug)]
pub struct StageCell {
    stage: AtomicU8,
    drain: AtomicU8,
}

impl StageCell {
    const STAGES: [Stage; 6] = [
        Stage::LookingForDrain,
        Stage::Resolving,
        Stage::Connecting,
        Stage::Knocking,
        Stage::LoggingIn,
        Stage::Querying,
    ];

    const DRAINS: [Drain; 4] = [Drain::NotLooked, Drain::Off, Drain::On, Drain::Unknown];

    /// A cell of a probe that has not begun.
    pub fn new() -> StageCell {
        StageCell {
            stage: AtomicU8::new(Stage::Querying as u8),
            drain: AtomicU8::new(Drain::NotLooked as u8),
        }
    }

    /// Called before a probe that others wait for: nothing has been seen yet.
    pub fn restart(&self) {
        self.saw(Drain::NotLooked);
    }

    /// Called by the probe.
    pub fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// Called by the probe.
    pub fn saw(&self, drain: Drain) {
        self.drain.store(drain as u8, Ordering::Relaxed);
    }

    /// Called by whoever waits.
    pub fn get(&self) -> Stage {
        Self::STAGES[usize::from(self.stage.load(Ordering::Relaxed))]
    }

    /// What is known for those who wait no longer: the drain file, if it was looked for, and no instance.
    pub fn cut_short(&self, failure: Failure) -> Observation {
        let drain = Self::DRAINS[usize::from(self.drain.load(Ordering::Relaxed))];
        Observation { drain, ..Observation::failed(failure) }
    }
}

impl Default for StageCell {
    fn default() -> Self {
        StageCell::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_no_longer_learns_of_the_drain_file_what_was_seen() {
        let cell = StageCell::new();
        let known = || cell.cut_short(Failure::new(Reason::DeadlinePassed, "")).drain;
        assert_eq!(known(), Drain::NotLooked);
        for drain in StageCell::DRAINS {
            cell.saw(drain);
            assert_eq!(known(), drain);
        }
        cell.restart();
        assert_eq!(known(), Drain::NotLooked);
    }
}
