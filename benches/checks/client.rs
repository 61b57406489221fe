//! What HAProxy does for every check, and how long that takes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::support::secs;

/// HAProxy's default check.
pub const CHECK: &str = "OPTIONS / HTTP/1.0\r\n\r\n";

/// A check that never reaches PostgreSQL.
pub const LIVENESS: &str = "OPTIONS /liveness HTTP/1.0\r\n\r\n";

/// A check that takes longer is an error of the agent, and ends the run.
pub const PATIENCE: Duration = secs(10);

/// So many checks, one after the other.
pub fn exchange_many(count: usize, agent: SocketAddr) {
    let mut buffer = buffer();
    (0..count).for_each(|_| exchange(agent, CHECK, "200", &mut buffer));
}

/// Room for the longest reply.
pub fn buffer() -> Vec<u8> {
    vec![0; 64 * 1024]
}

/// Connects, asks, reads to the end and closes; the reply has this code.
pub fn exchange(agent: SocketAddr, request: &str, code: &str, buffer: &mut [u8]) {
    let mut stream = TcpStream::connect(agent).expect("connect to the agent");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.write_all(request.as_bytes()).expect("send the check");
    let mut length = 0;
    loop {
        match stream.read(&mut buffer[length..]).expect("read the reply") {
            0 => break,
            count => length += count,
        }
    }
    let is_expected =
        buffer[..length].strip_prefix(b"HTTP/1.1 ").is_some_and(|rest| rest.starts_with(code.as_bytes()));
    assert!(is_expected, "{request}: {}", String::from_utf8_lossy(&buffer[..length]));
}

/// How long something takes.
pub fn timed<T>(action: impl FnOnce() -> T) -> Duration {
    let begin = Instant::now();
    let result = action();
    let elapsed = begin.elapsed();
    // Freeing what came back is no part of the round trip.
    drop(result);
    elapsed
}
