//! Who works on each node as clients do: one commits, one asks the pooler, one goes through it. What they meet is what the
//! agents' answers about commits and poolers are held against. Bounded by the campaign.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use postgres::{Client, NoTls};

use crate::history::{Node, Try};
use crate::record::Record;
use crate::support::millis;

/// Between two tries.
const PAUSE: Duration = millis(50);
/// Between two clients that go through the pooler.
const VISITOR_PAUSE: Duration = millis(100);

/// What a client changes in the one row there is; on a standby an error.
pub const COMMIT: &str = "UPDATE beats SET at = clock_timestamp()";

/// Where the workers of one node work.
pub struct Places {
    /// The server, as superuser.
    pub server: String,
    /// The pooler's console.
    pub console: String,
    /// The server through the pooler.
    pub pool: String,
}

/// Begins to work on a node, until told to stop.
pub fn start(
    node: Node,
    places: Places,
    record: &Arc<Record>,
    stop: &Arc<AtomicBool>,
) -> [JoinHandle<()>; 3] {
    let Places { server, console, pool } = places;
    let (record_, stop_) = (Arc::clone(record), Arc::clone(stop));
    let commits = thread::spawn(move || commit(node, &server, &record_, &stop_));
    let (record, stop_) = (Arc::clone(record), Arc::clone(stop));
    let calls = thread::spawn(move || call(node, &console, &record, &stop_));
    let stop = Arc::clone(stop);
    [commits, calls, thread::spawn(move || pass(&pool, &stop))]
}

/// In one session for as long as it lasts: that no new one is let in is another matter. Its loss is a try that failed.
fn commit(node: Node, dsn: &str, record: &Record, stop: &AtomicBool) {
    let dsn = format!("{dsn} application_name=committer");
    let mut session: Option<Client> = None;
    while !stop.load(Ordering::Relaxed) {
        let begun = record.now();
        session = session.or_else(|| Client::connect(&dsn, NoTls).ok());
        let is_good = session.as_mut().is_some_and(|client| client.batch_execute(COMMIT).is_ok());
        let ended = record.now();
        record.lock().commits.push(node, Try { begun, ended, is_good });
        session = session.filter(|client| !client.is_closed());
        thread::sleep(PAUSE);
    }
}

/// As a new client each time, and as one that stays: a pooler that was killed and started between two tries has lost it.
fn call(node: Node, console: &str, record: &Record, stop: &AtomicBool) {
    let mut old: Option<Client> = None;
    while !stop.load(Ordering::Relaxed) {
        let begun = record.now();
        let is_kept = old.as_mut().is_none_or(says_something);
        let mut new = Client::connect(console, NoTls).ok();
        let is_good = new.as_mut().is_some_and(says_something) && is_kept;
        let ended = record.now();
        record.lock().calls.push(node, Try { begun, ended, is_good });
        old = if is_kept { old.or(new) } else { new };
        thread::sleep(PAUSE);
    }
}

/// Whether a pooler lets a new client in at its console, and answers there.
pub fn answers(console: &str) -> bool {
    Client::connect(console, NoTls).is_ok_and(|mut client| says_something(&mut client))
}

fn says_something(client: &mut Client) -> bool {
    client.simple_query("SHOW VERSION").is_ok()
}

/// What it meets is the server's affair as well, and judged by nobody.
fn pass(pool: &str, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let _ = Client::connect(pool, NoTls).and_then(|mut client| client.batch_execute("SELECT 1"));
        thread::sleep(VISITOR_PAUSE);
    }
}
