//! What a check costs, as ratios within one run: the machine and its mood cancel out.
//!
//! A real primary, the release build of the agent beside it, and one table. Whatever is compared is measured in
//! turns, in the same loop, twice: with everything on one processor, which shows the work alone and is steady from
//! run to run, and spread as the system likes, where waking an idle processor can cost more than the work.
//! Nothing is asserted: the column `goal` says what is aimed at. `BENCH_CHECKS` is the number of checks of the
//! whole run, 200,000 unless it says otherwise.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, SimpleQueryMessage};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use support::{Agent, Cluster, millis, secs};

/// The bare question, which is the unit everything else is measured in.
const ROLE: &str = "SELECT pg_is_in_recovery()";

/// HAProxy's default check.
const CHECK: &str = "OPTIONS / HTTP/1.0\r\n\r\n";

/// A check that never reaches PostgreSQL.
const LIVENESS: &str = "OPTIONS /liveness HTTP/1.0\r\n\r\n";

/// Clients at the same time where that is what is measured.
const CLIENTS: usize = 8;

/// A check that takes longer is an error of the agent, and ends the run.
const PATIENCE: Duration = secs(10);

fn main() {
    let checks = checks();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let everywhere = sched_getaffinity(None).expect("sched_getaffinity");

    keep_to(&one_of(&everywhere));
    let mut site = Site::start();
    let server = ask(&mut site.session, "SHOW server_version");
    say(&format!("PostgreSQL {server}, {processors} processors, {} checks\n", grouped(checks)));
    exchange_many(checks / 200, site.agent.addr());
    Timings::measure(checks / 20, &mut site).print("everything on one processor");
    drop(site);

    keep_to(&everywhere);
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

/// Round trips of each kind, in the order they were made.
struct Timings {
    bare: Vec<Duration>,
    check: Vec<Duration>,
    liveness: Vec<Duration>,
    tcp: Vec<Duration>,
}

impl Timings {
    /// One of each, in turns.
    fn measure(turns: usize, site: &mut Site) -> Timings {
        let (agent, session) = (site.agent.addr(), &mut site.session);
        let [mut bare, mut check, mut liveness, mut tcp] = [(); 4].map(|()| Vec::with_capacity(turns));
        let listener = bare_listener(turns);
        for _ in 0..turns {
            bare.push(timed(|| session.simple_query(ROLE).expect("the bare question")));
            check.push(timed(|| exchange(agent, CHECK)));
            liveness.push(timed(|| exchange(agent, LIVENESS)));
            tcp.push(timed(|| exchange(listener, LIVENESS)));
        }
        Timings { bare, check, liveness, tcp }
    }

    fn print(mut self, title: &str) {
        say(&format!("{title:<52}{:>10}{:>10}{:>8}  goal", "median", "p99", "ratio"));
        let unit = median(&mut self.bare);
        for (name, timings, goal) in [
            (format!("{ROLE}, open session, Unix socket"), &mut self.bare, "the unit"),
            ("check over a new TCP connection".to_owned(), &mut self.check, "3.50, aim 2.50"),
            ("/liveness over a new TCP connection".to_owned(), &mut self.liveness, ""),
            ("the same from a bare listener: what TCP costs".to_owned(), &mut self.tcp, ""),
        ] {
            let middle = median(timings);
            let slow = percentile(timings, 99);
            let ratio = middle.as_secs_f64() / unit.as_secs_f64();
            let line = format!("{name:<52}{:>10}{:>10}{ratio:>8.2}  {goal}", micros(middle), micros(slow));
            say(line.trim_end());
        }
        say("");
    }
}

/// A listener of this program that reads once, answers with fixed bytes and closes: no server is faster.
fn bare_listener(connections: usize) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
    let address = listener.local_addr().expect("the listener's address");
    let reply = support::wire::reply("200 Alive", "Alive\n");
    thread::spawn(move || {
        for mut stream in listener.incoming().take(connections).flatten() {
            let mut request = [0; 1024];
            let asked = stream.read(&mut request).is_ok_and(|length| length > 0);
            assert!(asked && stream.write_all(reply.as_bytes()).is_ok(), "the exchange goes well");
        }
    });
    address
}

/// Several clients at the same time, and how many sessions PostgreSQL saw of the agent meanwhile.
#[derive(Default)]
struct Crowd {
    checks: usize,
    elapsed: Duration,
    most_sessions: u64,
}

impl Crowd {
    /// `checks` checks, shared by all clients.
    fn run(&mut self, checks: usize, agent: SocketAddr, session: &mut Client) {
        let each = checks / CLIENTS;
        let running = AtomicBool::new(true);
        let begin = Instant::now();
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|number| {
                    let own = each + usize::from(number < checks % CLIENTS);
                    scope.spawn(move || exchange_many(own, agent))
                })
                .collect();
            let running = &running;
            let witness = scope.spawn(move || {
                let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgsqlchk'";
                let mut most = 0;
                while running.load(Ordering::SeqCst) {
                    most = most.max(ask(session, sessions).parse().expect("a count"));
                    thread::park_timeout(millis(20));
                }
                most
            });
            clients.into_iter().for_each(|client| client.join().expect("a client"));
            self.elapsed += begin.elapsed();
            running.store(false, Ordering::SeqCst);
            self.most_sessions = self.most_sessions.max(witness.join().expect("the witness"));
        });
        self.checks += checks;
    }

    fn print(&self) {
        let rate = self.checks as f64 / self.elapsed.as_secs_f64();
        say(&format!("{:<52}{:>10}{:>20}", "the whole run", "value", "goal"));
        row(&format!("checks per second, {CLIENTS} clients"), &format!("{rate:.0}"), "");
        row("sessions in pg_stat_activity at most", &self.most_sessions.to_string(), "1");
    }
}

fn print_memory(memory: &[(usize, u64)]) {
    let mebibytes = |kibibytes: u64| format!("{:.2} MiB", kibibytes as f64 / 1024.0);
    for (place, (checks, resident)) in memory.iter().enumerate() {
        let goal = match place {
            0 => "",
            1 => "4.00 MiB",
            _ => "no growth",
        };
        row(&format!("resident memory after {} checks", grouped(*checks)), &mebibytes(*resident), goal);
    }
}

fn exchange_many(count: usize, agent: SocketAddr) {
    (0..count).for_each(|_| exchange(agent, CHECK));
}

/// Connects, asks, reads to the end and closes: what HAProxy does for every check.
fn exchange(agent: SocketAddr, request: &str) {
    let mut stream = TcpStream::connect(agent).expect("connect to the agent");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.write_all(request.as_bytes()).expect("send the check");
    let mut reply = [0; 1024];
    let mut length = 0;
    loop {
        match stream.read(&mut reply[length..]).expect("read the reply") {
            0 => break,
            count => length += count,
        }
    }
    assert!(reply.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&reply[..length]));
}

/// The single value a query returns.
fn ask(session: &mut Client, sql: &str) -> String {
    let messages = session.simple_query(sql).expect("a query");
    let value = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    value.expect("one row with one value").to_owned()
}

fn timed<T>(action: impl FnOnce() -> T) -> Duration {
    let begin = Instant::now();
    let result = action();
    let elapsed = begin.elapsed();
    // Freeing what came back is no part of the round trip.
    drop(result);
    elapsed
}

fn median(timings: &mut [Duration]) -> Duration {
    percentile(timings, 50)
}

fn percentile(timings: &mut [Duration], percent: usize) -> Duration {
    timings.sort_unstable();
    timings[(timings.len() - 1) * percent / 100]
}

fn micros(duration: Duration) -> String {
    format!("{:.1} us", duration.as_secs_f64() * 1e6)
}

/// A number with a comma between groups of three digits.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    groups.map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(",")
}

fn row(name: &str, value: &str, goal: &str) {
    say(format!("{name:<52}{value:>10}{goal:>20}").trim_end());
}

/// The table is what this program is for; a closed pipe ends it.
fn say(line: &str) {
    writeln!(io::stdout(), "{line}").expect("write to stdout");
}
