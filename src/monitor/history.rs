//! The funnel for outcomes: every flight ends here once, and only a change is worth a log line.

use std::fmt;
use std::time::{Instant, SystemTime};

use super::chronicle::{Change, Chronicle, LagSample, Rings};
use super::damper::Damper;
use super::replay::ReplayLog;
use crate::instance::{Drain, Failure, Observation, Role, Sighting};
use crate::reason::Reason;
use crate::system::notify;

/// What the instance was seen to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A primary.
    Primary,
    /// A standby.
    Standby,
    /// Not to be seen, and why.
    Unavailable(Reason),
}

pub(super) struct History {
    /// The last one, and since when by both clocks.
    condition: Option<(Condition, Instant, SystemTime)>,
    is_draining: Option<bool>,
    /// Why the server refuses logins that the session outlasts.
    login_refused: Option<Reason>,
    damper: Damper,
    replay: ReplayLog,
    rings: Rings,
}

impl History {
    pub(super) fn new() -> History {
        History {
            condition: None,
            is_draining: None,
            login_refused: None,
            damper: Damper::default(),
            replay: ReplayLog::default(),
            rings: Rings::new(Instant::now()),
        }
    }

    pub(super) fn record(&mut self, outcome: &Observation, now: Instant) {
        self.record_drain(outcome.drain);
        self.record_lag(outcome, now);
        self.record_login(outcome);
        self.record_condition(outcome, now);
        self.replay.record(outcome, now);
    }

    fn record_condition(&mut self, outcome: &Observation, now: Instant) {
        let Some(instance) = &outcome.instance else { return };
        let condition = Condition::of(instance);
        let cause = match instance {
            Ok(_) => String::new(),
            Err(Failure { cause, advice: None, .. }) => cause.clone(),
            Err(Failure { cause, advice: Some(advice), .. }) => format!("{cause}; {advice}"),
        };
        let from = self.condition.map(|(condition, ..)| condition);
        if let Some(count) = self.damper.take_held_back(now) {
            log::info!(target: "pgsqlchk", "{count} more changes of this kind; now {condition}");
        }
        if from == Some(condition) {
            if !cause.is_empty() {
                log::debug!(target: "pgsqlchk", "still {condition}: {cause}");
            }
            return;
        }
        let line = self.describe_change(condition, &cause, now);
        let level = if self.damper.lets_through(now) { log::Level::Info } else { log::Level::Debug };
        log::log!(target: "pgsqlchk", level, "{line}");
        self.condition = Some((condition, now, SystemTime::now()));
        self.tell_manager();
        self.rings.record_change(Change::Condition { from, to: condition });
    }

    /// What is seen from now on is another instance. What was noticed of the one before stays among the changes.
    pub(super) fn forget_instance(&mut self) {
        self.condition = None;
        self.login_refused = None;
    }

    /// Whether it differs from what was seen last.
    pub(super) fn is_news(&self, outcome: &Observation) -> bool {
        let condition = outcome.instance.as_ref().map(Condition::of);
        condition.is_some() && condition != self.condition.map(|(condition, ..)| condition)
    }

    /// A copy of what is remembered.
    pub(super) fn chronicle(&mut self, now: Instant) -> Chronicle {
        self.rings.copy(self.condition.map(|(condition, _, since)| (condition, since)), now)
    }

    fn record_drain(&mut self, drain: Drain) {
        let is_draining = match drain {
            Drain::On => true,
            Drain::Off => false,
            Drain::Unknown | Drain::NotLooked => return,
        };
        let from = self.is_draining.replace(is_draining);
        match (from.unwrap_or(false), is_draining) {
            (false, true) => log::info!(target: "pgsqlchk", "draining: the drain file exists"),
            (true, false) => log::info!(target: "pgsqlchk", "draining no more"),
            (true, true) | (false, false) => return,
        }
        self.rings.record_change(Change::Drain { from, to: is_draining });
        self.tell_manager();
    }

    /// `primary, draining`: what stands in `systemctl status`.
    fn tell_manager(&self) {
        let condition = self.condition.map(|(condition, ..)| condition.to_string());
        let draining = (self.is_draining == Some(true)).then(|| "draining".to_owned());
        let parts: Vec<String> = condition.into_iter().chain(draining).collect();
        if !parts.is_empty() {
            notify::status(&parts.join(", "));
        }
    }

    fn record_login(&mut self, outcome: &Observation) {
        let Some(sighting) = outcome.sighting() else { return };
        let refused = sighting.login_refused.as_ref();
        let before = std::mem::replace(&mut self.login_refused, refused.map(|refused| refused.reason));
        match refused {
            Some(refused) if before != Some(refused.reason) => log::warn!(
                target: "pgsqlchk",
                "the server refuses the agent's logins, while the session it has still answers: {}",
                refused.told
            ),
            None if before.is_some() => {
                log::info!(target: "pgsqlchk", "the server lets the agent log in again")
            }
            Some(_) | None => {}
        }
    }

    fn record_lag(&mut self, outcome: &Observation, now: Instant) {
        if let Some(lag) = outcome.lag() {
            let sample = lag.bytes.map_or(LagSample::Unknown, |known| LagSample::Bytes(known.bytes));
            self.rings.record_lag(sample, now);
        }
    }

    fn describe_change(&self, to: Condition, cause: &str, now: Instant) -> String {
        let mut line = match self.condition {
            None => format!("unknown -> {to}"),
            Some((from, since, _)) => {
                let held = now.saturating_duration_since(since);
                format!("{from} -> {to} after {:.1} s", held.as_secs_f64())
            }
        };
        if !cause.is_empty() {
            line.push_str(": ");
            line.push_str(cause);
        }
        line
    }
}

impl Condition {
    /// What a look amounts to.
    pub fn of(instance: &Result<Sighting, Failure>) -> Condition {
        match instance {
            Ok(sighting) => match sighting.role {
                Role::Primary => Condition::Primary,
                Role::Standby => Condition::Standby,
            },
            Err(failure) => Condition::Unavailable(failure.reason),
        }
    }

    /// The word that stands in logs and documents, without the reason.
    pub const fn word(self) -> &'static str {
        match self {
            Condition::Primary => Role::Primary.word(),
            Condition::Standby => Role::Standby.word(),
            Condition::Unavailable(_) => "unavailable",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Primary | Condition::Standby => f.write_str(self.word()),
            Condition::Unavailable(reason) => write!(f, "{} ({reason})", self.word()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_change_is_described_with_reason_and_duration() {
        let mut history = History::new();
        let since = Instant::now();
        history.condition = Some((Condition::Primary, since, SystemTime::now()));
        let later = since + Duration::from_millis(12_345);
        let line =
            history.describe_change(Condition::Unavailable(Reason::ConnectionRefused), "no socket", later);
        assert_eq!(line, "primary -> unavailable (connection-refused) after 12.3 s: no socket");
    }

    #[test]
    fn the_first_sighting_has_no_duration() {
        let history = History::new();
        assert_eq!(history.describe_change(Condition::Standby, "", Instant::now()), "unknown -> standby");
    }

    #[test]
    fn changes_are_remembered_and_repetitions_are_not() {
        let mut history = History::new();
        let primary = |drain| Observation::new(drain, Some(Ok(Sighting::of_role(Role::Primary))), None);
        for drain in [Drain::Off, Drain::NotLooked, Drain::On, Drain::Unknown, Drain::On, Drain::Off] {
            history.record(&primary(drain), Instant::now());
        }
        let chronicle = history.chronicle(Instant::now());
        let changes: Vec<Change> = chronicle.transitions.iter().map(|transition| transition.change).collect();
        let first = Change::Condition { from: None, to: Condition::Primary };
        let drained = Change::Drain { from: Some(false), to: true };
        assert_eq!(changes, [Change::Drain { from: Some(true), to: false }, drained, first]);
        assert_eq!(chronicle.condition.map(|(condition, _)| condition), Some(Condition::Primary));
    }
}
