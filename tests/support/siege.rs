//! An agent under attack: beside the attackers a well-behaved client and a real HAProxy check all the time, and at the
//! end the agent must be where it was.
//!
//! With `SIEGE_REPORT` in the environment each siege adds a line about itself to that file: see `make siege`.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::wire::{End, PATIENCE, Wire, reply, talk};
use super::{Agent, Cluster, Haproxy, eventually, millis, secs};

/// What HAProxy sends, and what the well-behaved client sends.
pub const CHECK: &str = "OPTIONS / HTTP/1.0\r\n\r\n";

/// The deadline of one check (`--timeout`'s default, 2 s) and what a busy machine may add.
const DEADLINE: Duration = millis(2500);

/// The most memory the agent may ever have had, in KiB.
const MEMORY_LIMIT_KIB: u64 = 16 * 1024;

/// Threads that may come on top of those at rest: one that takes over for each look that hangs (monitor.rs,
/// `MAX_ABANDONED`).
const FURTHER_THREADS: u64 = 4;

/// Descriptors beside the clients (standalone.rs, `RESERVED_DESCRIPTORS`).
const RESERVED_DESCRIPTORS: usize = 128;

/// `--max-connections`, unless the test says something else.
const DEFAULT_CONNECTIONS: usize = 128;

/// Between two looks at what the agent holds.
const SAMPLING: Duration = millis(5);

/// Between two checks of the well-behaved client: many times HAProxy's pace, and room for the others.
const PACE: Duration = millis(10);

/// Where the well-behaved client is. In a full house a crowd's own address is no place for one that takes its time between
/// connecting and asking.
pub const BYSTANDER: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);

/// Where HAProxy asks from, for the same reason.
pub const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 2);

/// An agent beside a primary, and a well-behaved client.
pub struct Siege {
    // Declared in the order they go: the server last.
    client: Client,
    sampler: Sampler,
    haproxy: Haproxy,
    pub agent: Agent,
    before: Footprint,
    max_connections: usize,
    memory_limit_kib: u64,
    _primary: Cluster,
}

impl Siege {
    /// Starts them with further arguments for the agent.
    #[track_caller]
    pub fn begin(args: &[&str]) -> Siege {
        let primary = Cluster::primary();
        let dsn = primary.dsn();
        let always = ["--dsn", &dsn, "--agent-listen", "127.0.0.1:0"];
        let agent = Agent::start(&[&always, args].concat());
        let max_connections = args.windows(2).find(|words| words[0] == "--max-connections");
        let max_connections =
            max_connections.map_or(DEFAULT_CONNECTIONS, |words| words[1].parse().expect("a number"));
        let before = Footprint::at_rest(&agent);
        let haproxy = haproxy_beside(&agent, &primary);
        let client = Client::start(agent.addr());
        let sampler = Sampler::start(agent.pid());
        Siege {
            client,
            sampler,
            haproxy,
            agent,
            before,
            max_connections,
            memory_limit_kib: MEMORY_LIMIT_KIB,
            _primary: primary,
        }
    }

    /// The same where attackers speak TLS, each of which may cost so much more.
    #[track_caller]
    pub fn begin_with_room(args: &[&str], kib_for_each: u64) -> Siege {
        let mut siege = Siege::begin(args);
        siege.memory_limit_kib += kib_for_each * siege.max_connections as u64;
        siege
    }

    /// A number of the agent's metrics: all samples whose name and labels begin so, together.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let page = self.agent.get("/metrics").body;
        let samples = page.lines().filter(|line| line.starts_with(name));
        let values = samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        values.sum()
    }

    /// A new connection.
    pub fn connect(&self) -> Wire {
        Wire::connect(self.agent.addr())
    }

    /// Many new connections.
    pub fn crowd(&self, count: usize) -> Vec<Wire> {
        (0..count).map(|_| self.connect()).collect()
    }

    /// So many clients send the request again and again, read nothing and stay; each ends its flood after so many bytes,
    /// or when nothing was taken for so long. It is the agent that lets go of them.
    #[track_caller]
    pub fn withstand_pipelines(mut self, clients: usize, request: &[u8], limit: usize, stall: Duration) {
        let requests = request.repeat(1000);
        let mut crowd = self.crowd(clients);
        thread::scope(|scope| {
            for wire in &mut crowd {
                let requests = &requests;
                scope.spawn(move || wire.flood(requests, limit, stall));
            }
        });
        self.wait_for_checks(10);
        self.wait_for_footprint();
        drop(crowd);
        self.finish();
    }

    /// Waits until the well-behaved client has made `count` more checks.
    #[track_caller]
    pub fn wait_for_checks(&self, count: usize) {
        let goal = self.client.made() + count;
        eventually(secs(15), "the other client's checks go on", || self.client.made() >= goal);
    }

    /// Waits until the agent holds no more threads and descriptors than before the attack; to be called while
    /// the attackers' connections are still open when it is the agent that has to close.
    #[track_caller]
    pub fn wait_for_footprint(&mut self) {
        self.client.stop();
        self.before.wait_for_return(&self.agent);
    }

    /// The attack is over: the agent lives, nobody else noticed it, and nothing of it remains.
    #[track_caller]
    pub fn end(mut self) {
        self.wait_for_checks(10);
        assert!(self.agent.is_alive(), "the agent ended");
        self.finish();
    }

    /// The same without further checks, after `wait_for_footprint`.
    #[track_caller]
    pub fn finish(mut self) {
        self.wait_for_footprint();
        assert!(self.agent.is_alive(), "the agent ended");
        check(self.agent.addr()).expect("a check after the attack");
        let peak = self.sampler.stop();
        let memory_kib = self.agent.peak_rss_kib();
        self.assert_never_down();
        self.report(memory_kib, &peak);
        assert!(memory_kib <= self.memory_limit_kib, "the agent once had {memory_kib} KiB");
        assert!(peak.threads <= self.before.threads + FURTHER_THREADS, "{peak:?}, at rest {:?}", self.before);
        let descriptors = self.max_connections + RESERVED_DESCRIPTORS;
        assert!(peak.descriptors <= descriptors, "{peak:?}, with {} connections", self.max_connections);
    }

    /// HAProxy's own word for it, check by check and agent-check by agent-check.
    #[track_caller]
    fn assert_never_down(&self) {
        let server = self.haproxy.server("besieged", "node");
        let log = self.haproxy.log();
        assert!(!log.contains(" DOWN"), "HAProxy has taken the server down: {log}");
        // A star says that the next check is under way.
        let outcomes = [&server.check_status, &server.agent_status].map(|text| text.trim_start_matches("* "));
        assert_eq!((server.status.as_str(), outcomes), ("UP", ["L7OK", "L7OK"]), "{server:?}");
    }

    /// One line: what it was, and the most that the agent had.
    fn report(&self, memory_kib: u64, peak: &Footprint) {
        let Some(path) = std::env::var_os("SIEGE_REPORT") else { return };
        let name = thread::current().name().unwrap_or("?").replace('_', " ");
        let line = format!(
            "| {name} | {memory_kib} | {} | {} | {} | {} | {} | {} |\n",
            peak.threads,
            peak.descriptors,
            self.client.made(),
            self.client.record.slowest_us.load(Ordering::SeqCst) / 1000,
            self.metric("pgsqlchk_refused_connections_total"),
            self.metric("pgsqlchk_requests_total{path=\"other\""),
        );
        let mut file = File::options().append(true).create(true).open(path).expect("open the report");
        file.write_all(line.as_bytes()).expect("write the report");
    }
}

/// HAProxy as it should be set up, only much faster: two failed checks in a row take the server down.
fn haproxy_beside(agent: &Agent, primary: &Cluster) -> Haproxy {
    let haproxy = Haproxy::start(&format!(
        "backend besieged
    timeout check 2s
    option httpchk
    http-check expect status 200
    server node 127.0.0.1:{} check port {} source {BALANCER} inter 100ms fall 2 rise 1 \
         agent-check agent-port {} agent-inter 100ms agent-send \"/primary\\n\"
",
        primary.port(),
        agent.addr().port(),
        agent.agent_check_addr().port(),
    ));
    eventually(secs(10), "HAProxy's checks pass", || {
        let server = haproxy.server("besieged", "node");
        server.check_status == "L7OK" && server.agent_status == "L7OK"
    });
    haproxy
}

/// Looks at the agent's threads and descriptors all the time, on a thread of its own.
struct Sampler {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<Footprint>>,
}

impl Sampler {
    fn start(pid: u32) -> Sampler {
        let (stop, stopped) = channel();
        let thread = thread::spawn(move || {
            let mut peak = Footprint { threads: 0, descriptors: 0 };
            while stopped.recv_timeout(SAMPLING) == Err(RecvTimeoutError::Timeout) {
                // Of one that has ended nothing can be read, and somebody else says so.
                let count =
                    |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
                peak.threads = peak.threads.max(count("task") as u64);
                peak.descriptors = peak.descriptors.max(count("fd"));
            }
            peak
        });
        Sampler { stop: Some(stop), thread: Some(thread) }
    }

    /// The most of each, so far; once.
    fn stop(&mut self) -> Footprint {
        self.stop = None;
        self.thread.take().expect("it runs").join().expect("the sampler's thread ends")
    }
}

/// One check as HAProxy makes it, or what is wrong with its reply.
pub fn check(agent: SocketAddr) -> Result<(), String> {
    check_from(Ipv4Addr::LOCALHOST, agent)
}

fn check_from(source: Ipv4Addr, agent: SocketAddr) -> Result<(), String> {
    let begin = Instant::now();
    let wire = Wire::try_connect_from(source, agent);
    let mut wire = wire.map_err(|error| format!("cannot connect: {error}"))?;
    wire.try_send(CHECK).map_err(|error| format!("cannot send: {error}"))?;
    let received = wire.receive(PATIENCE);
    let elapsed = begin.elapsed();
    let good = received.text() == reply("200 Primary", "Primary\n") && received.end == End::Fin;
    if good && elapsed <= DEADLINE {
        return Ok(());
    }
    Err(format!("{:?}, then {:?}, after {elapsed:?}", received.text(), received.end))
}

/// A check that is in flight, and stays there: PostgreSQL is frozen. What the agent saw before the freeze may
/// still be good for a moment, so checks are made until one waits.
#[track_caller]
pub fn waiting_check(agent: SocketAddr) -> Wire {
    let mut waiting = None;
    eventually(PATIENCE, "a check waits for the frozen PostgreSQL", || {
        let mut wire = Wire::connect(agent);
        wire.send(CHECK);
        wire.wait_consumed();
        let waits = !wire.wait_readable(millis(100));
        waiting = waits.then_some(wire);
        waits
    });
    waiting.expect("the one that waits")
}

/// What may not grow.
#[derive(Debug)]
pub struct Footprint {
    threads: u64,
    descriptors: usize,
}

impl Footprint {
    /// Lets the agent see a busy moment, so that its pools are filled, and waits for calm.
    #[track_caller]
    pub fn at_rest(agent: &Agent) -> Footprint {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..20).for_each(|_| drop(talk(agent.addr(), CHECK))));
            }
        });
        let mut last = (0, 0);
        let mut same = 0;
        eventually(PATIENCE, "threads and descriptors stop changing", || {
            let now = (agent.threads(), agent.descriptors());
            same = if now == last { same + 1 } else { 0 };
            last = now;
            same == 20
        });
        Footprint { threads: last.0, descriptors: last.1 }
    }

    /// Waits until the agent has no more than this.
    #[track_caller]
    pub fn wait_for_return(&self, agent: &Agent) {
        let begin = Instant::now();
        loop {
            let now = Footprint { threads: agent.threads(), descriptors: agent.descriptors() };
            if now.threads <= self.threads && now.descriptors <= self.descriptors {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "before the attack {self:?}, after it {now:?}");
            thread::park_timeout(millis(10));
        }
    }
}

/// Processor time a process has used so far.
pub fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("read /proc/PID/stat");
    let (_, after_name) = stat.rsplit_once(')').expect("a command name in brackets");
    let ticks = after_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|field| field.parse::<u64>().expect("a number of ticks")).sum();
    // USER_HZ, the unit of these two fields, is 100 on every Linux.
    millis(ticks * 10)
}

/// One check after the other, each with a connection of its own, on a thread of its own.
struct Client {
    stop: Option<Sender<()>>,
    record: Arc<Record>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Record {
    made: AtomicUsize,
    slowest_us: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Client {
    fn start(agent: SocketAddr) -> Client {
        let (stop, stopped) = channel();
        let record = Arc::new(Record::default());
        let own = Arc::clone(&record);
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                let begin = Instant::now();
                let result = check_from(BYSTANDER, agent);
                let took_us = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
                own.slowest_us.fetch_max(took_us, Ordering::SeqCst);
                if let Err(failure) = result {
                    own.failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                }
                own.made.fetch_add(1, Ordering::SeqCst);
            }
        });
        Client { stop: Some(stop), record, thread: Some(thread) }
    }

    fn made(&self) -> usize {
        self.record.made.load(Ordering::SeqCst)
    }

    /// Ends it, once; every check has to have been answered with 200, whole and in time.
    #[track_caller]
    fn stop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the client's thread ends");
        }
        let failures = self.record.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let first: Vec<&String> = failures.iter().take(5).collect();
        assert!(first.is_empty(), "{} of {} checks failed: {first:#?}", failures.len(), self.made());
    }
}
