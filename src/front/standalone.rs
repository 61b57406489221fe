//! `--mode standalone`: listens itself until SIGTERM or SIGINT.

use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::dispatch::{Dispatcher, LANES};
use super::gate::Gate;
use super::lane::sealed_lanes;
use super::service::Service;
use super::stop_signal::StopSignal;
use super::{listener, pool};
use crate::config::Config;
use crate::monitor::Monitor;

/// Descriptors beside the clients: standard ones, listeners, lanes, sessions, and reserve.
const RESERVED_DESCRIPTORS: u64 = 64;

/// Runs the agent. An `Err` is one line: what could not be started, or what failed.
pub fn run(config: Config) -> Result<(), String> {
    let listeners = listener::bind_all(&config.listen)?;
    let stop_signal = StopSignal::watch().map_err(|error| format!("cannot watch signals: {error}"))?;
    let max_connections = fit_descriptors(config.max_connections);
    let (sealed, lanes) = sealed_lanes::<LANES>()
        .map_err(|error| format!("cannot open the private way to the HTTP server: {error}"))?;
    let monitor = Monitor::start(config.connection, config.timeout, config.knock_interval)
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let service = Arc::new(Service::new(monitor, config.timeout));
    pool::start(sealed, config.workers, &service)
        .map_err(|error| format!("cannot start the HTTP server: {error}"))?;
    for listener in &listeners {
        log::info!(target: "pgsqlchk", "listening on {}", listener.address);
    }
    let dispatcher = Dispatcher::new(lanes);
    Gate::new(listeners, config.allow, max_connections, service, dispatcher, stop_signal).run()
}

/// Raises the soft limit of descriptors as far as `wanted` clients need it, and says how many clients fit.
fn fit_descriptors(wanted: usize) -> usize {
    let needed = wanted as u64 + RESERVED_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current.filter(|current| *current < needed) else { return wanted };
    let raised = limit.maximum.map_or(needed, |maximum| maximum.min(needed)).max(current);
    if setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum }).is_err() {
        log::debug!("the limit of descriptors stays at {current}");
    }
    let fitting = getrlimit(Resource::Nofile).current.unwrap_or(needed).saturating_sub(RESERVED_DESCRIPTORS);
    if fitting >= wanted as u64 {
        return wanted;
    }
    let fitting = usize::try_from(fitting).unwrap_or(wanted).max(1);
    log::warn!(
        target: "pgsqlchk",
        "only {fitting} of --max-connections {wanted} clients fit the limit of descriptors (RLIMIT_NOFILE)"
    );
    fitting
}
