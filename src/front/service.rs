//! From a clean request to its reply: the way through target, monitor, verdict and reply.

use std::time::{Duration, Instant};

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

    /// The reply to a request that tiny_http has taken. Returns by the deadline.
    pub(super) fn answer(&self, request: &tiny_http::Request) -> HttpReply {
        let arrived = self.arrival_of(request);
        let target = match what_is_asked(request.method().as_str(), request.url()) {
            Ok(target) => target,
            Err(reply) => return reply,
        };
        match target.needs() {
            None => HttpReply::alive(),
            Some(needs) => {
                let observation = self.monitor.observe(needs, arrived + self.timeout);
                HttpReply::of_verdict(target, judge(target, &observation))
            }
        }
    }

    fn arrival_of(&self, request: &tiny_http::Request) -> Instant {
        let header = request.headers().iter().find(|header| header.field.equiv(ARRIVED));
        let nanos = header.and_then(|header| header.value.as_str().parse().ok());
        nanos.map_or_else(Instant::now, |nanos| self.epoch + Duration::from_nanos(nanos))
    }
}

/// Whether the answer has to wait for PostgreSQL.
pub(super) fn waits_for_postgresql(request: &RequestHead) -> bool {
    what_is_asked(&request.method, &request.target).is_ok_and(|target| target.needs().is_some())
}

fn what_is_asked(method: &str, request_target: &str) -> Result<Target, HttpReply> {
    if !matches!(method, "GET" | "HEAD" | "OPTIONS") {
        return Err(HttpReply::method_not_allowed());
    }
    Target::parse(request_target).map_err(|error| HttpReply::of_target_error(&error))
}
