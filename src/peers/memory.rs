//! What sticks of a peer's words although it is silent. Pure.

use std::sync::Arc;
use std::time::SystemTime;

use super::statement::Statement;
use crate::instance::Role;

/// That a peer's instance was seen on a timeline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Claim {
    /// Of which system.
    pub system_identifier: u64,
    /// On which timeline, at least.
    pub timeline: u32,
    /// Which instance.
    pub postmaster_started_unix_s: Option<f64>,
    /// When it said so last, by this host's clock.
    pub seen: SystemTime,
}

/// Of one peer. That it cannot be reached, or that its PostgreSQL is down, changes nothing here; but one that is down has no
/// sender.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Memory {
    /// The last timeline it was on, in any role.
    pub(super) claim: Option<Claim>,
    /// The same where it was a primary then that did not drain.
    pub(super) rival: Option<Claim>,
    /// The answer in which it told last by which names its sender knows it; `None` where it has no sender any more.
    pub(super) told: Option<Arc<Statement>>,
}

impl Memory {
    pub(super) fn hear(&mut self, said: &Arc<Statement>, now: SystemTime) {
        if let Some(system_identifier) = said.system_identifier {
            let before = self.claim.filter(|claim| claim.system_identifier == system_identifier);
            self.claim = match before {
                Some(before) if says_too_little(&before, said) => Some(Claim { seen: now, ..before }),
                _ => said.timeline.map(|timeline| Claim {
                    system_identifier,
                    timeline: timeline
                        .max(before.filter(|claim| is_same(claim, said)).map_or(0, |it| it.timeline)),
                    postmaster_started_unix_s: said.postmaster_started_unix_s,
                    seen: now,
                }),
            };
        }
        match said.role {
            _ if said.draining == Some(true) => self.rival = None,
            Some(Role::Primary) => self.rival = self.claim,
            Some(Role::Standby) => self.rival = None,
            None => {}
        }
        if said.tells_names() {
            self.told = Some(Arc::clone(said));
        } else if said.role == Some(Role::Primary) || said.is_down() {
            self.told = None;
        }
    }

    /// The peer turned out to be somebody who does not count: oneself.
    pub(super) fn forget(&mut self) {
        *self = Memory::default();
    }
}

/// A standby that has just started and receives nothing knows the timeline of its last restartpoint alone. It may have
/// followed a promotion since; whether it was rebuilt shows when it receives.
fn says_too_little(claim: &Claim, said: &Statement) -> bool {
    said.role == Some(Role::Standby)
        && said.receives == Some(false)
        && said.timeline.is_none_or(|timeline| timeline < claim.timeline)
}

/// What a standby says is a lower bound; but a postmaster that runs never goes back to a lower timeline.
fn is_same(claim: &Claim, said: &Statement) -> bool {
    let started = claim.postmaster_started_unix_s.zip(said.postmaster_started_unix_s);
    said.role == Some(Role::Standby) && started.is_some_and(|(before, now)| before == now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn said(role: Option<Role>, timeline: u32) -> Statement {
        Statement {
            agent: "a".into(),
            name: String::new(),
            role,
            reason: None,
            draining: Some(false),
            system_identifier: role.map(|_| 7),
            timeline: role.map(|_| timeline),
            lsn: None,
            postmaster_started_unix_s: role.map(|_| 1.5),
            receives: None,
            slot: None,
            application_name: None,
            standbys: None,
            cascaded: None,
        }
    }

    fn heard(words: &[Statement]) -> (Option<u32>, Option<u32>) {
        let mut memory = Memory::default();
        words.iter().for_each(|said| memory.hear(&Arc::new(said.clone()), NOW));
        (memory.claim.map(|claim| claim.timeline), memory.rival.map(|rival| rival.timeline))
    }

    #[test]
    fn what_was_said_last_sticks_while_the_instance_is_down() {
        let primary = said(Some(Role::Primary), 3);
        assert_eq!(heard(&[primary.clone(), said(None, 0)]), (Some(3), Some(3)));
        assert_eq!(heard(&[primary.clone(), said(Some(Role::Standby), 4)]), (Some(4), None));
        assert_eq!(heard(&[primary.clone(), said(Some(Role::Primary), 4)]), (Some(4), Some(4)));
        let drained = Statement { draining: Some(true), ..said(None, 0) };
        assert_eq!(heard(&[primary.clone(), drained]), (Some(3), None));
        let foreign = Statement { system_identifier: Some(8), ..said(Some(Role::Primary), 1) };
        assert_eq!(heard(&[primary, foreign]), (Some(1), Some(1)));
        assert_eq!(heard(&[]), (None, None));
    }

    #[test]
    fn the_names_of_a_standby_stick_until_it_has_no_sender() {
        let named = Statement { slot: Some("s".into()), ..said(Some(Role::Standby), 3) };
        let failing = |reason: Reason| Statement { reason: Some(reason.word().into()), ..said(None, 0) };
        for (next, sticks) in [
            (named.clone(), true),
            (said(Some(Role::Standby), 3), true),
            (failing(Reason::TooManyClients), true),
            (failing(Reason::ConnectionRefused), false),
            (said(Some(Role::Primary), 4), false),
        ] {
            let mut memory = Memory::default();
            memory.hear(&Arc::new(named.clone()), NOW);
            memory.hear(&Arc::new(next.clone()), NOW);
            assert_eq!(memory.told.is_some(), sticks, "{next:?}");
        }
    }

    #[test]
    fn a_standby_goes_back_to_a_lower_timeline_only_after_a_restart() {
        let standby = said(Some(Role::Standby), 3);
        let earlier = said(Some(Role::Standby), 2);
        assert_eq!(heard(&[standby.clone(), earlier.clone()]).0, Some(3));
        let rebuilt = Statement { postmaster_started_unix_s: Some(2.5), ..earlier };
        assert_eq!(heard(&[standby, rebuilt]).0, Some(2));
    }

    #[test]
    fn a_standby_that_receives_nothing_takes_nothing_back() {
        let standby = Statement { receives: Some(true), ..said(Some(Role::Standby), 3) };
        let crashed = Statement {
            postmaster_started_unix_s: Some(2.5),
            receives: Some(false),
            ..said(Some(Role::Standby), 2)
        };
        assert_eq!(heard(&[standby.clone(), crashed.clone()]).0, Some(3));
        let further = Statement { timeline: Some(4), ..crashed.clone() };
        assert_eq!(heard(&[standby.clone(), further]).0, Some(4));
        // Rebuilt, it follows the lower one.
        let rebuilt = Statement { receives: Some(true), ..crashed.clone() };
        assert_eq!(heard(&[standby.clone(), crashed, rebuilt]).0, Some(2));
        let promoted = Statement { postmaster_started_unix_s: Some(2.5), ..said(Some(Role::Primary), 2) };
        assert_eq!(heard(&[standby, promoted]).0, Some(2));
    }
}
