//! The knock: does the postmaster itself still answer?
//!
//! A session that is open already keeps answering while its postmaster is frozen, although no client could log
//! in any more. The knock opens the socket, sends an SSLRequest and expects one byte (PostgreSQL manual, "SSL
//! Session Encryption" in the protocol's message flow): the server answers it before authentication and also
//! with every connection slot taken. Unlike a login, every step of it has a time limit.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::address::Address;
use super::{Failure, Stage, StageCell};
use crate::config::ConnectionSettings;
use crate::reason::Reason;

/// Length 8, code 80877103: SSLRequest, the same in every protocol version.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Length 8, code 80877104: GSSENCRequest, known since PostgreSQL 12.
const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

/// Knocks, and remembers how to do so without leaving a line in the server's log.
///
/// A server that answers SSLRequest with `S` (over TCP, with `ssl = on`) logs "could not accept SSL connection"
/// when no handshake follows. Closing after a GSSENCRequest it logs nothing, so that is the knock from then on;
/// but a server before 12 calls it an unsupported protocol and logs that, so it hears SSLRequest again.
#[derive(Debug, Default)]
pub(super) struct Knocker {
    speech: Speech,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Speech {
    #[default]
    Ssl,
    /// Whether it knows the other request will show.
    GssencAtFirst,
    Gssenc,
    SslForGood,
}

impl Knocker {
    /// One for a server that is known to speak TLS, perhaps: it is never asked for it without meaning it.
    pub(super) fn for_settings(settings: &ConnectionSettings) -> Knocker {
        Knocker { speech: if settings.wants_tls() { Speech::GssencAtFirst } else { Speech::Ssl } }
    }

    /// Knocks once. Returns by the deadline, at the latest.
    pub(super) fn knock(
        &mut self,
        address: &Address,
        deadline: Instant,
        stage: &StageCell,
    ) -> Result<(), Failure> {
        let request = match self.speech {
            Speech::Ssl | Speech::SslForGood => SSL_REQUEST,
            Speech::GssencAtFirst | Speech::Gssenc => GSSENC_REQUEST,
        };
        let answer = ask(address, request, deadline, stage)?;
        match (self.speech, &answer) {
            (Speech::GssencAtFirst, Ok(Some(b'E'))) => {
                self.speech = Speech::SslForGood;
                let answer = ask(address, SSL_REQUEST, deadline, stage)?;
                return judge(&address.to_string(), answer);
            }
            (Speech::GssencAtFirst, Ok(Some(_))) => self.speech = Speech::Gssenc,
            (Speech::Ssl, Ok(Some(b'S'))) => self.speech = Speech::Gssenc,
            (Speech::Gssenc, Ok(Some(b'E'))) => {
                self.speech = Speech::SslForGood;
                return Ok(());
            }
            (Speech::Ssl | Speech::GssencAtFirst | Speech::Gssenc | Speech::SslForGood, _) => {}
        }
        judge(&address.to_string(), answer)
    }

    /// The same at what need not be PostgreSQL: stunnel, for one, drops whoever asks it for GSSAPI instead of TLS. It hears
    /// SSLRequest at once, and from then on.
    pub(super) fn knock_at_pooler(&mut self, address: &Address, deadline: Instant) -> Result<(), Failure> {
        let is_gssenc = self.speech == Speech::Gssenc;
        let result = self.knock(address, deadline, &StageCell::new());
        let is_refused = result
            .as_ref()
            .is_err_and(|failure| matches!(failure.reason, Reason::ConnectionLost | Reason::NotPostgresql));
        if !is_gssenc || !is_refused {
            return result;
        }
        let answer = ask(address, SSL_REQUEST, deadline, &StageCell::new())?;
        judge(&address.to_string(), answer)?;
        self.speech = Speech::SslForGood;
        Ok(())
    }
}

/// The byte that answers the request; `None` is an end of file in its place.
type Answer = io::Result<Option<u8>>;

fn ask(address: &Address, request: [u8; 8], deadline: Instant, stage: &StageCell) -> Result<Answer, Failure> {
    let cannot_connect = |error| Failure::from_io(&address.to_string(), &error);
    match address {
        Address::Unix { socket, .. } => {
            // Connecting already waits for the postmaster here: a full backlog blocks.
            stage.enter(Stage::Knocking);
            let stream = connect_unix(socket, deadline).map_err(cannot_connect)?;
            Ok(exchange(stream, request, deadline, UnixStream::set_read_timeout))
        }
        Address::Tcp(address) => {
            stage.enter(Stage::Connecting);
            let limit = remaining(deadline).map_err(cannot_connect)?;
            let stream = TcpStream::connect_timeout(address, limit).map_err(cannot_connect)?;
            stage.enter(Stage::Knocking);
            Ok(exchange(stream, request, deadline, TcpStream::set_read_timeout))
        }
    }
}

/// `UnixStream::connect` has no timeout; on Linux the send timeout bounds it (unix(7), SO_SNDTIMEO).
fn connect_unix(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let address = SocketAddrUnix::new(path)?;
    unless_interrupted(|| {
        set_socket_timeout(&socket, Timeout::Send, Some(remaining(deadline)?))?;
        Ok(connect(&socket, &address)?)
    })?;
    Ok(UnixStream::from(socket))
}

fn exchange<S: Read + Write>(
    mut stream: S,
    request: [u8; 8],
    deadline: Instant,
    set_read_timeout: fn(&S, Option<Duration>) -> io::Result<()>,
) -> Answer {
    // Eight bytes always fit the empty send buffer of a new connection, so only the read can wait.
    stream.write_all(&request)?;
    let mut byte = [0];
    let count = unless_interrupted(|| {
        set_read_timeout(&stream, Some(remaining(deadline)?))?;
        stream.read(&mut byte)
    })?;
    Ok((count > 0).then_some(byte[0]))
}

/// SIGSTOP and SIGCONT interrupt a call on a socket with a timeout, although no handler is set (signal(7)).
fn unless_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn judge(place: &str, answer: Answer) -> Result<(), Failure> {
    match answer {
        Ok(Some(b'S' | b'G' | b'N')) => Ok(()),
        // Since 9.3 only a postmaster that could not fork answers with an error message here.
        Ok(Some(b'E')) => Err(Failure::new(
            Reason::NotAcceptingConnections,
            format!("{place}: the knock was answered with an error"),
        )),
        Ok(Some(byte)) => Err(Failure::new(
            Reason::NotPostgresql,
            format!("{place}: the knock was answered with byte {byte:#04x}; PostgreSQL sends S or N"),
        )),
        Ok(None) => Err(Failure::new(
            Reason::ConnectionLost,
            format!("{place}: the connection was closed in place of an answer to the knock"),
        )),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Err(Failure::new(
                Reason::PostmasterNotAnswering,
                format!("{place}: accepts connections but does not answer the knock"),
            ))
        }
        Err(error) => Err(Failure::from_io(place, &error)),
    }
}

/// What is left until the deadline, as a timeout: never zero, which would mean "for ever".
fn remaining(deadline: Instant) -> io::Result<Duration> {
    match deadline.checked_duration_since(Instant::now()) {
        Some(rest) if !rest.is_zero() => Ok(rest),
        _ => Err(io::Error::from(io::ErrorKind::TimedOut)),
    }
}
