//! What the program weighs: its file for each architecture, its memory, and the time from its start to its first answer.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{CHECK, PATIENCE, exchange_many};
use crate::report::{grouped, median, micros, percentile, row, say};
use crate::support::folder::Folder;
use crate::support::{Agent, Cluster, agent, free_port};

/// After so many checks the memory is looked at.
const CHECKS: usize = 10_000;

/// How often the program is started.
const STARTS: usize = 50;

/// Between two attempts to reach a program that has just been started: a small part of what is measured.
const PAUSE: Duration = Duration::from_micros(100);

/// Measures and prints them.
pub fn print() {
    say(&format!("{:<52}{:>10}{:>20}", "the program", "value", "goal"));
    sizes();
    let primary = Cluster::primary();
    memory(&primary);
    starts(&primary);
    say("");
}

/// Of the static programs, where `make static` has built them.
fn sizes() {
    let folders = Path::new(env!("CARGO_TARGET_TMPDIR")).ancestors();
    let Some(folder) = folders.map(|folder| folder.join("static")).find(|folder| folder.is_dir()) else {
        return say("(sizes: make static has not been run)");
    };
    for architecture in ["x86_64", "aarch64", "armv7"] {
        if let Ok(file) = fs::metadata(folder.join(architecture).join("pgsqlchk")) {
            row(&format!("static program, {architecture}"), &mebibytes(file.len()), "2.00 MiB");
        }
    }
}

fn memory(primary: &Cluster) {
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    exchange_many(1, agent.addr());
    row("resident memory after the first check", &mebibytes(agent.rss_kib() * 1024), "3.00 MiB");
    exchange_many(CHECKS, agent.addr());
    let name = format!("resident memory after {} checks", grouped(CHECKS));
    row(&name, &mebibytes(agent.rss_kib() * 1024), "3.00 MiB");
}

fn starts(primary: &Cluster) {
    let mut timings: Vec<Duration> = (0..STARTS).map(|_| start(primary)).collect();
    row("from its start to its first answer, median", &micros(median(&mut timings)), "20.0 ms");
    row("the slowest", &micros(percentile(&mut timings, 100)), "");
}

/// From before the fork to the last byte of a 200.
fn start(primary: &Cluster) -> Duration {
    let folder = Folder::new("start");
    let config = folder.write("pgsqlchk.conf", "");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let mut command = agent::command();
    command.env("HOME", folder.path()).arg("--config").arg(config);
    command.args(["--listen", &address.to_string(), "--dsn", &primary.dsn()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let _running = Running::start(command);
    let mut stream = loop {
        assert!(began.elapsed() < PATIENCE, "it listens");
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(_) => thread::sleep(PAUSE),
        }
    };
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.write_all(CHECK.as_bytes()).expect("send the check");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("read the reply");
    let elapsed = began.elapsed();
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    elapsed
}

/// Killed when dropped.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Running {
        Running(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / 1024.0 / 1024.0)
}
