//! From what was observed and what was asked to a verdict.

use super::Target;
use crate::instance::{Observation, Role, Sighting};
use crate::reason::Reason;

/// What the observation means for the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Verified: the target holds, and this is the role.
    Holds(Role),
    /// Verified: the target does not hold.
    No(Reason),
    /// Not verified.
    Down(Reason),
}

/// Judges. Primary means `pg_is_in_recovery()` was false in this very observation; unknown is never a role.
pub fn judge(target: Target, observation: &Observation) -> Verdict {
    let sighting = match observation {
        Ok(sighting) => sighting,
        Err(failure) => return Verdict::Down(failure.reason),
    };
    match (target, sighting.role) {
        (Target::Contract | Target::ReadOnly | Target::Health | Target::Liveness, role) => {
            Verdict::Holds(role)
        }
        (Target::Primary, Role::Primary) => Verdict::Holds(Role::Primary),
        (Target::Primary | Target::ReadWrite, Role::Standby) => Verdict::No(Reason::InRecovery),
        (Target::ReadWrite, Role::Primary) => judge_writability(sighting),
        (Target::Standby, Role::Standby) => Verdict::Holds(Role::Standby),
        (Target::Standby, Role::Primary) => Verdict::No(Reason::NotInRecovery),
    }
}

fn judge_writability(sighting: &Sighting) -> Verdict {
    match sighting.read_only_default {
        Some(false) => Verdict::Holds(Role::Primary),
        Some(true) => Verdict::No(Reason::ReadOnly),
        // The probe did not look: an answer would be a guess.
        None => Verdict::Down(Reason::QueryFailed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Failure;

    fn seen(role: Role, read_only_default: Option<bool>) -> Observation {
        Ok(Sighting { role, read_only_default, timeline: None })
    }

    #[test]
    fn verdicts_follow_role_and_target() {
        use Role::{Primary, Standby};
        use Verdict::{Holds, No};
        let table = [
            (Target::Contract, Holds(Primary), Holds(Standby)),
            (Target::Primary, Holds(Primary), No(Reason::InRecovery)),
            (Target::ReadWrite, Holds(Primary), No(Reason::InRecovery)),
            (Target::Standby, No(Reason::NotInRecovery), Holds(Standby)),
            (Target::ReadOnly, Holds(Primary), Holds(Standby)),
            (Target::Health, Holds(Primary), Holds(Standby)),
        ];
        for (target, on_primary, on_standby) in table {
            assert_eq!(judge(target, &seen(Primary, Some(false))), on_primary, "{target:?}");
            assert_eq!(judge(target, &seen(Standby, Some(false))), on_standby, "{target:?}");
            let failure = Err(Failure::new(Reason::StartingUp, ""));
            assert_eq!(judge(target, &failure), Verdict::Down(Reason::StartingUp), "{target:?}");
        }
    }

    #[test]
    fn read_write_needs_a_primary_that_writes() {
        let on = |default| judge(Target::ReadWrite, &seen(Role::Primary, default));
        assert_eq!(on(Some(true)), Verdict::No(Reason::ReadOnly));
        assert_eq!(on(None), Verdict::Down(Reason::QueryFailed));
    }
}
