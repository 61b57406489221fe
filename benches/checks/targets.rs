//! What asks for more than the role, beside the plain check of the same instance: a lag limit, and metrics.

use std::time::Duration;

use crate::client::{PATIENCE, buffer, exchange, timed};
use crate::report::{heading, median, say, timing_row};
use crate::support::{Agent, Cluster, eventually, http};

/// Instance, target, the code of its reply and the goal; the first one of each instance is the unit.
const TARGETS: [(bool, &str, &str, &str); 7] = [
    (false, "/", "206", "the unit"),
    (false, "/replica", "200", "at most 1.30"),
    (false, "/replica?lag=16MB", "200", "at most 1.50"),
    (false, "/metrics", "200", "at most 3.00"),
    (true, "/", "200", "the unit"),
    (true, "/replica", "503", "at most 1.20"),
    (true, "/metrics", "200", "at most 3.00"),
];

/// One of each, in turns, so many times.
pub fn measure(turns: usize, title: &str) {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let agent = |cluster: &Cluster| Agent::start(&["--dsn", &cluster.dsn()]);
    let (beside_primary, beside_standby) = (agent(&primary), agent(&standby));
    let addr = |is_primary| if is_primary { beside_primary.addr() } else { beside_standby.addr() };
    let is_lag_known =
        || http::get(beside_standby.addr(), "/replica?lag=16MB").is_ok_and(|reply| reply.status == 200);
    eventually(PATIENCE, "the lag is known", is_lag_known);
    let mut buffer = buffer();
    let mut timings = TARGETS.map(|_| Vec::with_capacity(turns));
    for turn in 0..turns + turns / 10 {
        for ((is_primary, target, code, _), timings) in TARGETS.iter().zip(&mut timings) {
            let request = format!("OPTIONS {target} HTTP/1.0\r\n\r\n");
            // Once more than is timed: the first one after another target pays for cold caches, whichever it is.
            exchange(addr(*is_primary), &request, code, &mut buffer);
            let took = timed(|| exchange(addr(*is_primary), &request, code, &mut buffer));
            // The first ones warm up.
            if turn >= turns / 10 {
                timings.push(took);
            }
        }
    }
    print(timings, title);
}

fn print(mut timings: [Vec<Duration>; TARGETS.len()], title: &str) {
    heading(&format!("targets that ask for more, {title}"));
    let mut unit = Duration::ZERO;
    for ((is_primary, target, _, goal), timings) in TARGETS.iter().zip(&mut timings) {
        if *target == "/" {
            unit = median(timings);
        }
        let place = if *is_primary { "beside a primary" } else { "beside a standby" };
        timing_row(&format!("{target} {place}"), timings, unit, goal);
    }
    say("");
}
