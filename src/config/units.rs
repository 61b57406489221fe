//! Values with units and limits: every bound of a setting has its name and number here.
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use super::{Format, LogTarget, MAX_PEERS, Mode, Protocol};
use crate::verdict::{Limits, Path, Standing, Tag, Target, TargetError};
use crate::{spelling, tls};

/// `--timeout`: below 10 ms a busy but healthy server looks down; HAProxy's own check timeouts end long
/// before a minute.
pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
/// `--knock-interval`, unless it is 0 (off): more often than every 10 ms is a knock per check anyway; older
/// than an hour it proves nothing.
pub const KNOCK_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// `--login-interval`, unless it is 0 (off): each login is milliseconds of work for the server and may be lines in its log;
/// one that is older than an hour proves nothing.
pub const LOGIN_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(3600);
/// `--peer-interval`: more often than every 10 ms is a question per check anyway; older than an hour it proves nothing.
pub const PEER_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// `--write-probe`, unless it is off: each is a commit that all standbys get; older than an hour it proves nothing.
pub const WRITE_PROBE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// `--min-peers`: there cannot be more.
pub const MIN_PEERS: RangeInclusive<usize> = 0..=MAX_PEERS;
/// `--idle-exit`: shorter, and xinetd starts an agent per check; longer is standalone.
pub const IDLE_EXIT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
/// `--workers`: each is a thread; answers are short, so more than a few seldom help.
pub const WORKERS: RangeInclusive<usize> = 1..=64;
/// `--max-connections`: each client costs a descriptor.
pub const MAX_CONNECTIONS: RangeInclusive<usize> = 1..=10_000;

/// `--mode`.
pub fn mode(value: &str) -> Result<Mode, String> {
    match value {
        "standalone" => Ok(Mode::Standalone),
        "xinetd" => Ok(Mode::Xinetd),
        "check" => Ok(Mode::Check),
        "drain" => Ok(Mode::Drain),
        "undrain" => Ok(Mode::Undrain),
        "cluster" => Ok(Mode::Cluster),
        "doctor" => Ok(Mode::Doctor),
        _ => Err(format!("expected {}", one_of(&Mode::WORDS))),
    }
}

/// `--protocol`.
pub fn protocol(value: &str) -> Result<Protocol, String> {
    match value {
        "http" => Ok(Protocol::Http),
        "agent" => Ok(Protocol::Agent),
        _ => Err("expected http or agent".into()),
    }
}

/// `--log-target`.
pub fn log_target(value: &str) -> Result<LogTarget, String> {
    match value {
        "stderr" => Ok(LogTarget::Stderr),
        "syslog" => Ok(LogTarget::Syslog),
        "none" => Ok(LogTarget::None),
        _ => Err("expected stderr, syslog or none".into()),
    }
}

/// `--target`: something that can hold or not, under these standing rules.
pub fn target(value: &str, standing: &Standing) -> Result<Target, String> {
    let target =
        standing.read(value).and_then(Target::outside_agent_checks).map_err(|error| match error {
            TargetError::Malformed => "expected a path (/, /primary, /replica, ...)".into(),
            TargetError::UnknownPath => "unknown path (/, /primary, /replica, ...)".into(),
            TargetError::BadQuery(what) => what,
        })?;
    match target.path.is_document() {
        true => Err("a document neither holds nor fails; ask for it over HTTP".into()),
        false => Ok(target),
    }
}

/// `--root-path`: a path that can hold or not, without parameters.
pub fn root_path(value: &str) -> Result<Path, String> {
    match value.contains('?') {
        true => Err("a path without parameters (--max-lag limits all of them)".into()),
        false => target(value, &Standing::default()).map(|target| target.path),
    }
}

/// `--tag`: one more of them.
pub fn tag_unless_taken(taken: &mut Vec<Tag>, value: &str) -> Result<(), String> {
    let tag = Tag::parse(value)?;
    if taken.iter().any(|other| other.name == tag.name) {
        return Err("the tag is given twice".into());
    }
    taken.push(tag);
    Ok(())
}

/// `--drain-file`. A relative path would depend on where the agent was started.
pub fn absolute_path(value: &str) -> Result<PathBuf, String> {
    match (value.starts_with('/'), value.ends_with('/')) {
        (false, _) => Err("expected an absolute path".into()),
        (true, true) => Err("expected a file, without a slash at the end".into()),
        (true, false) => Ok(value.into()),
    }
}

/// `--tls-cert` and the other files of TLS.
pub fn tls_file(value: &str) -> Result<Option<PathBuf>, String> {
    tls::only_if_here()?;
    absolute_path(value).map(Some)
}

/// `--tls-listen`: one more of them.
pub fn tls_listen_unless_taken(taken: &mut Vec<SocketAddr>, value: &str) -> Result<(), String> {
    tls::only_if_here()?;
    listen_unless_taken(taken, value)
}

/// `--write-probe`.
pub fn write_probe(value: &str) -> Result<Option<Duration>, String> {
    match value {
        "off" => Ok(None),
        _ => duration(value, WRITE_PROBE, false).map(Some).map_err(|why| format!("{why}, or off")),
    }
}

/// `--format`.
pub fn format(value: &str) -> Result<Format, String> {
    match value {
        "text" => Ok(Format::Text),
        "nagios" => Ok(Format::Nagios),
        _ => Err("expected text or nagios".into()),
    }
}

/// `--warning` and `--critical`: a size, a duration, or one of each.
pub fn limits(value: &str) -> Result<Limits, String> {
    let mut limits = Limits::default();
    for part in value.split(',').map(str::trim) {
        let (bytes, time) = (spelling::size(part), spelling::duration(part));
        match (bytes, time) {
            (Ok(bytes), _) if limits.bytes.is_none() => limits.bytes = Some(bytes),
            (Err(_), Ok(time)) if limits.time.is_none() => limits.time = Some(time),
            _ => return Err("expected a size, a duration, or one of each (16MB, 10s, or 16MB,10s)".into()),
        }
    }
    Ok(limits)
}

/// `--log-level`.
pub fn log_level(value: &str) -> Result<LevelFilter, String> {
    match value {
        "error" => Ok(LevelFilter::Error),
        "warn" => Ok(LevelFilter::Warn),
        "info" => Ok(LevelFilter::Info),
        "debug" => Ok(LevelFilter::Debug),
        _ => Err("expected error, warn, info or debug".into()),
    }
}

/// A whole number within `bounds`.
pub fn number(value: &str, bounds: RangeInclusive<usize>) -> Result<usize, String> {
    let expected = || format!("expected a whole number from {} to {}", bounds.start(), bounds.end());
    // `parse` would take a sign.
    if !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(expected());
    }
    value.parse().ok().filter(|number| bounds.contains(number)).ok_or_else(expected)
}

/// A listening address, `ADDR:PORT`. Names are refused: what they resolve to can change, and would have to be
/// known before the network is up.
pub fn listen(value: &str) -> Result<SocketAddr, String> {
    value.parse().map_err(|_| "expected a numeric address and a port (0.0.0.0:23267, [::]:23267)".into())
}

/// `--listen`: one more of them.
pub fn listen_unless_taken(taken: &mut Vec<SocketAddr>, value: &str) -> Result<(), String> {
    let address = listen(value)?;
    // Port 0 is a different free port every time.
    if address.port() != 0 && taken.contains(&address) {
        return Err("the address is given twice".into());
    }
    taken.push(address);
    Ok(())
}

/// `a, b or c`.
pub fn one_of(words: &[&str]) -> String {
    match words {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => words.join(", "),
    }
}

/// A duration within `bounds`; with `zero_allowed`, also 0, which then needs no unit.
pub fn duration(
    value: &str,
    bounds: RangeInclusive<Duration>,
    zero_allowed: bool,
) -> Result<Duration, String> {
    let duration = spelling::duration(value)?;
    if bounds.contains(&duration) || zero_allowed && duration.is_zero() {
        return Ok(duration);
    }
    let off = if zero_allowed { "0 or " } else { "" };
    Err(format!("expected {off}{} to {}", spell(*bounds.start()), spell(*bounds.end())))
}

/// A bound in the unit in which it was thought of.
fn spell(duration: Duration) -> String {
    match duration.as_millis() {
        hours if hours % 3_600_000 == 0 => format!("{}h", hours / 3_600_000),
        seconds if seconds % 1_000 == 0 => format!("{}s", seconds / 1_000),
        milliseconds => format!("{milliseconds}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_bounded() {
        for (text, expected) in [
            ("10ms", Ok(Duration::from_millis(10))),
            ("60s", Ok(Duration::from_secs(60))),
            ("1min", Ok(Duration::from_secs(60))),
            ("9ms", Err("expected 10ms to 60s")),
            ("61s", Err("expected 10ms to 60s")),
            ("0", Err("expected 10ms to 60s")),
        ] {
            assert_eq!(duration(text, TIMEOUT, false), expected.map_err(String::from), "{text}");
        }
        for (text, expected) in [
            ("0", Ok(Duration::ZERO)),
            ("0s", Ok(Duration::ZERO)),
            ("1h", Ok(Duration::from_secs(3600))),
            ("1", Err("a duration needs a unit (2s, 500ms)")),
            ("1ms", Err("expected 0 or 10ms to 1h")),
        ] {
            assert_eq!(duration(text, KNOCK_INTERVAL, true), expected.map_err(String::from), "{text}");
        }
    }

    #[test]
    fn numbers_are_bounded() {
        for text in ["1", "64", "08"] {
            assert!(number(text, WORKERS).is_ok(), "{text}");
        }
        for text in ["0", "65", "", "-1", "+1", "1.0", "four", " 1", "99999999999999999999999"] {
            let expected = Err("expected a whole number from 1 to 64".into());
            assert_eq!(number(text, WORKERS), expected, "{text:?}");
        }
    }

    #[test]
    fn listening_addresses_are_numeric() {
        for text in ["[::]:23267", "0.0.0.0:23267", "127.0.0.1:0", "[fe80::1%2]:80"] {
            assert!(listen(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "23267",
            ":23267",
            "*:23267",
            "localhost:23267",
            "127.0.0.1",
            "::1:80",
            "127.0.0.1:65536",
            "[::]",
        ] {
            assert!(listen(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn modes_are_the_documented_ones() {
        assert_eq!(mode("standalone"), Ok(Mode::Standalone));
        for text in ["xinetd", "check", "drain", "undrain"] {
            assert!(mode(text).is_ok(), "{text}");
        }
        assert!(mode("Standalone").is_err() && mode("").is_err());
    }

    #[test]
    fn log_levels_are_the_documented_ones() {
        assert_eq!(log_level("debug"), Ok(LevelFilter::Debug));
        assert!(["", "INFO", "off", "trace"].into_iter().all(|text| log_level(text).is_err()));
    }
}
