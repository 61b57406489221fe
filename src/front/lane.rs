//! The private way from the gate to tiny_http: connections that are opened once and kept.
//!
//! tiny_http wants to accept by itself, so it gets a listening socket; but one that nobody else can use. The
//! socket has an abstract name that the kernel chose, its queue is filled with our own connections at once, and
//! then it is shut for good, before tiny_http has seen it: tiny_http accepts what is in the queue and gets an
//! error afterwards. Should another local process have guessed the name in between, the queue was full one
//! connection too early, which is noticed, and another socket is tried. No file is left, and none is needed.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    getsockname, listen, recv, send, shutdown, socket_with,
};

/// Longer replies are not ours: none is above 1 KiB.
const MAX_REPLY_BYTES: usize = 64 * 1024;

/// How often another name is tried after an intruder was noticed.
const MAX_ATTEMPTS: usize = 16;

/// A kept connection to tiny_http, with at most one request in flight.
pub(super) struct Lane {
    pub(super) socket: OwnedFd,
    received: Vec<u8>,
    state: LaneState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LaneState {
    Free,
    Busy { is_head: bool },
    Broken,
}

/// What came over a lane.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Not the whole reply yet.
    Partial,
    /// The reply's bytes; the lane is free again.
    Reply(Vec<u8>),
    /// tiny_http ended the connection.
    Broken,
}

/// A listening socket whose queue holds exactly the peers of the returned lanes, and which nobody can reach.
pub(super) fn sealed_lanes(count: usize) -> io::Result<(UnixListener, Vec<Lane>)> {
    for _ in 0..MAX_ATTEMPTS {
        let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // No address at all: the kernel chooses an abstract name (unix(7), "Autobind feature").
        bind(&listener, &SocketAddrUnix::new_unnamed())?;
        // The queue takes one more than the backlog says.
        listen(&listener, i32::try_from(count).unwrap_or(i32::MAX) - 1)?;
        let name = getsockname(&listener)?;
        let lanes: Result<Vec<Lane>, Errno> = (0..count)
            .map(|_| {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
                connect(&socket, &name)?;
                Ok(Lane { socket, received: Vec::new(), state: LaneState::Free })
            })
            .collect();
        match lanes {
            Ok(lanes) => {
                shutdown(&listener, Shutdown::Both)?;
                return Ok((UnixListener::from(listener), lanes));
            }
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("another process keeps connecting to the agent's private socket"))
}

impl Lane {
    pub(super) fn is_free(&self) -> bool {
        self.state == LaneState::Free
    }

    pub(super) fn is_broken(&self) -> bool {
        self.state == LaneState::Broken
    }

    /// Sends one request head. It fits the socket's buffer, because the lane is empty before.
    pub(super) fn send(&mut self, head: &[u8], is_head: bool) -> Result<(), Errno> {
        self.received.clear();
        self.state = LaneState::Busy { is_head };
        match send(&self.socket, head, SendFlags::NOSIGNAL) {
            Ok(count) if count == head.len() => Ok(()),
            Ok(_) => Err(self.fail(Errno::MSGSIZE)),
            Err(error) => Err(self.fail(error)),
        }
    }

    fn fail(&mut self, error: Errno) -> Errno {
        self.state = LaneState::Broken;
        error
    }

    /// Reads what tiny_http sent.
    pub(super) fn receive(&mut self) -> Arrival {
        let mut chunk = [0; 4096];
        loop {
            let count = match recv(&self.socket, &mut chunk[..], RecvFlags::empty()) {
                Ok((count, _)) => count,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Arrival::Partial,
                Err(_) => 0,
            };
            let LaneState::Busy { is_head } = self.state else {
                self.state = LaneState::Broken;
                return Arrival::Broken;
            };
            if count == 0 || self.received.len() + count > MAX_REPLY_BYTES {
                self.state = LaneState::Broken;
                return Arrival::Broken;
            }
            self.received.extend_from_slice(&chunk[..count]);
            if is_complete(&self.received, is_head) {
                self.state = LaneState::Free;
                return Arrival::Reply(std::mem::take(&mut self.received));
            }
        }
    }
}

/// Whether a reply, ours or tiny_http's own, is all there: its head, and as much body as the head says.
fn is_complete(reply: &[u8], is_head: bool) -> bool {
    let Some(head_length) = reply.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    if is_head {
        return true;
    }
    let body_length = content_length(&reply[..head_length]).unwrap_or(0);
    reply.len() >= head_length + 4 + body_length
}

fn content_length(head: &[u8]) -> Option<usize> {
    let lines = std::str::from_utf8(head).ok()?.lines();
    let mut fields = lines.filter_map(|line| line.split_once(": "));
    fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_complete_when_its_body_is() {
        let reply = b"HTTP/1.1 200 Primary\r\nContent-Length: 8\r\n\r\nPrimary\n";
        for length in 0..reply.len() {
            assert!(!is_complete(&reply[..length], false), "{length}");
        }
        assert!(is_complete(reply, false));
        assert!(is_complete(b"HTTP/1.1 200 Primary\r\nContent-Length: 8\r\n\r\n", true));
    }

    #[test]
    fn a_sealed_listener_accepts_its_own_lanes_and_nobody_else() {
        let (listener, lanes) = sealed_lanes(3).unwrap();
        let name = getsockname(&listener).unwrap();
        let stranger =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        assert_eq!(connect(&stranger, &name), Err(Errno::CONNREFUSED));
        for _ in &lanes {
            listener.accept().unwrap();
        }
        assert!(listener.accept().is_err());
    }
}
