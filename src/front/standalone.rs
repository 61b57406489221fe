//! `--mode standalone`: listens itself, or on the sockets that systemd has passed, until SIGTERM or SIGINT.
//!
//! The same machinery serves a listening socket that somebody else has opened (see [`super::xinetd`]).

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::reload::Reloader;
use super::signals;
use crate::config::{Config, Protocol};
use crate::gate::dispatch::{Dispatcher, LANES};
use crate::gate::lane::sealed_lanes;
use crate::gate::listener::{self, Listener};
use crate::gate::pool;
use crate::gate::roster::Roster;
use crate::gate::service::Service;
use crate::gate::terms::Terms;
use crate::gate::watchdog::{self, Caller};
use crate::gate::witnesses::Witnesses;
use crate::gate::{Gate, Rules};
use crate::instance::ProbeSettings;
use crate::monitor::Monitor;
use crate::system::inherited::Inherited;
use crate::tally::Tally;
use crate::tls;

/// Descriptors beside the clients: standard ones, listeners, lanes, sessions, and reserve.
const RESERVED_DESCRIPTORS: u64 = 128;

/// Runs the agent. Where listening sockets were inherited, nothing else is listened on: who has passed them decides
/// where the agent is reached. An `Err` is one line: what could not be started, or what failed.
pub fn run(config: Config, inherited: Vec<Inherited>) -> Result<(), String> {
    let listeners = if inherited.is_empty() {
        listener::bind_all(&config.listen, &config.tls_listen, config.agent_listen)?
    } else {
        let adopt = |Inherited { socket, name }| {
            let listener = listener::adopt(socket, protocol_of(&name))?;
            Ok::<_, String>(if name == TLS { listener.over_tls() } else { listener })
        };
        inherited.into_iter().map(adopt).collect::<Result<_, _>>()?
    };
    serve(config, listeners, None)
}

/// Refuses sockets on which something should be spoken that this configuration, or this build, does not know.
pub fn refuse_unspeakable(config: &Config, inherited: &[Inherited]) -> Result<(), String> {
    let is_passed = inherited.iter().any(|socket| socket.name == TLS);
    if is_passed && config.tls.is_none() {
        let why = tls::only_if_here().err().unwrap_or_else(|| "it takes tls-cert and tls-key".into());
        return Err(format!("FileDescriptorName={TLS}: {why}"));
    }
    let is_port = is_passed || inherited.is_empty() && !config.tls_listen.is_empty();
    if cfg!(feature = "tls") && config.tls_client_ca.is_some() && !is_port {
        // Nobody would be asked for a certificate.
        return Err("tls-client-ca is about a port of HTTPS, and there is none: it takes tls-listen".into());
    }
    Ok(())
}

/// `FileDescriptorName=` in the socket unit: HTTPS.
const TLS: &str = "tls";

/// `FileDescriptorName=agent` in the socket unit makes a port for HAProxy's agent-check; all others speak HTTP.
pub(super) fn protocol_of(name: &str) -> Protocol {
    if name == "agent" { Protocol::Agent } else { Protocol::Http }
}

/// Serves these listeners until a signal, or until `idle_exit` has passed without a request.
pub(super) fn serve(
    config: Config,
    listeners: Vec<Listener>,
    idle_exit: Option<Duration>,
) -> Result<(), String> {
    let cannot_watch = |error| format!("cannot watch signals: {error}");
    let stop = signals::watch().map_err(cannot_watch)?;
    let reload = signals::watch_reload().map_err(cannot_watch)?;
    let max_connections = fit_descriptors(config.max_connections);
    let (sealed, lanes) = sealed_lanes::<LANES>()
        .map_err(|error| format!("cannot open the private way to the HTTP server: {error}"))?;
    let tally = Arc::new(Tally::new());
    let monitor = Monitor::start(ProbeSettings::of(&config), Arc::clone(&tally))
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let witnesses = Witnesses::start(&config, None, Arc::clone(&tally))
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let terms = Terms::of(&config, max_connections, witnesses);
    let service = Arc::new(Service::new(monitor.clone(), terms, Arc::clone(&tally)));
    let roster = Arc::new(Roster::default());
    pool::start(sealed, config.workers, &service, &roster)
        .map_err(|error| format!("cannot start the HTTP server: {error}"))?;
    for listener in &listeners {
        log::info!(target: "pgsqlchk", "listening on {listener}");
    }
    let ourselves = Caller::default();
    watchdog::start(&listeners, ourselves.clone(), monitor.clone(), config.timeout)
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let speaks_tls = listeners.iter().any(Listener::speaks_tls);
    let reloader = Reloader { started: config, speaks_tls, monitor, service: Arc::clone(&service), tally };
    reloader.start(reload).map_err(|error| format!("cannot start a thread: {error}"))?;
    let rules = Rules { ourselves, idle_exit };
    Gate::new(listeners, rules, service, Dispatcher::new(lanes, roster), stop).run()
}

/// Raises the soft limit of descriptors as far as `wanted` clients need it, and says how many clients fit.
pub(super) fn fit_descriptors(wanted: usize) -> usize {
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
