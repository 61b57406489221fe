//! Checks without a pause, on several threads, while a test does something to PostgreSQL.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{eventually, http, secs};

/// A stream that nobody finished ends by itself; well after the longest that a test asks through, an upgrade by dnf.
const LIMIT: Duration = Duration::from_secs(300);

/// One check of a stream.
#[derive(Debug, Clone)]
pub struct Check {
    /// The path asked for.
    pub path: String,
    /// Before the connect.
    pub began: Instant,
    /// After the last byte of the reply.
    pub ended: Instant,
    /// Status code and reason phrase, `503 connection-refused`; the error where no reply came.
    pub line: String,
}

/// A running stream; stopped by `finish` or when dropped.
pub struct Stream {
    stop: Arc<AtomicBool>,
    done: Vec<Arc<AtomicUsize>>,
    threads: Vec<JoinHandle<Vec<Check>>>,
}

impl Stream {
    /// Starts one thread per path.
    pub fn start(addr: SocketAddr, paths: &[&str]) -> Stream {
        let stop = Arc::new(AtomicBool::new(false));
        let done: Vec<Arc<AtomicUsize>> = paths.iter().map(|_| Arc::default()).collect();
        let threads = paths.iter().zip(&done).map(|(path, done)| {
            let (path, stop, done) = ((*path).to_owned(), Arc::clone(&stop), Arc::clone(done));
            thread::spawn(move || ask(addr, &path, &stop, &done))
        });
        let threads = threads.collect();
        Stream { stop, done, threads }
    }

    /// Waits until every thread has begun and completed `count` more checks.
    #[track_caller]
    pub fn advance(&self, count: usize) {
        // The check under way may have begun before this call: it doesn't count.
        let goals: Vec<usize> =
            self.done.iter().map(|done| done.load(Ordering::SeqCst) + 1 + count).collect();
        eventually(secs(120), "the stream of checks advances", || {
            self.done.iter().zip(&goals).all(|(done, goal)| done.load(Ordering::SeqCst) >= *goal)
        });
    }

    /// Ends the stream and returns all its checks.
    #[track_caller]
    pub fn finish(mut self) -> Vec<Check> {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.drain(..).flat_map(|thread| thread.join().expect("a thread of the stream")).collect()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn ask(addr: SocketAddr, path: &str, stop: &AtomicBool, done: &AtomicUsize) -> Vec<Check> {
    let mut checks = Vec::new();
    let start = Instant::now();
    while !stop.load(Ordering::SeqCst) && start.elapsed() < LIMIT {
        let began = Instant::now();
        let line = http::get(addr, path).map_or_else(|error| error.to_string(), |reply| reply.line());
        checks.push(Check { path: path.to_owned(), began, ended: Instant::now(), line });
        done.fetch_add(1, Ordering::SeqCst);
    }
    checks
}
