//! From a clean request to its reply: the way through target, monitor, verdict and reply.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tiny_http::{Method, Request};

use super::head::RequestHead;
use crate::instance::Observation;
use crate::monitor::Monitor;
use crate::reply::{HttpReply, http_reply};
use crate::tally::Tally;
use crate::verdict::{Limits, Target, origin_form};

/// What every thread that answers shares.
pub(super) struct Service {
    monitor: Monitor,
    timeout: Duration,
    /// How far a standby may lag, whatever is asked.
    limits: Limits,
    pub(super) tally: Arc<Tally>,
    /// Arrival times travel through tiny_http as a number of nanoseconds since this moment.
    epoch: Instant,
}

/// Tells the worker when the request had arrived at the gate: deadline and truth count from there.
const ARRIVED: &str = "Arrived";

impl Service {
    pub(super) fn new(monitor: Monitor, timeout: Duration, limits: Limits, tally: Arc<Tally>) -> Service {
        Service { monitor, timeout, limits, tally, epoch: Instant::now() }
    }

    /// The head as tiny_http gets it: only what the answer depends on. Nothing else a client wrote goes further, not
    /// even the authority of an absolute target, which can be as long as a head.
    pub(super) fn canonical_head(&self, request: &RequestHead, arrived: Instant) -> Vec<u8> {
        let nanos = arrived.saturating_duration_since(self.epoch).as_nanos();
        let target = origin_form(&request.target);
        format!("{} {target} HTTP/1.1\r\n{ARRIVED}: {nanos}\r\n\r\n", request.method).into_bytes()
    }

    /// Takes a request from tiny_http: answers it, or leaves it with the monitor. Does not block. On a lane,
    /// tiny_http holds every reply back until the earlier ones are written; so that nobody waits for a thread
    /// that waits for him, requests have to be taken in the order in which tiny_http gives them.
    pub(super) fn take(&self, request: Request) {
        let deadline = self.arrival_of(&request) + self.timeout;
        let target = match Target::parse(request.url()) {
            Ok(target) => target.limited_by(self.limits),
            Err(error) => return respond(request, &HttpReply::of_target_error(&error)),
        };
        match target.needs() {
            None => respond(request, &alive(target, &self.tally)),
            Some(needs) => {
                let tally = Arc::clone(&self.tally);
                let answer = move |observation| respond(request, &reply_to(target, &observation, &tally));
                self.monitor.park(needs, deadline, Box::new(answer));
            }
        }
    }

    /// Does the probing that waits, if nobody is at it. Can hang.
    pub(super) fn run(&self) {
        self.monitor.run();
    }

    fn arrival_of(&self, request: &Request) -> Instant {
        let header = request.headers().iter().find(|header| header.field.equiv(ARRIVED));
        let nanos = header.and_then(|header| header.value.as_str().parse().ok());
        nanos.map_or_else(Instant::now, |nanos| self.epoch + Duration::from_nanos(nanos))
    }
}

/// The reply to a target after a look at the instance. Here it is counted, by the code that HTTP has for it, also
/// where another dialect is spoken.
pub(super) fn reply_to(target: Target, observation: &Observation, tally: &Tally) -> HttpReply {
    let reply = http_reply(target, observation, || tally.figures());
    tally.requests.count(Some(target.path), reply.status());
    reply
}

/// The reply to a target that needs no look. It is counted.
pub(super) fn alive(target: Target, tally: &Tally) -> HttpReply {
    let reply = HttpReply::alive();
    tally.requests.count(Some(target.path), reply.status());
    reply
}

/// What a head asks, or the reply to a head that asks nothing we know.
pub(super) fn what_is_asked(request: &RequestHead) -> Result<Target, HttpReply> {
    if !matches!(request.method.as_str(), "GET" | "HEAD" | "OPTIONS") {
        return Err(HttpReply::method_not_allowed());
    }
    Target::parse(&request.target).map_err(|error| HttpReply::of_target_error(&error))
}

/// Reason phrases cannot be set through tiny_http's `Response`, so the bytes are ours.
fn respond(request: Request, reply: &HttpReply) {
    let is_head = *request.method() == Method::Head;
    let mut writer = request.into_writer();
    // The gate takes every reply; if it is gone, so is the process.
    let _ = writer.write_all(&reply.to_bytes(is_head)).and_then(|()| writer.flush());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConnectionSettings, Endpoint, Keepalives, PasswordSource};
    use crate::instance::ProbeSettings;

    /// The lanes' buffers are sized for this.
    #[test]
    fn a_canonical_head_is_short_however_long_the_authority() {
        let connection = ConnectionSettings {
            endpoint: Endpoint::DefaultSocket,
            port: 5432,
            user: "pgsqlchk".into(),
            database: "postgres".into(),
            password: PasswordSource::None,
            application_name: "pgsqlchk".into(),
            options: None,
            connect_timeout: None,
            keepalives: Keepalives { enabled: true, idle: None, interval: None, count: None },
            tcp_user_timeout: None,
        };
        let timeout = Duration::from_secs(1);
        let settings = ProbeSettings {
            connection,
            timeout,
            knock_interval: timeout,
            drain_file: "/run/pgsqlchk/drain".into(),
        };
        let monitor = Monitor::start(settings, Arc::default()).unwrap();
        let service = Service::new(monitor, timeout, Limits::default(), Arc::default());
        for (path, expected) in
            [("/primary", "OPTIONS /primary HTTP/1.1\r\n"), ("", "OPTIONS / HTTP/1.1\r\n")]
        {
            let target = format!("http://{}{path}", "a".repeat(8000));
            let request = RequestHead { method: "OPTIONS".into(), target };
            let head = String::from_utf8(service.canonical_head(&request, Instant::now())).unwrap();
            assert!(head.starts_with(expected) && head.len() < 200, "{head}");
        }
    }
}
