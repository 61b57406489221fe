//! Refused logins: how long to rest between them, and what is remembered of one that a living session outlasts. Pure.
//!
//! A refused login is lines in the server's log. Where a server refuses them all, every check would add its own.

use std::time::{Duration, Instant, SystemTime};

use super::Failure;
use super::failure::Refusal;
use crate::reason::Reason;

/// So many refusals of one kind in a row before the agent rests between logins: a server that starts, or a role that is
/// created in this very moment, is not waited for.
const PATIENCE: u32 = 3;

/// How long it rests for each line that a refusal leaves in the server's log: fewer than 3,300 lines an hour.
const REST_PER_LINE: Duration = Duration::from_millis(1100);

/// A login that the server refused while the session goes on answering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRefused {
    /// Why.
    pub reason: Reason,
    /// Since when all logins were refused for this reason, by this host's clock.
    pub since: SystemTime,
    /// What the server said, and what to type; for the log only.
    pub told: String,
}

impl LoginRefused {
    /// After a refusal, and what was remembered of those before it.
    pub(super) fn after(
        before: Option<LoginRefused>,
        failure: &Failure,
        advice: Option<String>,
    ) -> LoginRefused {
        let reason = failure.reason;
        let since = before.filter(|before| before.reason == reason).map(|before| before.since);
        let advice = advice.map(|what| format!("; {what}")).unwrap_or_default();
        LoginRefused {
            reason,
            since: since.unwrap_or_else(SystemTime::now),
            told: format!("{}{advice}", failure.cause),
        }
    }
}

/// The refusals in a row.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    reason: Option<Reason>,
    count: u32,
    rest_until: Option<Instant>,
}

impl Refusals {
    /// A login succeeded.
    pub(super) fn end(&mut self) {
        *self = Refusals::default();
    }

    /// A login failed. What the server did not refuse costs it no line, and ends the row.
    pub(super) fn record(&mut self, failure: &Failure, now: Instant) {
        let Some(Refusal { lines }) = failure.refusal else { return self.end() };
        self.count = if self.reason == Some(failure.reason) { self.count.saturating_add(1) } else { 1 };
        self.reason = Some(failure.reason);
        self.rest_until = (self.count >= PATIENCE).then(|| now + REST_PER_LINE * lines.max(1));
    }

    /// Whether a session is to be replaced by a fresh login: where the last one was tried longer ago than the interval, and
    /// would not only be refused once more. With an interval of zero a session may get as old as it pleases.
    pub(super) fn is_login_due(&self, tried: Instant, interval: Duration, now: Instant) -> bool {
        let rests = self.rest_until.is_some_and(|until| now < until);
        !interval.is_zero() && !rests && now.saturating_duration_since(tried) >= interval
    }

    /// Before that no login is to be made, unless a session was lost.
    pub(super) fn rest_until(&self) -> Option<Instant> {
        self.rest_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: Reason, lines: u32) -> Failure {
        Failure { refusal: Some(Refusal { lines }), ..Failure::new(reason, "FATAL") }
    }

    #[test]
    fn the_third_refusal_of_a_kind_makes_the_agent_rest_for_each_line_it_costs() {
        let now = Instant::now();
        let mut refusals = Refusals::default();
        for _ in 0..2 {
            refusals.record(&refused(Reason::AuthenticationFailed, 3), now);
            assert_eq!(refusals.rest_until(), None);
        }
        refusals.record(&refused(Reason::AuthenticationFailed, 3), now);
        assert_eq!(refusals.rest_until(), Some(now + Duration::from_millis(3300)));
        refusals.record(&refused(Reason::StartingUp, 1), now);
        assert_eq!(refusals.rest_until(), None, "another kind begins anew");
        for _ in 0..2 {
            refusals.record(&refused(Reason::StartingUp, 1), now);
        }
        assert_eq!(refusals.rest_until(), Some(now + Duration::from_millis(1100)));
        refusals.record(&Failure::new(Reason::ConnectionRefused, "nobody there"), now);
        assert_eq!(refusals.rest_until(), None, "nobody refused that");
    }

    #[test]
    fn a_login_is_due_after_the_interval_unless_it_would_be_refused_once_more() {
        let (tried, interval) = (Instant::now(), Duration::from_secs(2));
        let (early, due) = (tried + Duration::from_millis(1999), tried + interval);
        let mut refusals = Refusals::default();
        assert!(
            !refusals.is_login_due(tried, interval, early) && refusals.is_login_due(tried, interval, due)
        );
        assert!(!refusals.is_login_due(tried, Duration::ZERO, due));
        for _ in 0..PATIENCE {
            refusals.record(&refused(Reason::AuthenticationFailed, 3), tried);
        }
        assert!(!refusals.is_login_due(tried, interval, due));
        assert!(refusals.is_login_due(tried, interval, tried + Duration::from_millis(3300)));
    }

    #[test]
    fn what_is_refused_for_the_same_reason_is_refused_since_the_first_time() {
        let first = LoginRefused::after(None, &refused(Reason::TooManyClients, 1), None);
        let again = refused(Reason::TooManyClients, 1);
        assert_eq!(LoginRefused::after(Some(first.clone()), &again, None).since, first.since);
        let before = LoginRefused { since: SystemTime::UNIX_EPOCH, ..first };
        let other = refused(Reason::AuthenticationFailed, 1);
        let after = LoginRefused::after(Some(before), &other, Some("type this".into()));
        assert_ne!(after.since, SystemTime::UNIX_EPOCH);
        assert_eq!(after.told, "FATAL; type this");
    }
}
