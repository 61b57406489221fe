//! A connection that speaks TLS: rustls between the socket and the client's words, in the gate's own time.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::OwnedFd;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, getpeername, recv, send, sendmsg};
use rustls::ServerConnection;

use crate::tls::Door;

/// What a client may send until its request is complete, as it goes over the wire: handshake, certificates, and a head
/// within its own limit. A hello is below 2 KiB, a chain of certificates seldom above 6.
const MAX_RAW_BYTES: usize = 32 * 1024;

/// Of a reply, what is encrypted and not sent yet: a record.
const MAX_UNSENT_BYTES: usize = 16 * 1024;

/// See the module's own words.
pub(in crate::gate::client) struct Session {
    connection: Box<ServerConnection>,
    /// What has come so far.
    raw_bytes: usize,
    /// It was told that nothing more follows.
    is_finished: bool,
}

impl Session {
    /// Begins with what has come already. `None` where that cannot be, for which no reason is known.
    pub(super) fn begin(door: &Door, mut received: &[u8]) -> Option<Session> {
        let mut connection = Box::new(ServerConnection::new(door.config()).ok()?);
        connection.set_buffer_limit(Some(MAX_UNSENT_BYTES));
        let raw_bytes = received.len();
        while !received.is_empty() {
            connection.read_tls(&mut received).ok()?;
        }
        Some(Session { connection, raw_bytes, is_finished: false })
    }

    /// The next bytes that the client says, none after its last. `PROTO`: what it sends is no TLS, or not what is asked for;
    /// it was told so.
    pub(super) fn recv(&mut self, socket: &OwnedFd, into: &mut [u8]) -> Result<usize, Errno> {
        loop {
            if let Err(error) = self.connection.process_new_packets() {
                log::debug!(target: "pgsqlchk", "TLS with {}: {error}", shown(socket));
                let _ = self.flush(socket, SendFlags::MORE);
                return Err(Errno::PROTO);
            }
            match self.connection.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(count) => return Ok(count),
                // The end, without the word for it.
                Err(_) => return Ok(0),
            }
            // Only now, so that what is not waited for travels with the reply. Who does not take it is not read on.
            self.flush(socket, SendFlags::empty())?;
            if self.raw_bytes > MAX_RAW_BYTES {
                log::debug!(target: "pgsqlchk", "TLS with {}: too many bytes for a request", shown(socket));
                return Err(Errno::PROTO);
            }
            self.raw_bytes +=
                self.connection.read_tls(&mut Raw(socket, SendFlags::empty())).map_err(errno)?;
        }
    }

    /// Takes as much of a reply as is sent at once.
    pub(super) fn send(&mut self, socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
        self.flush(socket, SendFlags::MORE)?;
        self.connection.writer().write(bytes).map_err(errno)
    }

    /// Says that nothing more follows, and gets everything on its way.
    pub(super) fn finish(&mut self, socket: &OwnedFd) -> Result<(), Errno> {
        if !self.is_finished {
            self.is_finished = true;
            self.connection.send_close_notify();
        }
        self.flush(socket, SendFlags::MORE)
    }

    pub(super) fn is_in_handshake(&self) -> bool {
        self.connection.is_handshaking()
    }

    pub(super) fn poll_flags(&self) -> PollFlags {
        if self.connection.wants_write() { PollFlags::OUT } else { PollFlags::IN }
    }

    fn flush(&mut self, socket: &OwnedFd, flags: SendFlags) -> Result<(), Errno> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Raw(socket, flags)).map_err(errno) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The socket as rustls wants it, with how it is sent to.
struct Raw<'a>(&'a OwnedFd, SendFlags);

impl Read for Raw<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0, into, RecvFlags::empty())?.0)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.0, bytes, SendFlags::NOSIGNAL | self.1)?)
    }

    /// All records of a flight at once: the second of several would wait for the client to acknowledge the first.
    fn write_vectored(&mut self, records: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | self.1;
        Ok(sendmsg(self.0, records, &mut SendAncillaryBuffer::default(), flags)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::PROTO)
}

fn shown(socket: &OwnedFd) -> String {
    let peer = getpeername(socket).ok().flatten();
    let peer = peer.and_then(|peer| std::net::SocketAddr::try_from(peer).ok());
    peer.map_or_else(|| "a client without an address".into(), |peer| peer.to_string())
}
