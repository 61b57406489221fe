//! SIGHUP: reads the configuration again and takes over what can change while the agent runs. What is under way ends as it
//! began; a configuration with a mistake changes nothing.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::standalone::fit_descriptors;
use crate::config::Config;
use crate::gate::service::Service;
use crate::gate::terms::Terms;
use crate::gate::witnesses::Witnesses;
use crate::instance::ProbeSettings;
use crate::monitor::{Monitor, RUNNER_STACK_BYTES};
use crate::panics;
use crate::system::{notify, threads};
use crate::tally::Tally;

/// What was settled when the agent started: sockets, threads, and where the log goes.
const SETTLED: [&str; 8] =
    ["mode", "listen", "tls-listen", "agent-listen", "workers", "protocol", "idle-exit", "log-target"];

/// What `pgsqlchk check` alone reads.
const OF_CHECK: [&str; 4] = ["target", "format", "warning", "critical"];

/// How often `READY=1` is tried, ten times a second.
const READY_ATTEMPTS: usize = 100;

/// Who takes a new configuration over.
pub(super) struct Reloader {
    /// With which the agent was started.
    pub(super) started: Config,
    /// Whether there is a port of HTTPS.
    pub(super) speaks_tls: bool,
    pub(super) monitor: Monitor,
    pub(super) service: Arc<Service>,
    pub(super) tally: Arc<Tally>,
}

impl Reloader {
    /// Starts the thread that does so for each byte to be read.
    pub(super) fn start(self, signals: UnixStream) -> io::Result<()> {
        let keep = move || self.keep_reloading(signals);
        threads::spawn("reload", RUNNER_STACK_BYTES, keep).map(drop)
    }

    fn keep_reloading(self, mut signals: UnixStream) {
        let mut in_force = self.started.clone();
        let mut bytes = [0; 64];
        loop {
            match signals.read(&mut bytes) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            }
            notify::reloading();
            match self.reload(&in_force) {
                Ok(config) => in_force = config,
                Err(why) => log::error!(target: "pgsqlchk", "reload: nothing has changed: {why}"),
            }
            notify::ready(READY_ATTEMPTS);
        }
    }

    /// All or nothing: what can fail comes first.
    fn reload(&self, in_force: &Config) -> Result<Config, String> {
        let config = panics::contain(|| {
            panics::trip("reload");
            in_force.load_again()
        })
        .map_err(|_| "reading the configuration panicked".to_owned())?
        .map_err(|exit| exit.cause().to_owned())?;
        if in_force.tls.is_some() && config.tls.is_none() && self.speaks_tls {
            return Err(
                "tls-cert and tls-key are gone, and there is a port of HTTPS: a restart closes it".into()
            );
        }
        let witnesses =
            Witnesses::start(&config, Some(&self.service.terms().witnesses), Arc::clone(&self.tally))
                .map_err(|error| format!("cannot start a thread: {error}"))?;
        let max_connections = fit_descriptors(config.max_connections);
        self.monitor.adopt(ProbeSettings::of(&config));
        self.service.replace_terms(Terms::of(&config, max_connections, witnesses));
        log::set_max_level(config.log_level);
        let changed = config.changes_since(in_force);
        let changed = changed.into_iter().filter(|word| !SETTLED.contains(word) && !OF_CHECK.contains(word));
        log::info!(target: "pgsqlchk", "reloaded: {}", list(changed).as_deref().unwrap_or("nothing is new"));
        let settled = config.changes_since(&self.started);
        if let Some(words) = list(settled.into_iter().filter(|word| SETTLED.contains(word))) {
            log::warn!(target: "pgsqlchk", "only a restart takes over what the configuration says now of: {words}");
        }
        Ok(config)
    }
}

fn list(words: impl Iterator<Item = &'static str>) -> Option<String> {
    let words: Vec<_> = words.collect();
    (!words.is_empty()).then(|| words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::settings;

    #[test]
    fn the_words_that_are_told_apart_are_options() {
        for word in SETTLED.iter().chain(&OF_CHECK) {
            assert!(settings().iter().any(|option| option.word == *word), "{word}");
        }
    }
}
