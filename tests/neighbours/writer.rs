//! An application that writes through HAProxy, one new session per row, and remembers what was confirmed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls, SimpleQueryMessage};

use crate::support::{eventually, millis, secs};

/// Two processors have three servers to run.
const PAUSE: Duration = millis(20);

/// What it writes into.
pub const TABLE: &str = "CREATE TABLE writes (id bigint PRIMARY KEY)";

/// One attempt to write a row.
#[derive(Debug, Clone)]
pub struct Write {
    /// The row.
    pub id: i64,
    /// Before the session was opened.
    pub began: Instant,
    /// When the commit was confirmed, or was not.
    pub ended: Instant,
    /// The address of the server that confirmed it, or why nobody did.
    pub by: Result<String, String>,
}

/// A running writer; ends when dropped.
pub struct Writer {
    stop: Arc<AtomicBool>,
    writes: Arc<Mutex<Vec<Write>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts it. No `statement_timeout`: one that strikes while a commit waits for its standby would have the commit
    /// confirmed with nothing but a warning.
    pub fn start(dsn: String) -> Writer {
        let (stop, writes) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Write>>>::default());
        let (its_stop, its_writes) = (Arc::clone(&stop), Arc::clone(&writes));
        let thread = thread::spawn(move || {
            for id in 0.. {
                if its_stop.load(Ordering::SeqCst) {
                    return;
                }
                let began = Instant::now();
                let by = write(&dsn, id).map_err(|error| describe(&error));
                let write = Write { id, began, ended: Instant::now(), by };
                its_writes.lock().unwrap_or_else(PoisonError::into_inner).push(write);
                thread::sleep(PAUSE);
            }
        });
        Writer { stop, writes, thread: Some(thread) }
    }

    /// What it has tried so far.
    pub fn writes(&self) -> Vec<Write> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many more writes that begin from now on are confirmed, all by this server, and returns the first.
    #[track_caller]
    pub fn wait_for(&self, limit: Duration, server: &str, count: usize) -> Write {
        let since = Instant::now();
        let theirs = || {
            let writes = self.writes().into_iter();
            writes.filter(|write| write.began >= since && write.by.as_deref() == Ok(server))
        };
        let what = format!("{count} writes at {server}");
        eventually(limit, &what, || {
            thread::sleep(PAUSE);
            theirs().count() >= count
        });
        theirs().next().expect("there are some")
    }

    /// What was confirmed by a server after an attempt that began after `since`.
    pub fn confirmed_since(&self, since: Instant, server: &str) -> Vec<Write> {
        let mut writes = self.writes();
        writes.retain(|write| write.began > since && write.by.as_deref() == Ok(server));
        writes
    }

    /// The rows that have to be there.
    pub fn confirmed(&self) -> BTreeSet<i64> {
        self.writes().iter().filter(|write| write.by.is_ok()).map(|write| write.id).collect()
    }

    /// The rows that were not tried before `since`.
    pub fn tried_since(&self, since: Instant) -> BTreeSet<i64> {
        self.writes().iter().filter(|write| write.began > since).map(|write| write.id).collect()
    }

    /// How long nobody confirmed a write, around a change from one server to the other: from the last at the one to the
    /// first at the other.
    #[track_caller]
    pub fn gap(&self, from: &str, to: &str, since: Instant) -> Duration {
        let mut writes = self.writes();
        writes.retain(|write| write.by.is_ok());
        let is_by = |write: &&Write, server: &str| write.by.as_deref() == Ok(server);
        let first = writes.iter().find(|write| is_by(write, to) && write.ended > since);
        let first = first.expect("a write at the new one");
        let last = writes.iter().rfind(|write| is_by(write, from) && write.ended < first.ended);
        let last = last.expect("a write at the old one");
        first.ended - last.ended
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // A commit may wait for its standby for as long as the servers are there: then the thread ends with them.
        let began = Instant::now();
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() && began.elapsed() < secs(5) {
                thread::sleep(PAUSE);
            }
        }
    }
}

/// The address of the server that has committed the row.
fn write(dsn: &str, id: i64) -> Result<String, postgres::Error> {
    let mut client = Client::connect(dsn, NoTls)?;
    let sql = format!("INSERT INTO writes VALUES ({id}) RETURNING host(inet_server_addr())");
    let answer = client.simple_query(&sql)?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(row.expect("INSERT ... RETURNING returns a row").to_owned())
}

fn describe(error: &postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
}
