//! All agents asked all the time, so that no answer of a moment is missed between two looks of a test.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::{http, millis};

/// Far more often than HAProxy asks.
const PAUSE: Duration = millis(50);

/// One answer.
#[derive(Debug, Clone)]
pub struct Look {
    /// Which node was asked.
    pub node: usize,
    /// For what.
    pub path: &'static str,
    /// Before the question.
    pub began: Instant,
    /// After the answer.
    pub ended: Instant,
    /// Status line; the error where there was no answer.
    pub line: String,
}

/// A running watch; ends when dropped.
pub struct Watch {
    stop: Arc<AtomicBool>,
    looks: Arc<Mutex<Vec<Look>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    /// Asks each of these for `/primary` and `/read-write`.
    pub fn start(agents: &[SocketAddr]) -> Watch {
        let (stop, looks) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Look>>>::default());
        let threads = (0..).zip(agents.to_vec()).map(|(node, addr)| {
            let (stop, looks) = (Arc::clone(&stop), Arc::clone(&looks));
            thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    for path in ["/primary", "/read-write"] {
                        let began = Instant::now();
                        let line = http::get(addr, path)
                            .map_or_else(|error| error.to_string(), |reply| reply.line());
                        let look = Look { node, path, began, ended: Instant::now(), line };
                        looks.lock().unwrap_or_else(PoisonError::into_inner).push(look);
                    }
                    thread::sleep(PAUSE);
                }
            })
        });
        let threads = threads.collect();
        Watch { stop, looks, threads }
    }

    /// What was answered to questions that began after `since`.
    pub fn since(&self, since: Instant) -> Vec<Look> {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        looks.retain(|look| look.began > since);
        looks
    }

    /// The node was asked after `since`, and was a primary for nobody who asked then.
    #[track_caller]
    pub fn assert_never_primary(&self, node: usize, since: Instant) {
        let mut looks = self.since(since);
        looks.retain(|look| look.node == node);
        assert!(!looks.is_empty(), "nobody asked");
        let wrong = looks.iter().find(|look| look.line.starts_with("200"));
        assert!(wrong.is_none(), "{:?} after it was none: {wrong:?}", wrong.map(|look| look.began - since));
    }

    /// For how long the node said so on this path, from the first such answer to the last.
    pub fn span(&self, node: usize, path: &str, line: &str, since: Instant) -> Duration {
        let looks = self.since(since);
        let mut said =
            looks.iter().filter(|look| look.node == node && look.path == path && look.line == line);
        match (said.clone().next(), said.next_back()) {
            (Some(first), Some(last)) => last.ended - first.began,
            _ => Duration::ZERO,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.drain(..).for_each(|thread| {
            let _ = thread.join();
        });
    }
}
