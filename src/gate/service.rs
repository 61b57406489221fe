//! From a clean request to its reply: the way through target, monitor, verdict and reply.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tiny_http::{Method, Request};

use super::terms::Terms;
use crate::balancers::Balancers;
use crate::config::Protocol;
use crate::instance::Observation;
use crate::monitor::{Answer, Monitor};
use crate::panics;
use crate::peers::News;
use crate::reason::Reason;
use crate::reply::{Background, HttpReply, Media};
use crate::system::own_name::OwnName;
use crate::tally::Tally;
use crate::verdict::{Path, Target, origin_form};
use crate::wire::dialect;
use crate::wire::head::RequestHead;

/// What every thread that answers shares.
pub(crate) struct Service {
    monitor: Monitor,
    terms: Mutex<Arc<Terms>>,
    pub(crate) tally: Arc<Tally>,
    /// What HAProxy says of this server.
    pub(crate) balancers: Arc<Balancers>,
    /// Arrival times travel through tiny_http as a number of nanoseconds since this moment.
    epoch: Instant,
}

/// Tells the worker when the request had arrived at the gate: deadline and truth count from there.
const ARRIVED: &str = "Arrived";

/// Tells the worker that HTML is preferred, where it is.
const ACCEPT: &str = "Accept";

/// Tells the worker how many milliseconds the client waits, where that is less than the deadline of all.
const PATIENCE: &str = "Patience";

/// Tells the worker that the answer is for HAProxy's agent-check.
const FOR_AGENT_CHECK: &str = "For-Agent-Check";

impl Service {
    pub(crate) fn new(monitor: Monitor, terms: Terms, tally: Arc<Tally>) -> Service {
        let (terms, balancers) = (Mutex::new(Arc::new(terms)), Arc::new(Balancers::new()));
        Service { monitor, terms, tally, balancers, epoch: Instant::now() }
    }

    /// What holds now.
    pub(crate) fn terms(&self) -> Arc<Terms> {
        Arc::clone(&self.terms.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Requests that come after this call are served under these terms; those under way end as they began.
    pub(crate) fn replace_terms(&self, terms: Terms) {
        let terms = Arc::new(terms);
        // Dropped when the lock is free again.
        let _before =
            std::mem::replace(&mut *self.terms.lock().unwrap_or_else(PoisonError::into_inner), terms);
    }

    /// The head as tiny_http gets it: only what the answer depends on. Nothing else a client wrote goes further, not
    /// even the authority of an absolute target, which can be as long as a head.
    pub(crate) fn canonical_head(
        &self,
        protocol: Protocol,
        request: &RequestHead,
        arrived: Instant,
    ) -> Vec<u8> {
        let nanos = arrived.saturating_duration_since(self.epoch).as_nanos();
        let target = origin_form(&request.target);
        let mut head = format!("{} {target} HTTP/1.1\r\n{ARRIVED}: {nanos}\r\n", request.method);
        match protocol {
            Protocol::Http => {}
            Protocol::Agent => head.extend([FOR_AGENT_CHECK, ": yes\r\n"]),
        }
        match request.media {
            Media::Json => {}
            Media::Html => head.extend([ACCEPT, ": ", Media::Html.content_type(), "\r\n"]),
        }
        if let Some(patience) = request.patience {
            head.push_str(&format!("{PATIENCE}: {}\r\n", patience.as_millis()));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Takes a request from tiny_http: answers it, or leaves it with the monitor. Does not block. On a lane,
    /// tiny_http holds every reply back until the earlier ones are written; so that nobody waits for a thread
    /// that waits for him, requests have to be taken in the order in which tiny_http gives them.
    pub(crate) fn take(&self, request: Request) {
        let asked = Asked::new(request, &self.tally);
        let _ = panics::contain(|| self.take_up(asked));
    }

    fn take_up(&self, mut asked: Asked) {
        panics::trip("taking");
        let Some(request) = &asked.request else { return };
        let arrived = self.arrival_of(request);
        let (media, patience) = (preferred_by(request), patience_of(request));
        let terms = self.terms();
        let target = match terms.door.standing.read(request.url()) {
            Ok(target) => target,
            Err(error) => return asked.respond(&HttpReply::of_target_error(&error)),
        };
        asked.path = Some(target.path);
        let protocol = asked.protocol;
        match dialect::needs(protocol, target, terms.witnesses.has_peers()) {
            None => asked.respond(&alive(protocol, target, &self.tally)),
            Some(needs) => {
                let monitor = self.monitor.clone();
                let tally = Arc::clone(&self.tally);
                let balancers = Arc::clone(&self.balancers);
                let answer = move |observation: Observation, news: News| {
                    panics::trip("answering");
                    let remember = || monitor.chronicle();
                    let background = Background {
                        media,
                        own_name: OwnName::get(),
                        news: &news,
                        remember: &remember,
                        figures: &|| tally.figures(),
                        balancers: &|| balancers.said(Instant::now()),
                    };
                    asked.respond(&reply_to(protocol, target, &observation, &background, &tally));
                };
                let deadline = arrived + limit(target, terms.timeout, patience);
                let witnesses = Arc::clone(&terms.witnesses);
                let summons = witnesses.call(protocol, target, arrived);
                let answer: Answer =
                    Box::new(move |observation| witnesses.attend(target, summons, observation, answer));
                self.monitor.park(needs, deadline, answer);
            }
        }
    }

    /// Does the probing that waits, if nobody is at it. Can hang.
    pub(crate) fn run(&self) {
        self.monitor.run();
    }

    fn arrival_of(&self, request: &Request) -> Instant {
        let header = request.headers().iter().find(|header| header.field.equiv(ARRIVED));
        let nanos = header.and_then(|header| header.value.as_str().parse().ok());
        nanos.map_or_else(Instant::now, |nanos| self.epoch + Duration::from_nanos(nanos))
    }
}

fn protocol_of(request: &Request) -> Protocol {
    let is_agent_check = request.headers().iter().any(|header| header.field.equiv(FOR_AGENT_CHECK));
    if is_agent_check { Protocol::Agent } else { Protocol::Http }
}

fn patience_of(request: &Request) -> Option<Duration> {
    let header = request.headers().iter().find(|header| header.field.equiv(PATIENCE));
    header.and_then(|header| header.value.as_str().parse().ok()).map(Duration::from_millis)
}

/// The deadline of a request. Other agents wait for `/node` for less than a hanging instance takes, and then even the news
/// that it hangs would not arrive.
pub(crate) fn limit(target: Target, timeout: Duration, patience: Option<Duration>) -> Duration {
    match target.path {
        Path::Node => patience.map_or(timeout, |patience| patience.min(timeout)),
        _ => timeout,
    }
}

fn preferred_by(request: &Request) -> Media {
    let is_html = request.headers().iter().any(|header| header.field.equiv(ACCEPT));
    if is_html { Media::Html } else { Media::Json }
}

/// The reply to a target after a look at the instance. Here it is counted.
pub(crate) fn reply_to(
    protocol: Protocol,
    target: Target,
    observation: &Observation,
    background: &Background<'_>,
    tally: &Tally,
) -> HttpReply {
    let reply = dialect::reply(protocol, target, observation, background);
    tally.requests.count(Some(target.path), reply.status());
    reply
}

/// The reply to a target that needs no look. It is counted.
pub(crate) fn alive(protocol: Protocol, target: Target, tally: &Tally) -> HttpReply {
    let reply = dialect::alive(protocol);
    tally.requests.count(Some(target.path), reply.status());
    reply
}

/// A request that will be answered: where whoever has it panics, with 503.
struct Asked {
    /// `None` when it was answered.
    request: Option<Request>,
    protocol: Protocol,
    /// `None` while it is unknown.
    path: Option<Path>,
    tally: Arc<Tally>,
}

impl Asked {
    fn new(request: Request, tally: &Arc<Tally>) -> Asked {
        let protocol = protocol_of(&request);
        Asked { request: Some(request), protocol, path: None, tally: Arc::clone(tally) }
    }

    /// Reason phrases cannot be set through tiny_http's `Response`, so the bytes are ours.
    fn respond(mut self, reply: &HttpReply) {
        self.write(reply);
    }

    fn write(&mut self, reply: &HttpReply) {
        let Some(request) = self.request.take() else { return };
        let is_head = *request.method() == Method::Head;
        let bytes = reply.to_bytes(is_head);
        let mut writer = request.into_writer();
        // The gate takes every reply; if it is gone, so is the process.
        let _ = writer.write_all(&bytes).and_then(|()| writer.flush());
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.request.is_some() {
            let reply = dialect::down(self.protocol, Reason::AgentOutOfResources);
            self.tally.requests.count(self.path, reply.status());
            self.write(&reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::witnesses::Witnesses;
    use super::*;
    use crate::cli;
    use crate::config::{Config, ConnectionSettings, Endpoint, PasswordSource};
    use crate::instance::ProbeSettings;

    /// The lanes' buffers are sized for this.
    #[test]
    fn a_canonical_head_is_short_however_long_the_authority() {
        let connection = ConnectionSettings {
            endpoint: Endpoint::DefaultSocket,
            port: 5432,
            user: "pgsqlchk".into(),
            password: PasswordSource::None,
            ..ConnectionSettings::unsaid()
        };
        let timeout = Duration::from_secs(1);
        let settings = ProbeSettings {
            connection,
            timeout,
            knock_interval: timeout,
            login_interval: timeout,
            drain_file: "/run/pgsqlchk/drain".into(),
        };
        let monitor = Monitor::start(settings, Arc::default()).unwrap();
        let config = cli::parse(["pgsqlchk", "--config", "/dev/null"].map(OsString::from).into_iter())
            .and_then(Config::load)
            .unwrap();
        let witnesses = Witnesses::start(&config, None, Arc::default()).unwrap();
        let service = Service::new(monitor, Terms::of(&config, 1, witnesses), Arc::default());
        for (path, expected) in [
            ("/primary", "OPTIONS /primary HTTP/1.1\r\n"),
            ("", "OPTIONS / HTTP/1.1\r\n"),
            ("?lag=1", "OPTIONS /?lag=1 HTTP/1.1\r\n"),
            (&"/".repeat(8000), "OPTIONS / HTTP/1.1\r\n"),
        ] {
            let target = format!("http://{}{path}", "a".repeat(8000));
            let request =
                RequestHead { method: "OPTIONS".into(), media: Media::Html, ..RequestHead::get(&target) };
            let head = service.canonical_head(Protocol::Agent, &request, Instant::now());
            let head = String::from_utf8(head).unwrap();
            assert!(head.starts_with(expected) && head.len() < 200, "{head}");
        }
    }
}
