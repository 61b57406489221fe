//! The query parameters: of paths on which a standby can hold, of `/readiness`, and the tags that Patroni lets anybody name.

use std::borrow::Cow;

use super::standing::Tag;
use super::{Limits, Mode, Otherwise, Path};
use crate::spelling::{self, printable, quote};

/// The longest query. What it may hold is far shorter; but a number may have any count of zeros before it, and what
/// is asked goes on to the HTTP server through a buffer of limited size.
const MAX_QUERY_BYTES: usize = 256;

/// Before the name of a tag.
const TAG_PREFIX: &str = "tag_";

/// What a query asks for; the default is what no query asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) limits: Limits,
    pub(super) wants_streaming: bool,
    pub(super) wants_running_replay: bool,
    pub(super) mode: Option<Mode>,
    pub(super) otherwise: Otherwise,
    pub(super) tags: Vec<Tag>,
}

/// Reads `name=value&name=value`, percent-encoded or not. `Err` says on one line which parameter is wrong, and how it would
/// be right; it shows nothing of what a client wrote but the names.
pub(super) fn parse(query: &str, path: Path, name_of_path: &str) -> Result<Parameters, String> {
    let mut parameters = Parameters::default();
    if query.is_empty() {
        return Ok(parameters);
    }
    if query.len() > MAX_QUERY_BYTES {
        return Err(format!("the query is longer than {MAX_QUERY_BYTES} bytes"));
    }
    for part in query.split('&') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (decode(name), decode(value));
        let is_given = parameters.take(&name, &value)?;
        if is_given {
            return Err(format!("{} is given twice", printable(&name)));
        }
        if !is_taken_by(path, &name) {
            return Err(format!("{}: {name_of_path} takes {}", printable(&name), what_it_takes(path)));
        }
    }
    if parameters.mode.is_some() && parameters.limits.bytes.is_none() {
        return Err("mode: it needs a limit beside it (lag=16MB)".into());
    }
    Ok(parameters)
}

impl Parameters {
    /// Takes one of them, and says whether it was given before.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        Ok(match name {
            "lag" => {
                let bytes = spelling::size(value).map_err(|why| format!("lag: {why}"))?;
                self.limits.bytes.replace(bytes).is_some()
            }
            "lag_time" => {
                let time = spelling::duration(value).map_err(|why| format!("lag_time: {why}"))?;
                self.limits.time.replace(time).is_some()
            }
            "replication_state" if value == "streaming" => std::mem::replace(&mut self.wants_streaming, true),
            "replication_state" => return Err("replication_state: expected streaming".into()),
            "replay" if value == "running" => std::mem::replace(&mut self.wants_running_replay, true),
            "replay" => return Err("replay: expected running".into()),
            "mode" => {
                let mode = match value {
                    "apply" => Mode::Apply,
                    "write" => Mode::Write,
                    _ => return Err("mode: expected apply or write".into()),
                };
                self.mode.replace(mode).is_some()
            }
            "else" if value == "maint" => {
                std::mem::replace(&mut self.otherwise, Otherwise::Maint) == Otherwise::Maint
            }
            "else" => return Err("else: expected maint".into()),
            _ => {
                let tag = name.strip_prefix(TAG_PREFIX).filter(|tag| !tag.is_empty()).ok_or_else(|| {
                    let known = "lag, lag_time, replication_state, replay, mode, tag_NAME";
                    format!("unknown parameter {} ({known})", quote(name))
                })?;
                let is_given = self.tags.iter().any(|other| other.name == tag);
                self.tags.push(Tag { name: tag.to_owned(), value: value.to_owned() });
                is_given
            }
        })
    }
}

fn is_taken_by(path: Path, name: &str) -> bool {
    match name {
        "lag" => path.takes_limits() || path == Path::Readiness,
        "mode" => path == Path::Readiness,
        "else" => path.is_drained(),
        "lag_time" | "replication_state" | "replay" => path.takes_limits(),
        _ => path.takes_limits() || path.is_for_leaders(),
    }
}

fn what_it_takes(path: Path) -> &'static str {
    match path {
        Path::Readiness => "lag and mode alone",
        path if path.takes_limits() => "no such parameter",
        _ => "no parameters",
    }
}

/// As forms are encoded (WHATWG URL standard, "application/x-www-form-urlencoded"), which is what Patroni reads. What is no
/// encoding stays as it is.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return text.into();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let encoded = (*first == b'%').then(|| hexadecimal(after)).flatten();
        bytes.push(match first {
            b'+' => b' ',
            other => encoded.unwrap_or(*other),
        });
        rest = if encoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

fn hexadecimal(text: &[u8]) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let [high, low, ..] = text else { return None };
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(query: &str) -> Result<Parameters, String> {
        super::parse(query, Path::Standby, "/replica")
    }

    #[test]
    fn parameters_are_read_in_any_order() {
        let expected = Parameters {
            limits: Limits { bytes: Some(16 << 20), time: Some(Duration::from_secs(10)) },
            wants_streaming: true,
            wants_running_replay: true,
            ..Parameters::default()
        };
        for query in [
            "lag=16MB&lag_time=10s&replication_state=streaming&replay=running",
            "replay=running&replication_state=streaming&lag_time=10000ms&lag=16777216",
            "lag=16%4dB&lag%5ftime=10+s&replication_state=%73treaming&replay=running",
            "lag=16%20MB&lag_time=10s&replication_state=streaming&replay=running",
        ] {
            assert_eq!(parse(query), Ok(expected.clone()), "{query}");
        }
        assert_eq!(parse(""), Ok(Parameters::default()));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_the_way_out() {
        for (query, expected) in [
            ("lag", "lag: expected a number and a unit (16MB; B, kB, MB, GB, TB)"),
            ("lag=16mb", "lag: unknown unit mb, expected B, kB, MB, GB or TB"),
            ("lag=16%4gB", "lag: expected a number and a unit (16MB; B, kB, MB, GB, TB)"),
            ("lag=16%", "lag: expected a number and a unit (16MB; B, kB, MB, GB, TB)"),
            ("lag=16%00", "lag: expected a number and a unit (16MB; B, kB, MB, GB, TB)"),
            ("lag=16M", "lag: unknown unit M, expected B, kB, MB, GB or TB"),
            ("lag=16MiB", "lag: unknown unit MiB, expected B, kB, MB, GB or TB"),
            ("lag=abc", "lag: expected a number and a unit (16MB; B, kB, MB, GB, TB)"),
            ("lag_time=10", "lag_time: a duration needs a unit (2s, 500ms)"),
            ("replication_state=stopped", "replication_state: expected streaming"),
            ("replication_state", "replication_state: expected streaming"),
            ("replay=paused", "replay: expected running"),
            ("replay", "replay: expected running"),
            ("replay=running&replay=running", "replay is given twice"),
            ("lag=1&lag=1", "lag is given twice"),
            ("lag=1&", "unknown parameter \"\" (lag, lag_time, replication_state, replay, mode, tag_NAME)"),
            ("Lag=1", "unknown parameter \"Lag\" (lag, lag_time, replication_state, replay, mode, tag_NAME)"),
            (
                "tag_=x",
                "unknown parameter \"tag_\" (lag, lag_time, replication_state, replay, mode, tag_NAME)",
            ),
            ("tag_a=x&tag_a=y", "tag_a is given twice"),
            ("tag_a%0d%0aX:y=1&tag_a%0D%0AX:y=2", "tag_a\\r\\nX:y is given twice"),
            ("mode=apply", "mode: /replica takes no such parameter"),
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

    #[test]
    fn each_path_takes_what_makes_sense_there() {
        for (path, query, expected) in [
            (Path::Readiness, "lag=1MB&mode=write", Ok(Some(Mode::Write))),
            (Path::Readiness, "mode=apply&lag=1MB", Ok(Some(Mode::Apply))),
            (Path::Readiness, "mode=apply", Err("mode: it needs a limit beside it (lag=16MB)")),
            (Path::Readiness, "lag=1MB&mode=read", Err("mode: expected apply or write")),
            (Path::Readiness, "lag_time=1s", Err("lag_time: /readiness takes lag and mode alone")),
            (Path::Primary, "tag_dc=eu", Ok(None)),
            (Path::Primary, "lag=1MB", Err("lag: /primary takes no parameters")),
            (Path::Asynchronous, "lag=1MB&tag_dc=eu", Ok(None)),
            (Path::Health, "replay=running", Err("replay: /health takes no parameters")),
            (Path::Node, "tag_dc=eu", Err("tag_dc: /node takes no parameters")),
            (Path::Node, "tag_%0a=eu", Err("tag_\\n: /node takes no parameters")),
        ] {
            let mode = super::parse(query, path, path.name()).map(|parameters| parameters.mode);
            assert_eq!(mode, expected.map_err(String::from), "{path:?} {query}");
        }
    }
}
