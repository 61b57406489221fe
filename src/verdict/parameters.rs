//! The query parameters of the paths on which a standby can hold.

use super::Limits;
use crate::spelling::{self, quote};

/// The longest query. What it may hold is far shorter; but a number may have any count of zeros before it, and what
/// is asked goes on to the HTTP server through a buffer of limited size.
const MAX_QUERY_BYTES: usize = 256;

/// What a query asks for; the default is what no query asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) limits: Limits,
    pub(super) wants_streaming: bool,
    pub(super) wants_running_replay: bool,
}

impl Parameters {
    /// The name of one that was given, if there was any.
    pub(super) fn first_name(self) -> Option<&'static str> {
        let limits = self.limits;
        let given = [
            (limits.bytes.is_some(), "lag"),
            (limits.time.is_some(), "lag_time"),
            (self.wants_streaming, "replication_state"),
            (self.wants_running_replay, "replay"),
        ];
        given.into_iter().find_map(|(is_given, name)| is_given.then_some(name))
    }
}

/// Reads `name=value&name=value`. Nothing is decoded: no value of ours needs it. `Err` says on one line which
/// parameter is wrong, and how it would be right; it shows nothing of what a client wrote but the name.
pub(super) fn parse(query: &str) -> Result<Parameters, String> {
    let mut parameters = Parameters::default();
    if query.is_empty() {
        return Ok(parameters);
    }
    if query.len() > MAX_QUERY_BYTES {
        return Err(format!("the query is longer than {MAX_QUERY_BYTES} bytes"));
    }
    for part in query.split('&') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let is_given = match name {
            "lag" => {
                let bytes = spelling::size(value).map_err(|why| format!("lag: {why}"))?;
                parameters.limits.bytes.replace(bytes).is_some()
            }
            "lag_time" => {
                let time = spelling::duration(value).map_err(|why| format!("lag_time: {why}"))?;
                parameters.limits.time.replace(time).is_some()
            }
            "replication_state" if value == "streaming" => {
                std::mem::replace(&mut parameters.wants_streaming, true)
            }
            "replication_state" => return Err("replication_state: expected streaming".into()),
            "replay" if value == "running" => std::mem::replace(&mut parameters.wants_running_replay, true),
            "replay" => return Err("replay: expected running".into()),
            _ => {
                let known = "lag, lag_time, replication_state, replay";
                return Err(format!("unknown parameter {} ({known})", quote(name)));
            }
        };
        if is_given {
            return Err(format!("{name} is given twice"));
        }
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn parameters_are_read_in_any_order() {
        let expected = Parameters {
            limits: Limits { bytes: Some(16 << 20), time: Some(Duration::from_secs(10)) },
            wants_streaming: true,
            wants_running_replay: true,
        };
        for query in [
            "lag=16MB&lag_time=10s&replication_state=streaming&replay=running",
            "replay=running&replication_state=streaming&lag_time=10000ms&lag=16777216",
        ] {
            assert_eq!(parse(query), Ok(expected), "{query}");
        }
        assert_eq!(parse(""), Ok(Parameters::default()));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_the_way_out() {
        for (query, expected) in [
            ("lag", "lag: expected a whole number and a unit (16MB; B, kB, MB, GB, TB)"),
            ("lag=16mb", "lag: unknown unit mb, expected B, kB, MB, GB or TB"),
            ("lag=16%4dB", "lag: expected a whole number and a unit (16MB; B, kB, MB, GB, TB)"),
            ("lag_time=10", "lag_time: a duration needs a unit (2s, 500ms)"),
            ("replication_state=stopped", "replication_state: expected streaming"),
            ("replication_state", "replication_state: expected streaming"),
            ("replay=paused", "replay: expected running"),
            ("replay", "replay: expected running"),
            ("replay=running&replay=running", "replay is given twice"),
            ("lag=1&lag=1", "lag is given twice"),
            ("lag=1&", "unknown parameter \"\" (lag, lag_time, replication_state, replay)"),
            ("Lag=1", "unknown parameter \"Lag\" (lag, lag_time, replication_state, replay)"),
        ] {
            assert_eq!(parse(query), Err(expected.into()), "{query}");
        }
    }

    #[test]
    fn zeros_before_a_number_do_not_make_a_query_of_any_length() {
        let query = |length: usize| format!("lag={}1", "0".repeat(length - "lag=1".len()));
        assert!(parse(&query(MAX_QUERY_BYTES)).is_ok());
        assert_eq!(parse(&query(MAX_QUERY_BYTES + 1)), Err("the query is longer than 256 bytes".into()));
    }
}
