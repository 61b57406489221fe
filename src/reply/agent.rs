//! HAProxy's agent-check: one line that says a complete state. Fixed to the byte.
//!
//! A partial state would stay behind: `up` does not undo `drain`, and a weight lasts until the next one (HAProxy's
//! configuration.txt, "agent-check"). So every line that takes a server in says `ready` and a weight, and what takes it
//! out is undone by that.

use crate::instance::Observation;
use crate::reason::Reason;
use crate::verdict::{Otherwise, Target, Verdict, judge, judge_drain, weight_percent};

/// A line for HAProxy before it is put into bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentReply {
    /// In, with this share of its weight, 1 to 100.
    Up(u8),
    /// It keeps its sessions and gets no new ones.
    Drain,
    /// Out; the reason stands in HAProxy's log and on its stats page.
    Down(Reason),
    /// Verified, but not what was asked for: out, and nothing to be alarmed at.
    Maint(Reason),
}

impl AgentReply {
    /// `/liveness`.
    pub const ALIVE: AgentReply = AgentReply::Up(100);

    /// What was asked is no target, or none that a state can follow from.
    pub const BAD_REQUEST: AgentReply = AgentReply::Down(Reason::BadRequest);

    /// What an observation means here. Unlike over HTTP a node that drains does so for every target, or `/health`, which
    /// HAProxy gets without asking anything, would put it back in.
    pub fn judge(target: Target, observation: &Observation) -> Verdict {
        judge_drain(observation).unwrap_or_else(|| judge(target, observation))
    }

    /// The answer to a target that the instance was looked at for.
    pub fn of_observation(target: Target, observation: &Observation) -> AgentReply {
        match AgentReply::judge(target, observation) {
            Verdict::Holds(_) => AgentReply::Up(weight_percent(target, observation)),
            Verdict::Draining => AgentReply::Drain,
            Verdict::No(reason) => match target.otherwise {
                Otherwise::Down => AgentReply::Down(reason),
                Otherwise::Maint => AgentReply::Maint(reason),
            },
            Verdict::Down(reason) => AgentReply::Down(reason),
        }
    }

    /// The code that says as much over HTTP.
    pub fn http_status(self) -> u16 {
        match self {
            AgentReply::Up(_) => 200,
            AgentReply::Drain => 404,
            AgentReply::BAD_REQUEST => 400,
            AgentReply::Down(_) | AgentReply::Maint(_) => 503,
        }
    }

    /// The line without its line feed.
    pub fn line(self) -> String {
        match self {
            AgentReply::Up(percent) => format!("up ready {percent}%"),
            AgentReply::Drain => "up drain".into(),
            AgentReply::Down(reason) => format!("down #{reason}"),
            AgentReply::Maint(reason) => format!("up maint #{reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::instance::{Drain, Failure, Lsn, Receiver, Recovery, Replication, Role, Sighting};

    fn line(target: &str, drain: Drain, instance: Option<Result<Sighting, Failure>>) -> String {
        let target = Target::parse(target).unwrap();
        AgentReply::of_observation(target, &Observation::new(drain, instance, None)).line()
    }

    fn primary() -> Option<Result<Sighting, Failure>> {
        Some(Ok(Sighting::of_role(Role::Primary)))
    }

    /// 63 of 100 bytes behind.
    fn standby() -> Option<Result<Sighting, Failure>> {
        let replication = Replication {
            replayed: Some(Lsn(37)),
            received: Some(Lsn(100)),
            last_commit_age: Some(Duration::from_secs(1)),
            receiver: Some(Receiver::default()),
        };
        let recovery = Some(Recovery::default());
        Some(Ok(Sighting { recovery, replication: Some(replication), ..Sighting::of_role(Role::Standby) }))
    }

    fn stopped() -> Option<Result<Sighting, Failure>> {
        Some(Err(Failure::new(Reason::ConnectionRefused, "")))
    }

    #[test]
    fn every_line_is_a_complete_state() {
        for (target, on_primary, on_standby) in [
            ("/", "up ready 100%", "up ready 100%"),
            ("/health", "up ready 100%", "up ready 100%"),
            ("/primary", "up ready 100%", "down #in-recovery"),
            ("/replica", "down #not-in-recovery", "up ready 100%"),
            ("/replica?lag=100", "down #not-in-recovery", "up ready 37%"),
            ("/read-only?lag=63", "up ready 100%", "up ready 1%"),
            ("/?lag=62", "up ready 100%", "down #lag-exceeded"),
            ("/primary?else=maint", "up ready 100%", "up maint #in-recovery"),
            ("/replica?lag=100&else=maint", "up maint #not-in-recovery", "up ready 37%"),
            ("/replica?else=maint&lag=62", "up maint #not-in-recovery", "up maint #lag-exceeded"),
        ] {
            assert_eq!(line(target, Drain::Off, primary()), on_primary, "{target}");
            assert_eq!(line(target, Drain::Off, standby()), on_standby, "{target}");
            assert_eq!(line(target, Drain::Off, stopped()), "down #connection-refused", "{target}");
        }
        assert_eq!(AgentReply::ALIVE.line(), "up ready 100%");
        assert_eq!(AgentReply::BAD_REQUEST.line(), "down #bad-request");
    }

    #[test]
    fn a_node_that_drains_does_so_for_every_target() {
        for target in ["/", "/primary", "/read-write", "/replica?lag=1", "/read-only", "/health"] {
            assert_eq!(line(target, Drain::On, None), "up drain", "{target}");
            assert_eq!(line(target, Drain::On, primary()), "up drain", "{target}");
            assert_eq!(line(target, Drain::Unknown, primary()), "down #drain-unknown", "{target}");
            assert_eq!(line(target, Drain::NotLooked, primary()), "down #drain-unknown", "{target}");
            assert_eq!(line(target, Drain::NotLooked, stopped()), "down #connection-refused", "{target}");
        }
    }
}
