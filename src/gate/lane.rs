//! The private way from the gate to tiny_http: connections that are opened once and kept.
//!
//! tiny_http wants to accept by itself, so it gets a listening socket; but one that nobody else can use. The
//! socket has an abstract name that the kernel chose, its queue is filled with our own connections at once, and
//! then it is shut for good, before tiny_http has seen it: tiny_http accepts what is in the queue and gets an
//! error afterwards. Should another local process have guessed the name in between, the queue was full one
//! connection too early, which is noticed, and another socket is tried. No file is left, and none is needed.
//!
//! Several requests may be under way on one lane; tiny_http answers them in their order.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    getsockname, listen, recv, send, shutdown, socket_with,
};

use crate::reply::MAX_REPLY_BYTES;

/// What is read of the lane at once.
const CHUNK_BYTES: usize = 4096;

/// For what has been read of replies that are not complete. However many are under way, that is less than the longest
/// reply and a chunk: after each chunk, those that are complete are taken out.
const MAX_RECEIVED_BYTES: usize = 2 * MAX_REPLY_BYTES;

/// How often another name is tried after an intruder was noticed.
const MAX_ATTEMPTS: usize = 16;

/// tiny_http 0.12 starts with four threads for connections. It adds more only where none is idle, but counts
/// a thread as idle until it has woken up, so in a burst a fifth connection can stay without a thread for ever.
const MAX_LANES: usize = 4;

/// A kept connection to tiny_http.
pub(crate) struct Lane {
    pub(crate) socket: OwnedFd,
    received: Vec<u8>,
    /// For each request under way, oldest first, whether its method is HEAD.
    under_way: VecDeque<bool>,
    is_broken: bool,
}

/// A listening socket whose queue holds exactly the peers of the returned lanes, and which nobody can reach.
pub(crate) fn sealed_lanes<const COUNT: usize>() -> io::Result<(UnixListener, [Lane; COUNT])> {
    const { assert!(COUNT >= 1 && COUNT <= MAX_LANES) };
    for _ in 0..MAX_ATTEMPTS {
        let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // No address at all: the kernel chooses an abstract name (unix(7), "Autobind feature").
        bind(&listener, &SocketAddrUnix::new_unnamed())?;
        // The queue takes one more than the backlog says.
        listen(&listener, COUNT as i32 - 1)?;
        let name = getsockname(&listener)?;
        let lanes: Result<Vec<Lane>, Errno> = (0..COUNT).map(|_| Lane::connect(&name)).collect();
        match lanes.map(<[Lane; COUNT]>::try_from) {
            Ok(Ok(lanes)) => {
                shutdown(&listener, Shutdown::Both)?;
                return Ok((UnixListener::from(listener), lanes));
            }
            Ok(Err(_)) | Err(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("another process keeps connecting to the agent's private socket"))
}

impl Lane {
    fn connect(name: &impl SocketAddrArg) -> Result<Lane, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, name)?;
        Ok(Lane { socket, received: Vec::new(), under_way: VecDeque::new(), is_broken: false })
    }

    /// How many requests have not been answered yet.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// tiny_http ended the connection, which it never does while it is whole.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Sends one request head. The socket's buffer has room for all that may be under way.
    pub(crate) fn send(&mut self, head: &[u8], is_head: bool) {
        self.under_way.push_back(is_head);
        match send(&self.socket, head, SendFlags::NOSIGNAL) {
            Ok(count) if count == head.len() => {}
            Ok(_) | Err(_) => self.is_broken = true,
        }
    }

    /// Reads what tiny_http sent, and gives the replies that are complete now, oldest first.
    pub(crate) fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut chunk = [0; CHUNK_BYTES];
        let mut replies = Vec::new();
        loop {
            match recv(&self.socket, &mut chunk[..], RecvFlags::empty()) {
                Ok((count, _)) if count > 0 && self.received.len() + count <= MAX_RECEIVED_BYTES => {
                    self.received.extend_from_slice(&chunk[..count]);
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return replies,
                Ok(_) | Err(_) => {
                    self.is_broken = true;
                    return replies;
                }
            }
            while let Some(is_head) = self.under_way.front()
                && let Some(length) = reply_length(&self.received, *is_head)
            {
                replies.push(self.received.drain(..length).collect());
                self.under_way.pop_front();
            }
            if self.under_way.is_empty() {
                return replies;
            }
        }
    }
}

/// The length of the first reply, ours or tiny_http's own, if it is all there: its head, and as much body as the
/// head says.
fn reply_length(received: &[u8], is_head: bool) -> Option<usize> {
    let head_length = received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let body_length = if is_head { 0 } else { content_length(&received[..head_length]).unwrap_or(0) };
    Some(head_length + body_length).filter(|length| received.len() >= *length)
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
        let reply = b"HTTP/1.1 200 Primary\r\nContent-Length: 8\r\n\r\nPrimary\nHTTP/1.1 503 next";
        let length = reply.len() - "HTTP/1.1 503 next".len();
        for short in 0..length {
            assert_eq!(reply_length(&reply[..short], false), None, "{short}");
        }
        assert_eq!(reply_length(reply, false), Some(length));
        let head = b"HTTP/1.1 200 Primary\r\nContent-Length: 8\r\n\r\n";
        assert_eq!(reply_length(head, true), Some(head.len()));
    }

    #[test]
    fn a_sealed_listener_accepts_its_own_lanes_and_nobody_else() {
        let (listener, lanes) = sealed_lanes::<3>().unwrap();
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
