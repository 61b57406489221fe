//! `pgsqlchk check`: one look, one line, one exit code.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Instant;

use super::{nagios, one_shot};
use crate::config::{Config, Format};
use crate::instance::advice::{self, advice};
use crate::instance::{Lag, Needs, Observation, Replication, Sighting, WriteProbe};
use crate::reason::Reason;
use crate::system::drain_file;
use crate::verdict::{Target, Verdict, judge};

/// The line for stdout and the exit code: 0 where the target holds, 1 where it does not, 2 where that could not be
/// verified. keepalived, HAProxy's external-check, containers and Nagios all read these.
pub fn run(config: Config) -> (String, u8) {
    let target = config.asked;
    let needs = if config.peer.is_empty() { target.needs() } else { target.needs_beside_peers() };
    let Some(needs) = needs else { return alive(config.format) };
    let has_thresholds =
        config.format == Format::Nagios && (config.warning.is_some() || config.critical.is_some());
    let lag = Needs { recovery: has_thresholds, replication: has_thresholds, ..Needs::default() };
    let needs = Needs { timeline: true, ..needs }.union(lag);
    let arrived = Instant::now();
    let (observation, _) = one_shot::check(&config, target, needs, arrived, arrived + config.timeout);
    let (line, code) = report(target, &observation, &config);
    match config.format {
        Format::Text => (line, code),
        Format::Nagios => {
            let verdict = judge(target, &observation);
            let seen = nagios::Seen { line: &line, verdict, lag: observation.lag(), took: observation.took };
            nagios::say(&seen, config.warning, config.critical)
        }
    }
}

fn alive(format: Format) -> (String, u8) {
    match format {
        Format::Text => ("alive".into(), 0),
        Format::Nagios => (nagios::ok("alive"), 0),
    }
}

fn report(target: Target, observation: &Observation, config: &Config) -> (String, u8) {
    let seen = match &observation.instance {
        Some(Err(failure)) => {
            let os_user = whoami::username().ok();
            let advice = advice(failure, &config.connection, os_user.as_deref());
            let advice = advice.map(|what| format!("; {what}")).unwrap_or_default();
            let line = format!("unavailable ({}): {}{advice}", failure.reason, failure.cause);
            // A name in the configuration may hold a line break; Nagios and keepalived read one line.
            return (line.replace(char::is_control, " "), 2);
        }
        Some(Ok(sighting)) => describe(sighting, observation),
        // Nobody looked at the instance.
        None => format!("{} exists", config.drain_file.display()).replace(char::is_control, " "),
    };
    match judge(target, observation) {
        Verdict::Holds(_) => (seen, 0),
        Verdict::No(reason) => (format!("{seen}: {reason}{}", advise_on_lag(reason, observation, config)), 1),
        Verdict::Draining => (format!("{seen}: {}", Reason::Draining), 1),
        Verdict::Down(Reason::DrainUnknown) => {
            (format!("{seen}: {}{}", Reason::DrainUnknown, why_unknown(&config.drain_file)), 2)
        }
        Verdict::Down(reason) => {
            let more = advise_on_lag(reason, observation, config) + &why_no_work(reason, observation);
            (format!("{seen}: {reason}{more}"), 2)
        }
    }
}

/// The line is for the one who can mend it: which file, and what the system says.
fn why_unknown(drain_file: &Path) -> String {
    let Err(error) = drain_file::exists(drain_file) else { return String::new() };
    let path = drain_file.display().to_string().replace(char::is_control, " ");
    let way_out = match error.kind() {
        ErrorKind::PermissionDenied => "; let this user through its folders (chmod o+x)",
        _ => "",
    };
    format!(": cannot look for {path}: {error}{way_out}")
}

/// What to type where the verdict is about the lag, and the role sees only a part of it.
fn advise_on_lag(reason: Reason, observation: &Observation, config: &Config) -> String {
    let replication = observation.sighting().and_then(|sighting| sighting.replication.as_ref());
    let is_about_lag = matches!(reason, Reason::LagExceeded | Reason::LagUnknown);
    match replication.is_some_and(Replication::hides_details) && is_about_lag {
        true => format!("; {}", advice::let_monitor(&config.connection)).replace(char::is_control, " "),
        false => String::new(),
    }
}

/// Which pooler does not answer, or what the server said of the commit.
fn why_no_work(reason: Reason, observation: &Observation) -> String {
    let evidence = &observation.evidence;
    let why = match (reason, &evidence.write) {
        (Reason::PoolerNotAnswering, _) => {
            let silent = evidence.poolers.iter().find(|pooler| pooler.is_up == Some(false));
            silent.map(|pooler| format!(": {}", pooler.cause.as_ref().unwrap_or(&pooler.address)))
        }
        (Reason::WriteStalled, Some(WriteProbe::Stalled { cause: Some(cause), .. }))
        | (Reason::WriteFailed, Some(WriteProbe::Failed { cause })) => Some(format!(": {cause}")),
        _ => None,
    };
    why.unwrap_or_default().replace(char::is_control, " ")
}

/// `primary timeline 3`, `standby timeline 3 lag 1234 bytes 0.5 s`; the lag where it was asked about.
fn describe(sighting: &Sighting, observation: &Observation) -> String {
    let mut line = sighting.role.word().to_owned();
    if let Some(timeline) = sighting.timeline {
        line.push_str(&format!(" timeline {timeline}"));
    }
    if let Some(lag) = observation.lag() {
        line.push_str(&describe_lag(lag));
    }
    line
}

fn describe_lag(lag: Lag) -> String {
    let bytes = lag.bytes.map(|known| known.bytes);
    let time = lag.time.map(|known| known.duration.as_secs_f64());
    match (bytes, time) {
        (Ok(bytes), Ok(seconds)) => format!(" lag {bytes} bytes {seconds:.1} s"),
        (Ok(bytes), Err(why)) => format!(" lag {bytes} bytes, in time unknown ({})", why.word()),
        (Err(why), Ok(seconds)) => format!(" lag {seconds:.1} s, in bytes unknown ({})", why.word()),
        (Err(why), Err(_)) => format!(" lag unknown ({})", why.word()),
    }
}
