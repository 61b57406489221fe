//! From a clean request to its reply: the way through target, monitor, verdict and reply.

use std::io::Write;
use std::time::{Duration, Instant};

use tiny_http::{Method, Request};

use super::head::RequestHead;
use crate::monitor::Monitor;
use crate::reply::HttpReply;
use crate::verdict::{Target, judge};

/// What every thread that answers shares.
pub(super) struct Service {
    monitor: Monitor,
    timeout: Duration,
    /// Arrival times travel through tiny_http as a number of nanoseconds since this moment.
    epoch: Instant,
}

/// Tells the worker when the request had arrived at the gate: deadline and truth count from there.
const ARRIVED: &str = "Arrived";

impl Service {
    pub(super) fn new(monitor: Monitor, timeout: Duration) -> Service {
        Service { monitor, timeout, epoch: Instant::now() }
    }

    /// The head as tiny_http gets it: only what the answer depends on. Nothing else a client wrote goes further.
    pub(super) fn canonical_head(&self, request: &RequestHead, arrived: Instant) -> Vec<u8> {
        let nanos = arrived.saturating_duration_since(self.epoch).as_nanos();
        format!("{} {} HTTP/1.1\r\n{ARRIVED}: {nanos}\r\n\r\n", request.method, request.target).into_bytes()
    }

    /// Takes a request from tiny_http: answers it, or leaves it with the monitor. Does not block. On a lane,
    /// tiny_http holds every reply back until the earlier ones are written; so that nobody waits for a thread
    /// that waits for him, requests have to be taken in the order in which tiny_http gives them.
    pub(super) fn take(&self, request: Request) {
        let deadline = self.arrival_of(&request) + self.timeout;
        let target = match Target::parse(request.url()) {
            Ok(target) => target,
            Err(error) => return respond(request, &HttpReply::of_target_error(&error)),
        };
        match target.needs() {
            None => respond(request, &HttpReply::alive()),
            Some(needs) => {
                let answer = move |observation| {
                    respond(request, &HttpReply::of_verdict(target, judge(target, &observation)));
                };
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
