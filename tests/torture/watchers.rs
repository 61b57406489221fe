//! Who asks all the time: clients the agents, and an observer each PostgreSQL server itself. Bounded by the campaign.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

use crate::history::{Against, Answer, Asked, Node, Reading, Role, Said};
use crate::network::{NODES, agent_address};
use crate::record::Record;
use crate::support::{http::Reply, millis, secs};
use crate::workers::{self, Places};

/// Clients of each agent.
const CLIENTS: usize = 2;
/// Between two questions of one client.
const CLIENT_PAUSE: Duration = millis(25);
/// After this a client gives up; every deadline is far below.
const CLIENT_LIMIT: Duration = secs(5);
/// HAProxy, too, waits for a connection no longer than that.
const CONNECT_LIMIT: Duration = secs(1);
/// Between two looks of an observer.
const OBSERVER_PAUSE: Duration = millis(20);
/// The metronome's beat, and how late it may be before that counts as a stall of the machine.
const BEAT: Duration = millis(20);
const STALL: Duration = millis(100);

/// What the clients ask, one after the other.
const PATHS: [&str; 7] = ["/", "/primary", "/", "/replica", "/", "/health", "/liveness"];

/// Those of them whose 200 sends writes to a node.
const WRITE_PATHS: [&str; 2] = ["/", "/primary"];

/// All threads that watch; they end when dropped.
pub struct Watchers {
    stop: Arc<AtomicBool>,
    /// Held by a client while it asks.
    gate: Arc<RwLock<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Watchers {
    /// Begins to watch these places, one after the other for each node.
    pub fn start(record: &Arc<Record>, places: [Places; NODES.len()]) -> Watchers {
        let (stop, gate) = (Arc::new(AtomicBool::new(false)), Arc::new(RwLock::new(())));
        let mut threads = Vec::new();
        for (node, places) in places.into_iter().enumerate() {
            let (record_, stop_, dsn) = (Arc::clone(record), Arc::clone(&stop), places.server.clone());
            threads.extend(workers::start(node, places, record, &stop));
            threads.push(thread::spawn(move || observe(node, &dsn, &record_, &stop_)));
            for client in 0..CLIENTS {
                let (record, stop, gate) = (Arc::clone(record), Arc::clone(&stop), Arc::clone(&gate));
                threads.push(thread::spawn(move || ask_on(node, client, &record, &stop, &gate)));
            }
        }
        let (record, stop_) = (Arc::clone(record), Arc::clone(&stop));
        threads.push(thread::spawn(move || beat(&record, &stop_)));
        Watchers { stop, gate, threads }
    }

    /// Does something while no client asks.
    pub fn pause<T>(&self, work: impl FnOnce() -> T) -> T {
        let _quiet = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        work()
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn ask_on(node: Node, client: usize, record: &Record, stop: &AtomicBool, gate: &RwLock<()>) {
    for turn in client.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        {
            let _asking = gate.read().unwrap_or_else(PoisonError::into_inner);
            let path = PATHS[turn % PATHS.len()];
            let begun = record.now();
            let reply = ask(agent_address(node), path);
            let ended = record.now();
            let takes_writes =
                WRITE_PATHS.contains(&path) && reply.as_ref().is_ok_and(|reply| reply.status == 200);
            let said = meaning(path, reply);
            let asked = kind(path);
            record.lock().answers.push(Answer { node, asked, begun, ended, said, takes_writes });
        }
        thread::sleep(CLIENT_PAUSE);
    }
}

fn ask(addr: SocketAddr, path: &str) -> io::Result<Reply> {
    let began = Instant::now();
    let mut stream = TcpStream::connect_timeout(&addr, CONNECT_LIMIT)?;
    stream.set_read_timeout(Some(CLIENT_LIMIT))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: torture\r\n\r\n").as_bytes())?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    let shown = String::from_utf8_lossy(&raw).into_owned();
    Reply::parse(raw, began.elapsed()).ok_or_else(|| io::Error::other(format!("no whole reply: {shown:?}")))
}

fn kind(path: &str) -> Asked {
    match path {
        "/health" => Asked::Health,
        "/liveness" => Asked::Liveness,
        _ => Asked::Role,
    }
}

fn meaning(path: &str, reply: io::Result<Reply>) -> Said {
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) => return Said::Nothing(error.to_string()),
    };
    match (path, reply.line().as_str()) {
        ("/" | "/primary" | "/health", "200 Primary") | ("/replica", "503 not-in-recovery") => {
            Said::Is(Role::Primary)
        }
        ("/", "206 Standby") | ("/replica" | "/health", "200 Standby") | ("/primary", "503 in-recovery") => {
            Said::Is(Role::Standby)
        }
        ("/" | "/primary", "503 superseded") if reply.body == "No: superseded\n" => {
            Said::Refused(Against::Superseded)
        }
        ("/" | "/primary", "503 two-primaries") if reply.body == "No: two-primaries\n" => {
            Said::Refused(Against::TwoPrimaries)
        }
        ("/liveness", "200 Alive") => Said::Alive,
        (_, line) => match reply.body.strip_prefix("Down: ") {
            Some(reason) if reply.status == 503 => Said::Unverified(reason.trim().to_owned()),
            _ => Said::Odd(format!("{path}: {line}")),
        },
    }
}

/// As a new client each time: an old session may have been left behind.
fn observe(node: Node, dsn: &str, record: &Record, stop: &AtomicBool) {
    let dsn = format!("{dsn} application_name=observer");
    while !stop.load(Ordering::Relaxed) {
        let session = Client::connect(&dsn, NoTls).ok();
        if let Some(reading) = session.and_then(|mut client| look(node, &mut client, record)) {
            record.lock().readings.push(reading);
        }
        thread::sleep(OBSERVER_PAUSE);
    }
}

/// What the server is now. What it writes is the name of a file; a standby writes nothing.
pub fn look(node: Node, client: &mut Client, record: &Record) -> Option<Reading> {
    let sql = "SELECT role.is_standby, CASE WHEN role.is_standby
            THEN greatest((SELECT received_tli FROM pg_stat_wal_receiver), checkpoint.timeline_id,
                recovery.min_recovery_end_timeline)
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END,
        (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgsqlchk')
        FROM (SELECT pg_is_in_recovery() AS is_standby OFFSET 0) AS role, pg_control_checkpoint() AS checkpoint,
            pg_control_recovery() AS recovery";
    let begun = record.now();
    let row = client.query_one(sql, &[]).ok()?;
    let role = if row.get(0) { Role::Standby } else { Role::Primary };
    let timeline = u32::try_from(row.get::<_, i32>(1)).unwrap_or(0);
    let sessions = usize::try_from(row.get::<_, i64>(2)).unwrap_or(0);
    Some(Reading { node, begun, ended: record.now(), role, timeline, sessions })
}

fn beat(record: &Record, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let from = record.now();
        thread::sleep(BEAT);
        let until = record.now();
        if until - from > BEAT + STALL {
            record.lock().stalls.push((from, until));
        }
    }
}
