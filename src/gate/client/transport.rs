//! How a client's bytes come in and go out: as they are, or through TLS. Nothing here blocks.

#[cfg_attr(not(feature = "tls"), path = "transport/no_session.rs")]
mod session;

use std::os::fd::OwnedFd;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::tls::Door;
use session::Session;

/// The way between the socket and what is said on it.
pub(super) enum Transport {
    /// As they are.
    Plain,
    /// TLS is to begin, behind a PROXY header if there is one.
    Due(Door),
    /// Through TLS.
    Tls(Session),
}

/// What came where TLS is due.
pub(super) enum Opening {
    /// All is said: what follows comes through [`Transport::recv`].
    Begun,
    /// Somebody who speaks plain HTTP.
    Plain,
}

impl Transport {
    /// The next bytes that the client says, none after its last.
    pub(super) fn recv(&mut self, socket: &OwnedFd, into: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Transport::Plain | Transport::Due(_) => {
                recv(socket, into, RecvFlags::empty()).map(|(count, _)| count)
            }
            Transport::Tls(session) => session.recv(socket, into),
        }
    }

    /// Looks at the first bytes where TLS is due, and lets it begin with them. `None` where it is not.
    pub(super) fn open(&mut self, received: &[u8]) -> Option<Opening> {
        let Transport::Due(door) = self else { return None };
        // Every record of TLS begins with a number below 32; whatever else is none is for TLS to refuse.
        let first = *received.first()?;
        if first.is_ascii_graphic() || matches!(first, b'\r' | b'\n') {
            return Some(Opening::Plain);
        }
        *self = Transport::Tls(Session::begin(door, received)?);
        Some(Opening::Begun)
    }

    /// Takes some of the bytes of a reply on their way, and says how many. All of them travel together with the end of the
    /// connection.
    pub(super) fn send(&mut self, socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
        match self {
            // MORE lets the end of the connection travel with the last bytes: who ends it sends both at once.
            Transport::Plain | Transport::Due(_) => {
                send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::MORE)
            }
            Transport::Tls(session) => session.send(socket, bytes),
        }
    }

    /// Says that nothing more follows, where there is a word for that, and gets everything on its way.
    pub(super) fn finish(&mut self, socket: &OwnedFd) -> Result<(), Errno> {
        match self {
            Transport::Plain | Transport::Due(_) => Ok(()),
            Transport::Tls(session) => session.finish(socket),
        }
    }

    /// What [`recv`](Self::recv) waits for.
    pub(super) fn poll_flags(&self) -> PollFlags {
        match self {
            Transport::Plain | Transport::Due(_) => PollFlags::IN,
            Transport::Tls(session) => session.poll_flags(),
        }
    }

    /// Whether a handshake is due or under way.
    pub(super) fn is_in_handshake(&self) -> bool {
        match self {
            Transport::Plain => false,
            Transport::Due(_) => true,
            Transport::Tls(session) => session.is_in_handshake(),
        }
    }

    /// Whether TLS has begun.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Transport::Tls(_))
    }
}
