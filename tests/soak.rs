//! Load with reconnects and faults for as long as is wanted (`make soak SECONDS=600`): does anything grow?
//!
//! Every second the agent's resident memory, descriptors and threads are taken down. The first quarter is for warming
//! up. Of the rest, the least memory of the first third is held against that of the last: the load makes single samples
//! jump, and a leak lifts the least of them, too. Descriptors and threads have to be as few as before when it is over.

mod support;

use std::env;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::siege::Footprint;
use support::wire::{PATIENCE, Wire};
use support::{Agent, Cluster, Frozen, StopMode, eventually, millis, secs};

/// Where `SOAK_SECONDS` says nothing.
const DEFAULT_SECONDS: u64 = 60;

/// By how much the least resident memory may differ, in KiB: what the allocator keeps is not constant.
const MEMORY_SLACK_KIB: u64 = 256;

/// Between two samples, and between two faults.
const PACE: Duration = secs(1);

const REQUESTS: &[&str] = &[
    "OPTIONS / HTTP/1.0\r\n\r\n",
    "GET /read-write HTTP/1.1\r\n\r\n",
    "GET /replica?lag=16MB&lag_time=10s HTTP/1.1\r\n\r\n",
    "GET /status HTTP/1.1\r\n\r\n",
    "GET /status HTTP/1.1\r\nAccept: text/html\r\n\r\n",
    "GET /metrics HTTP/1.1\r\n\r\n",
    "GET /nothing HTTP/1.1\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    "GET / HTTP/1.1\r\nBro",
    "\0",
];

#[derive(Clone, Copy, Debug)]
struct Sample {
    minutes: f64,
    memory_kib: u64,
    descriptors: u64,
    threads: u64,
}

/// One figure of a sample.
type Value = fn(&Sample) -> u64;

#[test]
fn nothing_grows() {
    let wanted = env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let length = secs(wanted.unwrap_or(DEFAULT_SECONDS).max(20));
    let primary = Cluster::primary();
    let dsn = primary.dsn();
    let args =
        ["--dsn", &dsn, "--agent-listen", "127.0.0.1:0", "--timeout", "500ms", "--knock-interval", "50ms"];
    let mut agent = Agent::start(&args);
    let before = Footprint::at_rest(&agent);
    let (http, line) = (agent.addr(), agent.agent_check_addr());
    let (is_over, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    let mut samples = Vec::new();
    let mut faults = 0;
    thread::scope(|scope| {
        for number in 0..3 {
            let (is_over, asked) = (&is_over, &asked);
            scope.spawn(move || {
                for round in number.. {
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    let is_line = round % 8 == 7;
                    let Ok(mut wire) = Wire::try_connect(if is_line { line } else { http }) else { continue };
                    let _ =
                        wire.try_send(if is_line { "/primary\n" } else { REQUESTS[round % REQUESTS.len()] });
                    match round % 16 {
                        13 => wire.reset(),
                        14 => drop(wire),
                        _ => {
                            wire.half_close();
                            drop(wire.receive(PATIENCE));
                        }
                    }
                    asked.fetch_add(1, Ordering::SeqCst);
                    thread::sleep(millis(1));
                }
            });
        }
        while begun.elapsed() < length && agent.is_alive() {
            let next = Instant::now() + PACE;
            fault(&primary, faults);
            faults += 1;
            samples.push(Sample {
                minutes: begun.elapsed().as_secs_f64() / 60.0,
                memory_kib: agent.rss_kib(),
                descriptors: agent.descriptors() as u64,
                threads: agent.threads(),
            });
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        is_over.store(true, Ordering::SeqCst);
    });
    assert!(agent.is_alive(), "the agent ended");
    eventually(secs(10), "it is a primary again", || agent.get("/").line() == "200 Primary");
    // Under load they go up and down; when it is over, not one may be left.
    before.wait_for_return(&agent);
    report(&samples[samples.len() / 4..], asked.load(Ordering::SeqCst), faults, agent.peak_rss_kib());
}

/// One fault after the other, in turns.
fn fault(primary: &Cluster, number: usize) {
    match number % 8 {
        3 => primary.restart(StopMode::Fast),
        7 => primary.restart(StopMode::Immediate),
        5 => {
            // Longer than the deadline: the session is abandoned.
            let frozen = Frozen::all(primary.backend_pids("pgsqlchk"));
            thread::sleep(millis(700));
            drop(frozen);
        }
        _ => {
            let end =
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgsqlchk'";
            drop(primary.try_psql(end));
        }
    }
}

#[expect(clippy::print_stdout, reason = "the figures are what this is run for")]
fn report(samples: &[Sample], asked: u64, faults: usize, peak_kib: u64) {
    let figures: [(&str, &str, Value); 3] = [
        ("resident memory", "KiB", |sample| sample.memory_kib),
        ("descriptors", "", |sample| sample.descriptors),
        ("threads", "", |sample| sample.threads),
    ];
    println!("{asked} requests, {faults} faults, {} samples, peak memory {peak_kib} KiB", samples.len());
    let third = samples.len() / 3;
    for (name, unit, value) in figures {
        let least = |part: &[Sample]| part.iter().map(value).min().expect("samples");
        let (early, late) = (least(&samples[..third]), least(&samples[samples.len() - third..]));
        let slope = slope_per_minute(samples, value);
        println!("{name}: {early} {unit} -> {late} {unit}, slope {slope:+.3} {unit} a minute");
    }
    let least_memory = |part: &[Sample]| part.iter().map(|sample| sample.memory_kib).min();
    let (early, late) = (least_memory(&samples[..third]), least_memory(&samples[samples.len() - third..]));
    assert!(late <= early.map(|early| early + MEMORY_SLACK_KIB), "memory has grown: {early:?}, {late:?}");
}

/// The straight line through all samples (least squares).
fn slope_per_minute(samples: &[Sample], value: Value) -> f64 {
    let count = samples.len() as f64;
    let mean_x = samples.iter().map(|sample| sample.minutes).sum::<f64>() / count;
    let mean_y = samples.iter().map(|sample| value(sample) as f64).sum::<f64>() / count;
    let along = |sample: &Sample| sample.minutes - mean_x;
    let both: f64 = samples.iter().map(|sample| along(sample) * (value(sample) as f64 - mean_y)).sum();
    both / samples.iter().map(|sample| along(sample).powi(2)).sum::<f64>()
}
