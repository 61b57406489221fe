//! What the integration tests stand on: real PostgreSQL servers, the agent under test, a real HAProxy and a
//! small HTTP client. Everything lives in folders and processes of its own and goes away in `Drop`.
//!
//! Nothing is skipped: a missing PostgreSQL or HAProxy is a panic that names `make test`, which installs it.

// Every file under tests/ is a crate of its own and compiles its own copy of this module, so whatever one of
// them leaves unused would be a warning there although another file needs it. The allow ends with this module.
#![allow(dead_code)]

pub mod agent;
pub mod agent_check;
pub mod certificates;
pub mod chromium;
pub mod cluster;
pub mod contract;
pub mod daemon;
pub mod drain;
pub mod etcd;
pub mod folder;
pub mod forwarder;
pub mod front;
pub mod haproxy;
pub mod http;
#[cfg(feature = "tls")]
pub mod https;
pub mod impostor;
pub mod inetd;
pub mod junk;
pub mod network;
pub mod new_clients;
pub mod one_check;
pub mod one_shot;
pub mod outage;
pub mod pages;
pub mod patience;
pub mod patroni;
pub mod peers;
pub mod pgbouncer;
pub mod postgresql;
pub mod process;
pub mod prometheus;
pub mod servers;
pub mod settings;
pub mod siege;
pub mod site;
pub mod stream;
pub mod syslog;
pub mod table;
pub mod unpacked;
pub mod versions;
pub mod wire;
pub mod xinetd;

#[allow(unused_imports)]
pub use self::{
    agent::Agent,
    cluster::{Cluster, StopMode},
    front::Front,
    haproxy::{Haproxy, ServerState},
    http::{Reply, exchange},
    one_shot::OneShot,
    process::{Frozen, Signal, signal},
    stream::{Check, Stream},
};

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

/// Between two looks at a condition: short enough not to slow a test, long enough to leave two cores free.
const PAUSE: Duration = Duration::from_millis(10);

/// `n` seconds, for limits that read well: `eventually(secs(10), "the standby answers", || …)`.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `n` milliseconds.
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Waits until `condition` holds; panics with `what` when it still doesn't after `limit`.
#[track_caller]
pub fn eventually(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(PAUSE);
    }
}

/// Asks again and again for this long; `check` panics when something is wrong.
pub fn throughout(span: Duration, mut check: impl FnMut()) {
    let began = Instant::now();
    while began.elapsed() < span {
        check();
    }
}

/// Like `eventually`, with a pause between two looks that leaves the processors to those who are waited for.
#[track_caller]
pub fn patiently(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    eventually(limit, what, || {
        let holds = condition();
        if !holds {
            thread::sleep(millis(100));
        }
        holds
    });
}

/// A TCP port of 127.0.0.1 that nobody listens on.
///
/// It lies below Linux's ephemeral range (32768 and up): a server of a test stops and starts again on its port,
/// and meanwhile no outgoing connection of anyone may be given that number. The first is random, because several
/// test programs look for ports at the same time; the others follow it, so that no two tests of a program get the
/// same one before their servers listen.
pub fn free_port() -> u16 {
    const RANGE: Range<u16> = 10_000..30_000;
    // In a container's network they are taken by the agent's sockets.
    const OWN: RangeInclusive<u16> = 23_267..=23_277;
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(random()));
    for _ in 0..1000 {
        let place = NEXT.fetch_add(1, Relaxed) % RANGE.len() as u64;
        let port = RANGE.start + u16::try_from(place).expect("a place in the range");
        if !OWN.contains(&port) && is_free(port) {
            return port;
        }
    }
    panic!("no free port in {RANGE:?} in a thousand attempts");
}

/// Without listening: whoever another test forks meanwhile has the socket for a moment, too, and would keep the server off
/// that is to come.
fn is_free(port: u16) -> bool {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let socket = socket.expect("a socket");
    sockopt::set_socket_reuseaddr(&socket, true).expect("SO_REUSEADDR");
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok()
}

/// Shows a program's log under a failing test; does nothing while no test fails.
pub fn show_log(title: &str, log: &str) {
    if thread::panicking() {
        // eprintln and not io::stderr(): the test harness catches it and shows it under the test's own name.
        #[expect(clippy::print_stderr, reason = "a failing test has to show what its servers said")]
        {
            eprintln!("--- {title}\n{log}---");
        }
    }
}

/// A number nobody else got: std seeds every `RandomState` differently.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
