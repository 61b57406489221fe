//! One client of the gate: what it has sent, what it still has to get, and how long it may take.

mod transport;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, getpeername, recv, shutdown};

use crate::config::Protocol;
use crate::reply::HttpReply;
use crate::tls::Door;
use crate::wire::dialect;
use crate::wire::head::{Head, MAX_BODY_BYTES, MAX_HEAD_BYTES, Refusal, RequestHead, read_head};
use crate::wire::line::{self, MAX_LINE_BYTES};
use crate::wire::proxy_header::{self, ProxyHeader};
use transport::{Opening, Transport};

/// From accept to the end of the request, or of an agent-check's line, with what stands ahead of it, a handshake of TLS
/// included. HAProxy sends it at once; a person with telnet needs a moment.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// An agent-check that has sent nothing, or nothing more, for this long has asked. HAProxy sends its line as soon as it
/// is connected, if it sends one at all.
const LINE_PAUSE: Duration = Duration::from_millis(100);

/// For the client to take the reply. All but the documents fit any socket buffer, and those fit most.
const REPLY_DEADLINE: Duration = Duration::from_secs(2);

/// For the client to close its side after the reply. Closing ours while its bytes are unread would send a reset,
/// and a reset can destroy the reply before it is read.
const LINGER_DEADLINE: Duration = Duration::from_secs(1);

/// What a lingering client may still send before it is cut off.
const MAX_LINGER_BYTES: usize = 1024 * 1024;

/// A longer reply is a document, which may not be on its way yet when the last of it is sent: its client lingers.
const MAX_SHORT_REPLY_BYTES: usize = 1024;

/// A client between accept and close.
pub(crate) struct Client {
    pub(crate) socket: OwnedFd,
    transport: Transport,
    protocol: Protocol,
    phase: Phase,
    /// When the phase began.
    since: Instant,
    deadline: Option<Instant>,
}

enum Phase {
    Heading {
        /// Whether a PROXY header may still stand at the start of what was received. It has bounds of its own, beside
        /// those of what follows.
        is_header_due: bool,
        /// Without the PROXY header, once that is complete, and without what TLS makes of it.
        received: Vec<u8>,
        /// When the last of it came.
        last: Instant,
        /// When it has to be complete.
        latest: Instant,
    },
    /// Its request is with tiny_http or waits for a lane; that wait has the check's deadline.
    Asking {
        is_head: bool,
        /// It has sent more than its request, as far as that was seen.
        has_sent_more: bool,
    },
    Replying {
        bytes: Vec<u8>,
        sent: usize,
        /// It may still send what nobody will read.
        has_to_linger: bool,
    },
    Lingering {
        discarded: usize,
    },
}

/// What the gate has to do with a client now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Wait for more.
    Wait,
    /// Its head is complete: ask.
    Ask(RequestHead),
    /// It gets this instead of an answer.
    Refuse(Refusal),
    /// It is done, or hopeless.
    Close,
}

impl Client {
    pub(crate) fn new(socket: OwnedFd, protocol: Protocol, now: Instant) -> Client {
        let (received, latest) = (Vec::new(), now + HEAD_DEADLINE);
        let phase = Phase::Heading { is_header_due: true, received, last: now, latest };
        let transport = Transport::Plain;
        let mut client = Client { socket, transport, protocol, phase, since: now, deadline: None };
        client.set_heading_deadline();
        client
    }

    /// A new client that is to speak TLS.
    pub(crate) fn over_tls(self, door: &Door) -> Client {
        Client { transport: Transport::Due(door.clone()), ..self }
    }

    /// What it speaks.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Its address; `None` where it has none, as on a Unix socket, or is gone.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        let peer = getpeername(&self.socket).ok().flatten()?;
        SocketAddr::try_from(peer).ok().map(|address| address.ip().to_canonical())
    }

    /// What is waited for at its socket; a hang-up is always reported.
    pub(crate) fn poll_flags(&self) -> PollFlags {
        match self.phase {
            Phase::Heading { .. } => self.transport.poll_flags(),
            Phase::Lingering { .. } => PollFlags::IN,
            // Once is enough: what it sends is left where it is.
            Phase::Asking { has_sent_more: true, .. } => PollFlags::empty(),
            Phase::Asking { has_sent_more: false, .. } => PollFlags::IN,
            Phase::Replying { .. } => PollFlags::OUT,
        }
    }

    /// Since when it is where it is: accepted, or lingering.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// When [`Client::on_deadline`] is due; `None` while somebody else keeps the time.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether it may be dropped for a new client: the lower, the sooner.
    pub(crate) fn dispensability(&self) -> Option<u8> {
        match self.phase {
            // It has its reply; closing now harms it only if it still sends what nobody wants.
            Phase::Lingering { .. } => Some(0),
            // It does not read: the reply to a check fits every socket's buffer at once.
            Phase::Replying { .. } => Some(1),
            // It has not asked yet.
            Phase::Heading { .. } => Some(2),
            Phase::Asking { .. } => None,
        }
    }

    /// Whether its head is not complete yet.
    pub(crate) fn is_heading(&self) -> bool {
        matches!(self.phase, Phase::Heading { .. })
    }

    /// Whether what comes of it next may take the processor some time.
    pub(crate) fn is_in_handshake(&self) -> bool {
        self.is_heading() && self.transport.is_in_handshake()
    }

    /// What it has sent of its head so far.
    pub(crate) fn received(&self) -> &[u8] {
        match &self.phase {
            Phase::Heading { received, .. } => received,
            Phase::Asking { .. } | Phase::Replying { .. } | Phase::Lingering { .. } => &[],
        }
    }

    /// Whether it waits for its answer.
    pub(crate) fn is_asking(&self) -> bool {
        matches!(self.phase, Phase::Asking { .. })
    }

    /// Whether it waits for one without a body.
    pub(crate) fn is_asking_head(&self) -> bool {
        matches!(self.phase, Phase::Asking { is_head: true, .. })
    }

    /// Lets a client that has not asked yet hurry: the agent stops.
    pub(crate) fn hurry(&mut self, latest: Instant) {
        match &mut self.phase {
            Phase::Heading { latest: own, .. } => {
                *own = latest.min(*own);
                self.set_heading_deadline();
            }
            Phase::Lingering { .. } => self.deadline = self.deadline.map(|deadline| deadline.min(latest)),
            Phase::Asking { .. } | Phase::Replying { .. } => {}
        }
    }

    /// The socket can be read or written, or has failed.
    pub(crate) fn on_ready(&mut self, now: Instant) -> Next {
        match &mut self.phase {
            Phase::Heading { .. } => self.receive_head(now),
            Phase::Asking { .. } => self.look_for_more(),
            Phase::Replying { .. } => self.send_reply(now),
            Phase::Lingering { .. } => self.discard(),
        }
    }

    /// The phase took too long.
    pub(crate) fn on_deadline(&mut self, now: Instant) -> Next {
        match &self.phase {
            Phase::Heading { is_header_due, received, last, .. } => match self.protocol {
                Protocol::Agent if now >= *last + LINE_PAUSE => {
                    self.act_on(read_rest(received, *is_header_due), now)
                }
                // It sends byte after byte and comes to no end.
                Protocol::Agent => self.act_on(line::refused(), now),
                Protocol::Http if received.is_empty() => Next::Close,
                Protocol::Http => Next::Refuse(Refusal::unread(HttpReply::request_timeout(), received)),
            },
            Phase::Asking { .. } | Phase::Replying { .. } | Phase::Lingering { .. } => Next::Close,
        }
    }

    /// Sends its part of a whole reply, then closes properly: at once where the client has sent its request and not a byte
    /// more, as checkers do, else when it has closed its own side.
    pub(crate) fn reply(&mut self, bytes: Vec<u8>, now: Instant) -> Next {
        let bytes = dialect::on_the_wire(self.protocol, bytes);
        let has_asked_properly = matches!(self.phase, Phase::Asking { has_sent_more: false, .. });
        // After TLS there is always one more word of the client's: that it, too, has nothing more to say.
        let has_to_linger =
            !has_asked_properly || bytes.len() > MAX_SHORT_REPLY_BYTES || self.transport.is_tls();
        self.enter(Phase::Replying { bytes, sent: 0, has_to_linger }, Some(now + REPLY_DEADLINE), now);
        self.send_reply(now)
    }

    fn enter(&mut self, phase: Phase, deadline: Option<Instant>, now: Instant) {
        (self.phase, self.deadline, self.since) = (phase, deadline, now);
    }

    fn set_heading_deadline(&mut self) {
        let Phase::Heading { last, latest, .. } = self.phase else { return };
        self.deadline = Some(match self.protocol {
            Protocol::Http => latest,
            Protocol::Agent => latest.min(last + LINE_PAUSE),
        });
    }

    fn receive_head(&mut self, now: Instant) -> Next {
        let limit = match self.protocol {
            Protocol::Http => MAX_HEAD_BYTES + MAX_BODY_BYTES,
            Protocol::Agent => MAX_LINE_BYTES,
        };
        let mut chunk = [0; 2048];
        loop {
            let Phase::Heading { is_header_due, received, last, .. } = &mut self.phase else {
                return Next::Wait;
            };
            // One byte more than the limit tells "too long" from "exactly long enough".
            let room = (limit + 1 - received.len()).min(chunk.len());
            let count = match self.transport.recv(&self.socket, &mut chunk[..room]) {
                Ok(count) => count,
                Err(Errno::AGAIN) => return Next::Wait,
                Err(Errno::INTR) => continue,
                // It was told what was wrong with it.
                Err(_) if self.transport.is_tls() => return self.end(now),
                Err(_) => return Next::Close,
            };
            received.extend_from_slice(&chunk[..count]);
            *last = now;
            if *is_header_due && count > 0 {
                match proxy_header::read(received) {
                    ProxyHeader::Incomplete => {
                        self.set_heading_deadline();
                        continue;
                    }
                    ProxyHeader::Absent => {}
                    ProxyHeader::Complete(length) => drop(received.drain(..length)),
                    ProxyHeader::Malformed(what) => return self.act_on(refused(self.protocol, what), now),
                }
                *is_header_due = false;
            }
            match self.transport.open(received) {
                None => {}
                Some(Opening::Begun) => {
                    received.clear();
                    continue;
                }
                Some(Opening::Plain) => {
                    let what = "this port speaks HTTPS, and that was plain HTTP";
                    return Next::Refuse(Refusal::unread(HttpReply::bad_request(what), received));
                }
            }
            let head = match self.protocol {
                Protocol::Http if count > 0 => read_head(received),
                Protocol::Http if received.is_empty() => return Next::Close,
                Protocol::Http => {
                    let what = "the connection was closed in the middle of the request";
                    return Next::Refuse(Refusal::unread(HttpReply::bad_request(what), received));
                }
                Protocol::Agent if count > 0 => line::read_line(received),
                Protocol::Agent => read_rest(received, *is_header_due),
            };
            match head {
                Head::Incomplete => self.set_heading_deadline(),
                Head::Refused(_) => return self.act_on(head, now),
                Head::Complete(request) => {
                    let has_sent_more = is_more_than_a_request(self.protocol, received);
                    return self.ask(request, has_sent_more, now);
                }
            }
        }
    }

    fn act_on(&mut self, head: Head, now: Instant) -> Next {
        match head {
            Head::Incomplete => Next::Wait,
            // By its silence: it may still send the line that it owes.
            Head::Complete(request) => self.ask(request, true, now),
            Head::Refused(refusal) => Next::Refuse(refusal),
        }
    }

    fn ask(&mut self, request: RequestHead, has_sent_more: bool, now: Instant) -> Next {
        self.enter(Phase::Asking { is_head: request.is_head(), has_sent_more }, None, now);
        Next::Ask(request)
    }

    fn send_reply(&mut self, now: Instant) -> Next {
        let Phase::Replying { bytes, sent, has_to_linger } = &mut self.phase else { return Next::Wait };
        while *sent < bytes.len() {
            match self.transport.send(&self.socket, &bytes[*sent..]) {
                Ok(count) => *sent += count,
                Err(Errno::AGAIN) => return Next::Wait,
                Err(Errno::INTR) => {}
                Err(_) => return Next::Close,
            }
        }
        let has_to_linger = *has_to_linger;
        match self.transport.finish(&self.socket) {
            Ok(()) if has_to_linger => self.end(now),
            Err(Errno::AGAIN) => Next::Wait,
            Ok(()) | Err(_) => Next::Close,
        }
    }

    /// Nothing more is said to it; it may take a moment to hear that.
    fn end(&mut self, now: Instant) -> Next {
        if shutdown(&self.socket, Shutdown::Write).is_err() {
            return Next::Close;
        }
        // Whatever still comes is not read, and need not be understood.
        self.transport = Transport::Plain;
        self.enter(Phase::Lingering { discarded: 0 }, Some(now + LINGER_DEADLINE), now);
        Next::Wait
    }

    /// Something came although the request was complete: more bytes, the end of them (a client that closes only its sending
    /// side waits for its answer all the same), or the end of the connection.
    fn look_for_more(&mut self) -> Next {
        if let Phase::Asking { has_sent_more, .. } = &mut self.phase {
            if *has_sent_more {
                // Only hang-ups are reported now.
                return Next::Close;
            }
            *has_sent_more = true;
        }
        match recv(&self.socket, &mut [0; 1][..], RecvFlags::PEEK) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Next::Wait,
            Err(_) => Next::Close,
        }
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

/// Whether the request in these bytes was complete before the last of them.
fn is_more_than_a_request(protocol: Protocol, received: &[u8]) -> bool {
    let Some((_, before_the_last)) = received.split_last() else { return true };
    let head = match protocol {
        Protocol::Http => read_head(before_the_last),
        Protocol::Agent => line::read_line(before_the_last),
    };
    head != Head::Incomplete
}

/// What a line that goes no further asks. A PROXY header that goes no further is none.
fn read_rest(received: &[u8], is_header_due: bool) -> Head {
    if is_header_due && proxy_header::has_begun(received) {
        line::refused()
    } else {
        line::read_rest(received)
    }
}

/// What stands ahead of the request makes no sense.
fn refused(protocol: Protocol, what: &'static str) -> Head {
    match protocol {
        Protocol::Http => Head::Refused(Refusal::of(HttpReply::bad_request(what))),
        Protocol::Agent => line::refused(),
    }
}

#[cfg(test)]
mod tests;
