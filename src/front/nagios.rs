//! `pgsqlchk check --format nagios`: the same look in the words of the Monitoring Plugins Development Guidelines. Pure.

use std::time::Duration;

use crate::instance::Lag;
use crate::reason::Reason;
use crate::verdict::{Limits, Verdict};

/// What a plugin can say; its number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            State::Ok => "OK",
            State::Warning => "WARNING",
            State::Critical => "CRITICAL",
            State::Unknown => "UNKNOWN",
        }
    }
}

/// What was seen.
pub(super) struct Seen<'a> {
    /// In words: the line of a check.
    pub(super) line: &'a str,
    pub(super) verdict: Verdict,
    /// `None` where it was not asked for, and on a primary.
    pub(super) lag: Option<Lag>,
    pub(super) took: Option<Duration>,
}

/// Line and exit code. `warning` and `critical`: more lag than this.
pub(super) fn say(seen: &Seen<'_>, warning: Limits, critical: Limits) -> (String, u8) {
    let (state, more) = judge(seen, warning, critical);
    let mut line = format!("{}{more}", words(state, seen.line));
    let data = performance_data(seen, warning, critical);
    if !data.is_empty() {
        line.push_str(" | ");
        line.push_str(&data);
    }
    (line, state as u8)
}

/// Of usage or a configuration that is wrong: the plugin itself failed.
pub fn unknown(what: &str) -> String {
    words(State::Unknown, what.strip_prefix("pgsqlchk: ").unwrap_or(what))
}

/// Nothing that could be wrong was asked.
pub(super) fn ok(what: &str) -> String {
    words(State::Ok, what)
}

/// What stands after a bar is performance data.
fn words(state: State, text: &str) -> String {
    format!("PGSQLCHK {} - {}", state.word(), text.replace('|', "/"))
}

fn judge(seen: &Seen<'_>, warning: Limits, critical: Limits) -> (State, &'static str) {
    match seen.verdict {
        Verdict::Holds(_) => {}
        // Somebody has meant it.
        Verdict::Draining => return (State::Warning, ""),
        Verdict::Down(Reason::AgentOutOfResources | Reason::DrainUnknown | Reason::LagUnknown) => {
            return (State::Unknown, "");
        }
        Verdict::No(_) | Verdict::Down(_) => return (State::Critical, ""),
    }
    let Some(lag) = seen.lag else { return (State::Ok, "") };
    match (exceeds(lag, critical), exceeds(lag, warning)) {
        (Some(true), _) => (State::Critical, ": more lag than --critical"),
        // What is known to be too much is too much, whatever else is unknown.
        (_, Some(true)) => (State::Warning, ": more lag than --warning"),
        (None, _) | (_, None) => (State::Unknown, ": the lag is not known"),
        (Some(false), Some(false)) => (State::Ok, ""),
    }
}

/// `None` where that cannot be told.
fn exceeds(lag: Lag, limits: Limits) -> Option<bool> {
    let bytes = limits.bytes.map(|limit| lag.bytes.ok().map(|known| known.bytes > limit));
    let time = limits.time.map(|limit| lag.time.ok().map(|known| known.duration > limit));
    let parts = [bytes, time];
    let mut parts = parts.iter().flatten();
    if parts.clone().any(|part| *part == Some(true)) {
        return Some(true);
    }
    parts.all(Option::is_some).then_some(false)
}

/// `name=value;warning;critical;minimum`, with the units that the guidelines know.
fn performance_data(seen: &Seen<'_>, warning: Limits, critical: Limits) -> String {
    let mut data = Vec::new();
    if let Some(lag) = seen.lag.and_then(|lag| lag.bytes.ok()) {
        let limit = |limits: Limits| limits.bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
        data.push(format!("lag={}B;{};{};0", lag.bytes, limit(warning), limit(critical)));
    }
    if let Some(lag) = seen.lag.and_then(|lag| lag.time.ok()) {
        let limit =
            |limits: Limits| limits.time.map(|time| time.as_secs_f64().to_string()).unwrap_or_default();
        let seconds = lag.duration.as_secs_f64();
        data.push(format!("lag_time={seconds:.3}s;{};{};0", limit(warning), limit(critical)));
    }
    if let Some(took) = seen.took {
        data.push(format!("time={:.6}s;;;0", took.as_secs_f64()));
    }
    data.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::{BytesBasis, LagBytes, LagTime, LagUnknown, Role, TimeBasis};

    const NONE: Limits = Limits { bytes: None, time: None };

    fn lag(bytes: Option<u64>, seconds: Option<u64>) -> Option<Lag> {
        let unknown = LagUnknown::NoReceiver;
        Some(Lag {
            bytes: bytes.map(|bytes| LagBytes { bytes, basis: BytesBasis::Sender }).ok_or(unknown),
            time: seconds
                .map(|seconds| LagTime {
                    duration: Duration::from_secs(seconds),
                    basis: TimeBasis::LastCommit,
                })
                .ok_or(unknown),
        })
    }

    fn of(verdict: Verdict, lag: Option<Lag>) -> Seen<'static> {
        Seen { line: "standby|x", verdict, lag, took: Some(Duration::from_micros(4512)) }
    }

    #[test]
    fn thresholds_are_for_the_lag_of_what_holds() {
        let holds = Verdict::Holds(Role::Standby);
        let warning = Limits { bytes: Some(100), time: Some(Duration::from_secs(10)) };
        let critical = Limits { bytes: Some(1000), time: None };
        for (lag, expected, code) in [
            (lag(Some(100), Some(10)), "OK - standby/x | lag=100B;100;1000;0 lag_time=10.000s;10;;0", 0),
            (
                lag(Some(101), Some(1)),
                "WARNING - standby/x: more lag than --warning | lag=101B;100;1000;0",
                1,
            ),
            (lag(Some(1), Some(11)), "WARNING - standby/x: more lag than --warning | lag=1B;100;1000;0", 1),
            (
                lag(Some(1001), None),
                "CRITICAL - standby/x: more lag than --critical | lag=1001B;100;1000;0",
                2,
            ),
            (lag(None, Some(11)), "WARNING - standby/x: more lag than --warning | lag_time=11.000s;10;;0", 1),
            (lag(None, Some(1)), "UNKNOWN - standby/x: the lag is not known | lag_time=1.000s;10;;0", 3),
            (lag(Some(1), None), "UNKNOWN - standby/x: the lag is not known | lag=1B;100;1000;0", 3),
            (None, "OK - standby/x | time=0.004512s;;;0", 0),
        ] {
            let (line, said) = say(&of(holds, lag), warning, critical);
            assert!(line.starts_with(&format!("PGSQLCHK {expected}")), "{line}");
            assert!(line.ends_with(" time=0.004512s;;;0"), "{line}");
            assert_eq!(said, code, "{line}");
        }
    }

    #[test]
    fn what_does_not_hold_is_critical_unless_it_is_meant_or_the_plugins_own_trouble() {
        for (verdict, word, code) in [
            (Verdict::No(Reason::InRecovery), "CRITICAL", 2),
            (Verdict::Down(Reason::ConnectionRefused), "CRITICAL", 2),
            (Verdict::Down(Reason::WriteStalled), "CRITICAL", 2),
            (Verdict::Draining, "WARNING", 1),
            (Verdict::Down(Reason::AgentOutOfResources), "UNKNOWN", 3),
            (Verdict::Down(Reason::LagUnknown), "UNKNOWN", 3),
        ] {
            let (line, said) = say(&of(verdict, None), NONE, NONE);
            assert!(line.starts_with(&format!("PGSQLCHK {word} - ")), "{line}");
            assert_eq!(said, code, "{line}");
        }
        assert_eq!(unknown("pgsqlchk: a|b"), "PGSQLCHK UNKNOWN - a/b");
    }
}
