//! What becomes of a panic, decided for every thread in one place.
//!
//! No input is known to cause one. Should there be one all the same, half an agent is the worst outcome: a thread is
//! missing, and nobody notices. So there are two outcomes and no third. Where one request, one look or one line is at
//! stake and everything else is certainly whole, the panic is *contained* ([`contain`]): it costs that one, and a request
//! gets its 503. Everywhere else it ends the *process* with exit code 1, and whoever has started it starts it again.
//!
//! | thread | where | outcome |
//! |---|---|---|
//! | main (the gate; `--mode xinetd`'s one client) | anywhere | process |
//! | `worker N` | taking a request | contained: 503 `agent-out-of-resources` |
//! | `worker N`, `runner`, `first look`, `watch`, and those of peers, poolers and writes | answering a request | contained: 503 `agent-out-of-resources` |
//! | `worker N`, `runner`, `first look` | a look at the instance | contained: 503 `agent-out-of-resources` for all who share it, and a new session |
//! | `worker N`, `runner`, `first look` | anywhere else | process |
//! | `watch` | anywhere else | process |
//! | `peer N` | asking a peer | contained: the peer has not answered |
//! | `pooler N` | knocking | contained: the pooler has not answered |
//! | `writer` | committing | contained: 503 `write-failed` |
//! | `peer N`, `peers`, `pooler N`, `poolers`, `writer`, `writes` | anywhere else | process |
//! | `behind` | answering a request | contained: 503 `agent-out-of-resources` |
//! | `closing` | anywhere | process |
//! | `watchdog` | anywhere | process |
//! | `reload` | reading the configuration | contained: nothing changes |
//! | `reload` | anywhere else | process |
//! | `log` | writing a line | contained: the line is lost |
//! | `log` | anywhere else | process |
//! | `probe` (`pgsqlchk check`, one client of xinetd's) | a look at the instance | contained: 503 `agent-out-of-resources`, exit code 2 |
//! | `counter` (`pgsqlchk drain --wait`) | anywhere | how many sessions PostgreSQL has is not known |
//! | tiny_http's own, which have no names | anywhere | process |
//!
//! `tests/panics.rs` makes each of them happen, by `trip`.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::{process, thread};

/// Where the process could not go on.
const EXIT_CODE: i32 = 1;

/// The name of the thread that writes the log.
pub(crate) const LOG_THREAD: &str = "log";

thread_local! {
    /// How many calls of [`contain`] this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// A panic was contained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contained;

/// Runs what may panic without harm to anything but itself: whatever it leaves behind must be whole, or never be used
/// again.
pub fn contain<T>(work: impl FnOnce() -> T) -> Result<T, Contained> {
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    let result = catch_unwind(AssertUnwindSafe(work));
    DEPTH.with(|depth| depth.set(depth.get() - 1));
    result.map_err(|_| Contained)
}

/// From now on a panic is a line in the log, and ends the process unless it is contained.
pub(crate) fn decide_from_now_on() {
    std::panic::set_hook(Box::new(on_panic));
}

fn on_panic(panic: &PanicHookInfo<'_>) {
    let is_contained = DEPTH.try_with(Cell::get).is_ok_and(|depth| depth > 0);
    let thread = thread::current();
    // The log's own thread panics because it cannot write; logging that would go on for ever.
    if thread.name() != Some(LOG_THREAD) {
        let what = if is_contained { "" } else { "; the agent ends" };
        log::error!(target: "pgsqlchk", "thread {}: {panic}{what}", thread.name().unwrap_or("?"));
        log::logger().flush();
    }
    if !is_contained {
        process::exit(EXIT_CODE);
    }
}

/// Panics where a test wants it to; not in a release. The file that `PGSQLCHK_TEST_PANIC` names holds a place, and
/// vanishes with the one panic it causes.
#[cfg(debug_assertions)]
pub(crate) fn trip(place: &str) {
    use std::path::PathBuf;
    use std::sync::LazyLock;

    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("PGSQLCHK_TEST_PANIC").map(PathBuf::from));
    if let Some(file) = &*FILE
        && std::fs::read_to_string(file).is_ok_and(|wanted| wanted == place)
        && std::fs::remove_file(file).is_ok()
    {
        panic!("a test wants it ({place})");
    }
}

/// Nothing, in a release.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn trip(_place: &str) {}
