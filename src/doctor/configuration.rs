//! The configuration: what was read, what was taken from where, and what does not go together.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::Finding;
use crate::config::{Config, Examined};

/// HAProxy's `inter`, which is also how long it waits for an answer where there is no `timeout check`.
const USUAL_TIMEOUT_CHECK: Duration = Duration::from_secs(2);

/// Folders that the units of systemd hide from the service (ProtectHome=, PrivateTmp=).
const HIDDEN: [&str; 4] = ["/tmp", "/var/tmp", "/home", "/root"];

/// What was read. One line for each source that says anything. `path` is where the file is, or would be.
pub fn sources(examined: &Examined, path: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let joined = |texts: &[String]| if texts.is_empty() { "nothing".to_owned() } else { texts.join(", ") };
    match &examined.file {
        Some(file) => {
            findings.push(Finding::ok(format_args!("configuration: {file} says {}", joined(&examined.in_file))));
        }
        None if examined.config.is_ok() => findings.push(Finding::ok(format_args!("configuration: there is no /etc/pgsqlchk/pgsqlchk.conf, so that the defaults hold (pgsqlchk --help)"))),
        None => {}
    }
    if !examined.typed.is_empty() {
        findings.push(Finding::ok(format_args!("configuration: typed: {}", joined(&examined.typed))));
    }
    if !examined.connection.is_empty() {
        findings
            .push(Finding::ok(format_args!("configuration: connection: {}", joined(&examined.connection))));
    }
    if let Err(mistake) = &examined.config {
        let remedy = match mistake.contains("permission denied") {
            true => format!("let the agent's user read it: chown root:pgsqlchk {path}; chmod 640 {path}"),
            false if mistake.contains("no such file") => {
                "name the file that is there: --config FILE".to_owned()
            }
            false => {
                "mend it (pgsqlchk --help; docs/configuration.md), then systemctl restart pgsqlchk".to_owned()
            }
        };
        findings.push(Finding::problem(format_args!("configuration: {mistake}"), format_args!("{remedy}")));
    }
    findings.extend(examined.file.as_deref().and_then(|file| secret_file(file, examined)));
    findings
}

/// A password that everybody on this host may read.
fn secret_file(file: &str, examined: &Examined) -> Option<Finding> {
    let has_password = examined
        .connection
        .iter()
        .any(|parameter| parameter.starts_with(file) && parameter.contains(": password = "));
    let mode = fs::metadata(file).ok()?.permissions().mode();
    (has_password && mode & 0o004 != 0).then(|| {
        Finding::warning(
            format_args!("configuration: {file} holds a password, and everybody on this host may read it"),
            format_args!("chown root:pgsqlchk {file}; chmod 640 {file}"),
        )
    })
}

/// What a judgment of the options needs to know beside them.
pub struct Surroundings<'a> {
    /// The configuration file, for who has to change it.
    pub file: &'a str,
    /// Addresses of other agents.
    pub peers: &'a [IpAddr],
    /// The home is one of systemd's units.
    pub is_systemd: bool,
    /// `wal_receiver_timeout` of the server, where that is known; zero is none.
    pub wal_receiver_timeout: Option<Duration>,
}

/// Options that contradict each other, or what is around them.
pub fn judge(config: &Config, around: &Surroundings) -> Vec<Finding> {
    let file = around.file;
    let restart = format!("in {file}, then systemctl restart pgsqlchk");
    let mut findings = Vec::new();
    if config.timeout > USUAL_TIMEOUT_CHECK {
        let timeout = config.timeout;
        findings.push(Finding::warning(format_args!(
                "configuration: timeout = {timeout:?} is longer than HAProxy waits where nothing is said (inter 2s), so \
                 that it gives up before the answer with the reason comes"
            ), format_args!("timeout check {}s in HAProxy's defaults, or timeout = 2s {restart}", timeout.as_secs() + 1)));
    }
    findings.extend(around.peers.iter().find(|peer| !config.allow.permits(**peer)).map(|peer| {
        Finding::problem(
            format_args!("configuration: allow shuts out the peer {peer}, which asks this agent"),
            format_args!("allow = {peer} {restart}"),
        )
    }));
    let loopback = IpAddr::from([127, 0, 0, 1]);
    if !config.allow.permits(loopback) {
        findings.push(Finding::warning(format_args!("configuration: allow shuts out this host itself: the watchdog of systemd's service asks from there, and so \
             does doctor"), format_args!("allow = 127.0.0.1 and allow = ::1 {restart}")));
    }
    findings.extend(lag_limit(config, around));
    let drain_file = config.drain_file.display();
    if around.is_systemd && HIDDEN.iter().any(|folder| config.drain_file.starts_with(folder)) {
        findings.push(Finding::warning(
            format_args!(
                "configuration: drain-file = {drain_file} lies where systemd's service cannot see it"
            ),
            format_args!("drain-file = /var/lib/pgsqlchk/drain {restart}"),
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(format_args!(
            "configuration: timeout {:?}, knocks every {:?}, logins every {:?}: nothing contradicts",
            config.timeout, config.knock_interval, config.login_interval
        )));
    }
    findings
}

/// Without peers a standby that is cut off without a word counts as caught up until its receiver gives up.
fn lag_limit(config: &Config, around: &Surroundings) -> Option<Finding> {
    let is_limited = config.max_lag.is_some() || config.max_lag_time.is_some();
    let timeout = around.wal_receiver_timeout.filter(|_| is_limited && config.peer.is_empty())?;
    let limit = config.max_lag_time;
    if timeout.is_zero() {
        return Some(Finding::warning(
            format_args!(
                "configuration: a limit on the lag, and wal_receiver_timeout = 0: a standby that is cut off counts as caught up \
             for ever"
            ),
            format_args!("{}", around.set_receiver_timeout(limit)),
        ));
    }
    let limit = limit.filter(|limit| *limit < timeout)?;
    Some(Finding::warning(
        format_args!(
            "configuration: max-lag-time = {limit:?} is shorter than wal_receiver_timeout = {timeout:?}: so long a standby \
             that is cut off counts as caught up"
        ),
        format_args!("{}", around.set_receiver_timeout(Some(limit))),
    ))
}

impl Surroundings<'_> {
    fn set_receiver_timeout(&self, limit: Option<Duration>) -> String {
        let seconds = limit.map_or(10, |limit| limit.as_secs().max(1));
        format!(
            "wal_receiver_timeout = {seconds}s in postgresql.conf, then SELECT pg_reload_conf(); or peer = HOST:23267 for \
             each node in {}, by whom the lag is measured to the primary",
            self.file
        )
    }
}
