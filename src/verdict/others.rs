//! Whom it can matter to ask beside the instance, and for whom it is worth waiting now that the instance has been looked at.

use super::judge::{Verdict, judge, judge_drain};
use super::{Path, Target};
use crate::instance::{Drain, Observation, Role};

impl Target {
    /// Whether what other nodes say can matter to it.
    pub fn asks_peers(self) -> bool {
        match self.path {
            Path::Status | Path::Metrics | Path::Cluster => true,
            Path::Health | Path::Liveness | Path::Node => false,
            // A standby is one whatever others say; how far behind it is they may know better.
            path => path.is_for_primaries() || path.compares_standbys() || self.limits.is_some(),
        }
    }

    /// Whether it is worth waiting for what other nodes say, now that this one has been looked at.
    pub fn waits_for_peers(self, observation: &Observation) -> bool {
        let is_drained = observation.drain == Drain::On && self.path.is_drained();
        self.asks_peers()
            && (self.path.is_document()
                || observation.sighting().is_some_and(|sighting| match sighting.role {
                    Role::Primary => !is_drained && self.path.is_for_primaries(),
                    Role::Standby => !is_drained && (self.limits.is_some() || self.path.compares_standbys()),
                }))
    }

    /// Whether it matters that clients get through the poolers.
    pub fn asks_poolers(self) -> bool {
        self.path.is_about_work()
    }

    /// Whether it is worth waiting for the poolers, now that the instance has been looked at.
    pub fn waits_for_poolers(self, observation: &Observation) -> bool {
        let is_open = judge_drain(observation).is_none() && observation.sighting().is_some();
        self.asks_poolers() && (self.path.is_document() || is_open)
    }

    /// Whether it can matter that a primary commits.
    pub fn asks_for_commit(self) -> bool {
        self.path.is_for_writers() || self.path.is_document() && self.path.is_about_work()
    }

    /// Whether somebody is asked beside the instance.
    pub fn asks_others(self) -> bool {
        self.asks_peers() || self.asks_poolers() || self.asks_for_commit()
    }

    /// Whether this primary has to show now that it commits: all that is known of it speaks for it, so that clients would be
    /// sent here.
    pub fn waits_for_commit(self, observation: &Observation) -> bool {
        let path = if self.path.is_document() { Path::Contract } else { self.path };
        self.asks_for_commit() && judge(Target { path, ..self }, observation) == Verdict::Holds(Role::Primary)
    }
}
