//! What a check costs, as ratios within one run: the machine and its mood cancel out.
//!
//! A real primary, the release build of the agent beside it, and one table. Whatever is compared is measured in
//! turns, in the same loop, twice: with everything on one processor, which shows the work alone and is steady from
//! run to run, and spread as the system likes, where waking an idle processor can cost more than the work.
//! Nothing is asserted: the column `goal` says what is aimed at. `BENCH_CHECKS` is the number of checks of the
//! whole run, 200,000 unless it says otherwise. `BENCH_ONLY=xinetd` makes those under xinetd only, `BENCH_ONLY=targets`
//! those that ask for more than the role, `BENCH_ONLY=peers` what it costs to know other agents, `BENCH_ONLY=clients` to
//! see to it that clients can work, `BENCH_ONLY=tls` (with the feature `tls`) what TLS costs, `BENCH_ONLY=work` counts what a check makes server and agent do, and
//! `BENCH_ONLY=figures` looks at the program itself: its size, memory and start.

#[path = "../tests/support/mod.rs"]
mod support;
// Not in this folder itself, where Cargo would take them for benchmarks of their own.
#[path = "checks/client.rs"]
mod client;
#[path = "checks/clients.rs"]
mod clients;
#[path = "checks/crowd.rs"]
mod crowd;
#[path = "checks/figures.rs"]
mod figures;
#[path = "checks/one_shots.rs"]
mod one_shots;
#[path = "checks/peers.rs"]
mod peers;
#[path = "checks/report.rs"]
mod report;
#[path = "checks/round_trips.rs"]
mod round_trips;
#[path = "checks/targets.rs"]
mod targets;
#[cfg(feature = "tls")]
#[path = "checks/tls.rs"]
mod tls;
#[path = "checks/work.rs"]
mod work;
#[path = "checks/xinetd.rs"]
mod xinetd;

use std::thread;

use client::exchange_many;
use crowd::{Crowd, ask};
use postgres::Client;
use report::{grouped, row, say};
use round_trips::Timings;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use support::{Agent, Cluster};

fn main() {
    let checks = checks();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let everywhere = sched_getaffinity(None).expect("sched_getaffinity");

    let one = one_of(&everywhere);
    keep_to(&one);
    let mut site = Site::start();
    let server = ask(&mut site.session, "SHOW server_version");
    say(&format!("PostgreSQL {server}, {processors} processors, {} checks\n", grouped(checks)));
    let only = std::env::var("BENCH_ONLY").ok();
    let is_wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    if only.is_none() {
        exchange_many(checks / 200, site.agent.addr());
        Timings::measure(checks / 20, &mut site).print("everything on one processor");
    }
    drop(site);
    for (processors, title) in [(&one, "on one processor"), (&everywhere, "on all processors")] {
        keep_to(processors);
        if is_wanted("work") {
            work::measure(checks / 40, title);
        }
        if is_wanted("targets") {
            targets::measure(checks / 40, title);
        }
        if is_wanted("peers") {
            peers::measure(checks / 40, title);
        }
        if is_wanted("clients") {
            clients::measure(checks / 40, title);
        }
        #[cfg(feature = "tls")]
        if is_wanted("tls") {
            tls::measure(checks / 100, title);
        }
        if is_wanted("xinetd") {
            one_shots::measure(checks, title);
        }
    }
    if is_wanted("figures") {
        figures::print();
    }
    if only.is_some() {
        return;
    }
    let mut site = Site::start();
    let agent = site.agent.addr();
    let few = checks / 200;
    exchange_many(few, agent);
    let mut memory = vec![(few, site.agent.rss_kib())];
    let turns = checks / 20;
    Timings::measure(turns, &mut site).print("on all processors");

    let mut done = few + turns;
    let mut crowd = Crowd::default();
    for mark in [checks / 2, checks] {
        crowd.run(mark - done, agent, &mut site.session);
        done = mark;
        memory.push((done, site.agent.rss_kib()));
    }
    crowd.print();
    print_memory(&memory);
    row("threads", &site.agent.threads().to_string(), "");
    row("descriptors", &site.agent.descriptors().to_string(), "");
}

/// A primary, an agent beside it, and a session of our own over the same socket.
struct Site {
    // In the order they go: the server last.
    session: Client,
    agent: Agent,
    _primary: Cluster,
}

impl Site {
    /// On the processors this thread may use: every process it starts inherits them.
    fn start() -> Site {
        let primary = Cluster::primary();
        let agent = Agent::start(&["--dsn", &primary.dsn()]);
        Site { session: primary.connect(), agent, _primary: primary }
    }
}

/// Restricts this thread, and what it starts from now on, to these processors.
fn keep_to(processors: &CpuSet) {
    sched_setaffinity(None, processors).expect("sched_setaffinity");
}

fn one_of(processors: &CpuSet) -> CpuSet {
    let mut one = CpuSet::new();
    one.set((0..CpuSet::MAX_CPU).find(|cpu| processors.is_set(*cpu)).expect("a processor"));
    one
}

/// How many checks the whole run makes.
fn checks() -> usize {
    let text = std::env::var("BENCH_CHECKS").unwrap_or_else(|_| "200000".to_owned());
    let number: usize = text.replace([',', '_'], "").parse().expect("BENCH_CHECKS is a number");
    number.max(1000)
}

fn print_memory(memory: &[(usize, u64)]) {
    let mebibytes = |kibibytes: u64| format!("{:.2} MiB", kibibytes as f64 / 1024.0);
    for (place, (checks, resident)) in memory.iter().enumerate() {
        let goal = match place {
            0 => "",
            1 => "3.00 MiB",
            _ => "no growth",
        };
        row(&format!("resident memory after {} checks", grouped(*checks)), &mebibytes(*resident), goal);
    }
}
