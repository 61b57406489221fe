//! The funnel for outcomes: every flight ends here once, and only a change is worth a log line.

use std::fmt;
use std::time::Instant;

use crate::instance::{Drain, Failure, Observation, Role, Sighting};
use crate::reason::Reason;
use crate::system::notify;

/// What the instance was last seen to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Unknown,
    Primary,
    Standby,
    Unavailable(Reason),
}

pub(super) struct History {
    condition: Condition,
    since: Instant,
    is_draining: bool,
}

impl History {
    pub(super) fn new() -> History {
        History { condition: Condition::Unknown, since: Instant::now(), is_draining: false }
    }

    pub(super) fn record(&mut self, outcome: &Observation, now: Instant) {
        self.record_drain(outcome.drain);
        let Some(instance) = &outcome.instance else { return };
        let condition = Condition::of(instance);
        let cause = match instance {
            Ok(_) => "",
            Err(failure) => &failure.cause,
        };
        if condition == self.condition {
            if !cause.is_empty() {
                log::debug!(target: "pgsqlchk", "still {condition}: {cause}");
            }
            return;
        }
        let line = self.describe_change(condition, cause, now);
        log::info!(target: "pgsqlchk", "{line}");
        notify::status(&condition.to_string());
        self.condition = condition;
        self.since = now;
    }

    fn record_drain(&mut self, drain: Drain) {
        match (drain, self.is_draining) {
            (Drain::On, false) => log::info!(target: "pgsqlchk", "draining: the drain file exists"),
            (Drain::Off, true) => log::info!(target: "pgsqlchk", "draining no more"),
            (Drain::On, true) | (Drain::Off, false) | (Drain::Unknown | Drain::NotLooked, _) => return,
        }
        self.is_draining = drain == Drain::On;
    }

    fn describe_change(&self, to: Condition, cause: &str, now: Instant) -> String {
        let mut line = format!("{} -> {to}", self.condition);
        if self.condition != Condition::Unknown {
            let held = now.saturating_duration_since(self.since);
            line.push_str(&format!(" after {:.1} s", held.as_secs_f64()));
        }
        if !cause.is_empty() {
            line.push_str(": ");
            line.push_str(cause);
        }
        line
    }
}

impl Condition {
    fn of(instance: &Result<Sighting, Failure>) -> Condition {
        match instance {
            Ok(sighting) => match sighting.role {
                Role::Primary => Condition::Primary,
                Role::Standby => Condition::Standby,
            },
            Err(failure) => Condition::Unavailable(failure.reason),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Unknown => f.write_str("unknown"),
            Condition::Primary => f.write_str("primary"),
            Condition::Standby => f.write_str("standby"),
            Condition::Unavailable(reason) => write!(f, "unavailable ({reason})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_change_is_described_with_reason_and_duration() {
        let since = Instant::now();
        let history = History { condition: Condition::Primary, since, is_draining: false };
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
}
