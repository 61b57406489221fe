//! What a check costs, as ratios within one run: the machine and its mood cancel out.
//!
//! A real primary, the release build of the agent beside it, and one table. Whatever is compared is measured in
//! turns, in the same loop, twice: with everything on one processor, which shows the work alone and is steady from
//! run to run, and spread as the system likes, where waking an idle processor can cost more than the work.
//! Nothing is asserted: the column `goal` says what is aimed at. `BENCH_CHECKS` is the number of checks of the
//! whole run, 200,000 unless it says otherwise. `BENCH_ONLY=xinetd` makes those under xinetd only, `BENCH_ONLY=targets`
//! those that ask for more than the role, `BENCH_ONLY=figures` looks at the program itself: its size, memory and start.

#[path = "../tests/support/mod.rs"]
mod support;
// Not in this folder itself, where Cargo would take them for benchmarks of their own.
#[path = "checks/figures.rs"]
mod figures;
#[path = "checks/targets.rs"]
mod targets;
#[path = "checks/xinetd.rs"]
mod xinetd;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, SimpleQueryMessage};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use support::process::children_of;
use support::{Agent, Cluster, eventually, millis, secs};
use xinetd::{Xinetd, is_reset};

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
        if is_wanted("targets") {
            targets::measure(checks / 40, title);
        }
        if is_wanted("xinetd") {
            under_xinetd(checks, title);
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

/// The homes under xinetd: a process per check beside the script it replaces, and one for all beside standalone.
fn under_xinetd(checks: usize, title: &str) {
    let primary = Cluster::primary();
    OneShots::start(&primary).measure((checks / 1000).max(20)).print(title);

    let standalone = Agent::start(&["--dsn", &primary.dsn()]);
    let waiting = Xinetd::waiting_agent(&primary);
    let turns = checks / 40;
    exchange_many(turns / 10, standalone.addr());
    exchange_many(turns / 10, waiting.addr());
    let [mut unit, mut timings] = [(); 2].map(|()| Vec::with_capacity(turns));
    for _ in 0..turns {
        unit.push(timed(|| exchange(standalone.addr(), CHECK)));
        timings.push(timed(|| exchange(waiting.addr(), CHECK)));
    }
    say(&format!(
        "{:<52}{:>10}{:>10}{:>8}  goal",
        format!("one process for all, {title}"),
        "median",
        "p99",
        "ratio"
    ));
    let middle = median(&mut unit);
    timing_row("check, standalone", &mut unit, middle, "the unit");
    timing_row("check, xinetd wait = yes", &mut timings, middle, "at most 1.30");
    say("");
}

/// Super-servers that start a process for every check.
struct OneShots<'a> {
    primary: &'a Cluster,
    kinds: Vec<OneShot>,
    logins: Vec<Duration>,
}

/// One of them.
struct OneShot {
    name: &'static str,
    xinetd: Xinetd,
    timings: Vec<Duration>,
    resets: usize,
    /// Processor time per check, in seconds.
    cpu: f64,
    wall_goal: &'static str,
    cpu_goal: &'static str,
}

impl<'a> OneShots<'a> {
    fn start(primary: &'a Cluster) -> OneShots<'a> {
        let kind = |name, xinetd, wall_goal, cpu_goal| OneShot {
            name,
            xinetd,
            timings: Vec::new(),
            resets: 0,
            cpu: 0.0,
            wall_goal,
            cpu_goal,
        };
        let mut kinds = vec![
            kind("pgsqlchk --mode xinetd", Xinetd::agent(primary), "the unit", "the unit"),
            kind("the script, psql itself", Xinetd::script(primary), "at least 3.50", "at least 7.00"),
        ];
        let wrapper = Xinetd::script_with_wrapper(primary);
        let wrapper = wrapper
            .map(|xinetd| kind("the script, Debian's psql", xinetd, "at least 10.00", "at least 7.00"));
        kinds.extend(wrapper);
        OneShots { primary, kinds, logins: Vec::new() }
    }

    /// One of each, in turns, and a login of our own: what PostgreSQL itself needs for a new session.
    fn measure(mut self, turns: usize) -> Self {
        let postmaster = self.primary.postmaster_pid();
        let without_sessions = children_of(postmaster).len();
        // The process and the session of one check end after its reply: that is no cost of the next one.
        let wait_for_quiet = || {
            eventually(secs(10), "the session before has ended", || {
                children_of(postmaster).len() <= without_sessions
            });
        };
        for _ in 0..turns {
            for kind in &mut self.kinds {
                wait_for_quiet();
                let addr = kind.xinetd.addr();
                let mut is_reset = false;
                kind.timings.push(timed(|| is_reset = exchange_or_reset(addr)));
                kind.resets += usize::from(is_reset);
                kind.xinetd.wait_for_servers();
            }
            wait_for_quiet();
            self.logins.push(timed(|| self.primary.connect()));
        }
        for kind in &mut self.kinds {
            kind.cpu = kind.xinetd.cpu_of_servers() / turns as f64;
        }
        self
    }

    fn print(mut self, title: &str) {
        say(&format!(
            "{:<52}{:>10}{:>10}{:>8}  goal",
            format!("a process per check, {title}"),
            "median",
            "p99",
            "ratio"
        ));
        let unit = median(&mut self.kinds[0].timings);
        let unit_cpu = self.kinds[0].cpu;
        for kind in &mut self.kinds {
            timing_row(
                &format!("check, xinetd wait = no: {}", kind.name),
                &mut kind.timings,
                unit,
                kind.wall_goal,
            );
        }
        timing_row("a login alone: PostgreSQL's own part of each", &mut self.logins, unit, "");
        say(&format!(
            "{:<52}{:>10}{:>18}  goal",
            "processor time per check, children included", "mean", "ratio"
        ));
        for OneShot { name, cpu, cpu_goal, .. } in &self.kinds {
            let mean = micros(Duration::from_secs_f64(*cpu));
            say(&format!("{name:<52}{mean:>10}{:>18.2}  {cpu_goal}", cpu / unit_cpu));
        }
        for OneShot { name, resets, timings, .. } in &self.kinds {
            let value = format!("{resets} of {}", timings.len());
            row(&format!("connections reset: {name}"), &value, "0");
        }
        say("");
    }
}

/// Like `exchange`; says whether the other side broke the connection instead of closing it, which can lose a reply.
fn exchange_or_reset(addr: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(addr).expect("connect to xinetd");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.write_all(CHECK.as_bytes()).expect("send the check");
    let mut reply = Vec::new();
    match stream.read_to_end(&mut reply) {
        Ok(_) => {
            let is_primary = reply.starts_with(b"HTTP/1.1 200 ");
            assert!(is_primary, "{}", String::from_utf8_lossy(&reply));
            false
        }
        Err(error) if is_reset(&error) => true,
        Err(error) => panic!("read the reply: {error}"),
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
            timing_row(&name, timings, unit, goal);
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
            1 => "3.00 MiB",
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

/// In milliseconds where the column would be too narrow.
fn micros(duration: Duration) -> String {
    match duration < millis(10) {
        true => format!("{:.1} us", duration.as_secs_f64() * 1e6),
        false => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
    }
}

/// A number with a comma between groups of three digits.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    groups.map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(",")
}

fn timing_row(name: &str, timings: &mut [Duration], unit: Duration, goal: &str) {
    let middle = median(timings);
    let slow = percentile(timings, 99);
    let ratio = middle.as_secs_f64() / unit.as_secs_f64();
    let line = format!("{name:<52}{:>10}{:>10}{ratio:>8.2}  {goal}", micros(middle), micros(slow));
    say(line.trim_end());
}

fn row(name: &str, value: &str, goal: &str) {
    say(format!("{name:<52}{value:>10}{goal:>20}").trim_end());
}

/// The table is what this program is for; a closed pipe ends it.
fn say(line: &str) {
    writeln!(io::stdout(), "{line}").expect("write to stdout");
}
