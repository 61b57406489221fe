//! One client of the gate: what it has sent, what it still has to get, and how long it may take.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::head::{Head, MAX_HEAD_BYTES, Refusal, RequestHead, read_head};
use crate::reply::HttpReply;

/// From accept to the end of the head. HAProxy sends it at once; a person with telnet needs a moment.
pub(super) const HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// For the client to take the reply, which fits any socket buffer.
const REPLY_DEADLINE: Duration = Duration::from_secs(2);

/// For the client to close its side after the reply. Closing ours while its bytes are unread would send a reset,
/// and a reset can destroy the reply before it is read.
const LINGER_DEADLINE: Duration = Duration::from_secs(1);

/// What a lingering client may still send before it is cut off.
const MAX_LINGER_BYTES: usize = 1024 * 1024;

/// A client between accept and close.
pub(super) struct Client {
    pub(super) socket: OwnedFd,
    phase: Phase,
    deadline: Option<Instant>,
}

enum Phase {
    Heading(Vec<u8>),
    /// Its request is with tiny_http or waits for a lane; that wait has the check's deadline.
    Asking,
    Replying {
        bytes: Vec<u8>,
        sent: usize,
    },
    Lingering {
        discarded: usize,
    },
}

/// What the gate has to do with a client now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait for more.
    Wait,
    /// Its head is complete: ask.
    Ask(RequestHead),
    /// It gets this instead of an answer.
    Refuse(Refusal),
    /// It is done, or hopeless.
    Close,
}

/// What the gate waits for at a client's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    Read,
    Write,
    /// Only whether the client is gone altogether.
    HangUp,
}

impl Client {
    pub(super) fn new(socket: OwnedFd, now: Instant) -> Client {
        Client { socket, phase: Phase::Heading(Vec::new()), deadline: Some(now + HEAD_DEADLINE) }
    }

    pub(super) fn interest(&self) -> Interest {
        match self.phase {
            Phase::Heading(_) | Phase::Lingering { .. } => Interest::Read,
            Phase::Asking => Interest::HangUp,
            Phase::Replying { .. } => Interest::Write,
        }
    }

    /// When [`Client::on_deadline`] is due; `None` while somebody else keeps the time.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether it may be dropped for a new client: the lower, the sooner.
    pub(super) fn dispensability(&self) -> Option<u8> {
        match self.phase {
            // It has its reply; closing now harms it only if it still sends what nobody wants.
            Phase::Lingering { .. } => Some(0),
            // It has not asked yet.
            Phase::Heading(_) => Some(1),
            Phase::Asking | Phase::Replying { .. } => None,
        }
    }

    /// Whether its head is not complete yet.
    pub(super) fn is_heading(&self) -> bool {
        matches!(self.phase, Phase::Heading(_))
    }

    /// What it has sent of its head so far.
    pub(super) fn received(&self) -> &[u8] {
        match &self.phase {
            Phase::Heading(received) => received,
            Phase::Asking | Phase::Replying { .. } | Phase::Lingering { .. } => &[],
        }
    }

    /// Whether it waits for its answer.
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.phase, Phase::Asking)
    }

    /// Lets a client that has not asked yet hurry: the agent stops.
    pub(super) fn hurry(&mut self, latest: Instant) {
        if let (Phase::Heading(_) | Phase::Lingering { .. }, Some(deadline)) = (&self.phase, self.deadline) {
            self.deadline = Some(deadline.min(latest));
        }
    }

    /// The socket can be read or written, or has failed.
    pub(super) fn on_ready(&mut self, now: Instant) -> Next {
        match &mut self.phase {
            Phase::Heading(_) => self.receive_head(),
            // Only hang-ups are reported in this phase.
            Phase::Asking => Next::Close,
            Phase::Replying { .. } => self.send_reply(now),
            Phase::Lingering { .. } => self.discard(),
        }
    }

    /// The phase took too long.
    pub(super) fn on_deadline(&mut self, _now: Instant) -> Next {
        match &self.phase {
            Phase::Heading(received) if !received.is_empty() => {
                Next::Refuse(Refusal::new(HttpReply::request_timeout(), false))
            }
            Phase::Heading(_) | Phase::Asking | Phase::Replying { .. } | Phase::Lingering { .. } => {
                Next::Close
            }
        }
    }

    /// Sends `bytes`, then closes properly.
    pub(super) fn reply(&mut self, bytes: Vec<u8>, now: Instant) -> Next {
        self.phase = Phase::Replying { bytes, sent: 0 };
        self.deadline = Some(now + REPLY_DEADLINE);
        self.send_reply(now)
    }

    fn receive_head(&mut self) -> Next {
        let Phase::Heading(received) = &mut self.phase else { return Next::Wait };
        let mut chunk = [0; 2048];
        loop {
            // One byte more than the limit tells "too long" from "exactly long enough".
            let room = (MAX_HEAD_BYTES + 1 - received.len()).min(chunk.len());
            let count = match recv(&self.socket, &mut chunk[..room], RecvFlags::empty()) {
                Ok((count, _)) => count,
                Err(Errno::AGAIN) => return Next::Wait,
                Err(Errno::INTR) => continue,
                Err(_) => return Next::Close,
            };
            if count == 0 && received.is_empty() {
                return Next::Close;
            }
            if count == 0 {
                let what = "the connection was closed in the middle of the head";
                return Next::Refuse(Refusal::new(HttpReply::bad_request(what), false));
            }
            received.extend_from_slice(&chunk[..count]);
            match read_head(received) {
                Head::Incomplete => {}
                Head::Complete(request) => {
                    self.phase = Phase::Asking;
                    self.deadline = None;
                    return Next::Ask(request);
                }
                Head::Refused(refusal) => return Next::Refuse(refusal),
            }
        }
    }

    fn send_reply(&mut self, now: Instant) -> Next {
        let Phase::Replying { bytes, sent } = &mut self.phase else { return Next::Wait };
        while *sent < bytes.len() {
            // MORE lets the end of the connection travel with the last bytes: shutdown sends both at once.
            let flags = SendFlags::NOSIGNAL | SendFlags::MORE;
            match send(&self.socket, &bytes[*sent..], flags) {
                Ok(count) => *sent += count,
                Err(Errno::AGAIN) => return Next::Wait,
                Err(Errno::INTR) => {}
                Err(_) => return Next::Close,
            }
        }
        if shutdown(&self.socket, Shutdown::Write).is_err() {
            return Next::Close;
        }
        self.phase = Phase::Lingering { discarded: 0 };
        self.deadline = Some(now + LINGER_DEADLINE);
        Next::Wait
    }

    fn discard(&mut self) -> Next {
        let Phase::Lingering { discarded } = &mut self.phase else { return Next::Wait };
        let mut chunk = [0; 4096];
        match recv(&self.socket, &mut chunk[..], RecvFlags::empty()) {
            Ok((0, _)) => Next::Close,
            Ok((count, _)) => {
                *discarded += count;
                if *discarded > MAX_LINGER_BYTES { Next::Close } else { Next::Wait }
            }
            Err(Errno::AGAIN | Errno::INTR) => Next::Wait,
            Err(_) => Next::Close,
        }
    }
}
