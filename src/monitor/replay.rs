//! When a standby's replay began to stand still, and when it went on: a line in the log for each.

use std::time::{Duration, Instant};

use crate::instance::{Observation, Recovery, ReplayDelay, Role};

/// What was last seen of the two ways in which replay can stand still; each since when.
#[derive(Default)]
pub(super) struct ReplayLog {
    paused: Option<Instant>,
    delayed: Option<Instant>,
}

impl ReplayLog {
    /// Only a look that asked for it changes anything, or one that saw a primary, which replays nothing.
    pub(super) fn record(&mut self, outcome: &Observation, now: Instant) {
        for line in self.lines(outcome, now) {
            log::info!(target: "pgsqlchk", "{line}");
        }
    }

    fn lines(&mut self, outcome: &Observation, now: Instant) -> Vec<String> {
        let Some(sighting) = outcome.sighting() else { return Vec::new() };
        let recovery = match (sighting.role, sighting.recovery) {
            (Role::Primary, _) => Recovery::default(),
            (Role::Standby, Some(recovery)) => recovery,
            (Role::Standby, None) => return Vec::new(),
        };
        let delay = match sighting.role {
            Role::Primary => Some(Duration::ZERO),
            Role::Standby => configured_delay(&recovery),
        };
        let pause_changed = change(&mut self.paused, recovery.is_paused, now);
        let delay_changed = delay.and_then(|delay| change(&mut self.delayed, !delay.is_zero(), now));
        let delay_s = delay.unwrap_or_default().as_secs_f64();
        let paused = pause_changed.map(|change| match change {
            Change::Began => "replay is paused".to_owned(),
            Change::Ended(held) => format!("replay is paused no more after {:.1} s", held.as_secs_f64()),
        });
        let delayed = delay_changed.map(|change| match change {
            Change::Began => format!("replay is delayed by {delay_s} s"),
            Change::Ended(held) => format!("replay is delayed no more after {:.1} s", held.as_secs_f64()),
        });
        paused.into_iter().chain(delayed).collect()
    }
}

enum Change {
    Began,
    Ended(Duration),
}

fn change(since: &mut Option<Instant>, is_so: bool, now: Instant) -> Option<Change> {
    match (*since, is_so) {
        (None, true) => {
            *since = Some(now);
            Some(Change::Began)
        }
        (Some(begun), false) => {
            *since = None;
            Some(Change::Ended(now.saturating_duration_since(begun)))
        }
        (None, false) | (Some(_), true) => None,
    }
}

/// `None` is no news: nobody needed it. Nor is a single commit that is seen to be held back, before PostgreSQL 12: that
/// would be two lines for each.
fn configured_delay(recovery: &Recovery) -> Option<Duration> {
    match recovery.delay {
        Some(ReplayDelay::Of(delay)) => Some(delay),
        Some(ReplayDelay::HoldsBack) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::{Drain, Failure, Sighting};
    use crate::reason::Reason;

    fn seen(role: Role, recovery: Option<Recovery>) -> Observation {
        let sighting = Sighting { recovery, ..Sighting::of_role(role) };
        Observation::new(Drain::Off, Some(Ok(sighting)), None)
    }

    fn standby(is_paused: bool, delay_s: u64) -> Observation {
        let delay = Some(ReplayDelay::Of(Duration::from_secs(delay_s)));
        seen(Role::Standby, Some(Recovery { is_paused, delay, ..Recovery::default() }))
    }

    #[test]
    fn each_beginning_and_each_end_is_one_line() {
        let begun = Instant::now();
        let down = Observation::failed(Failure::new(Reason::ConnectionRefused, ""));
        let holds_back = Recovery { delay: Some(ReplayDelay::HoldsBack), ..Recovery::default() };
        let story: [(Observation, &[&str]); 13] = [
            (standby(false, 0), &[]),
            (standby(true, 0), &["replay is paused"]),
            (standby(true, 0), &[]),
            // A plain check on `/` does not ask.
            (seen(Role::Standby, None), &[]),
            (down, &[]),
            (standby(false, 300), &["replay is paused no more after 4.0 s", "replay is delayed by 300 s"]),
            (standby(false, 60), &[]),
            // Nor does /replica ask for the delay.
            (seen(Role::Standby, Some(Recovery::default())), &[]),
            (standby(true, 60), &["replay is paused"]),
            (
                seen(Role::Primary, None),
                &["replay is paused no more after 1.0 s", "replay is delayed no more after 4.0 s"],
            ),
            (seen(Role::Primary, None), &[]),
            (seen(Role::Standby, Some(holds_back)), &[]),
            (standby(true, 0), &["replay is paused"]),
        ];
        let mut replay = ReplayLog::default();
        for (second, (outcome, expected)) in story.iter().enumerate() {
            let now = begun + Duration::from_secs(second as u64);
            assert_eq!(replay.lines(outcome, now), *expected, "second {second}");
        }
    }
}
