//! One HTTP question to an agent, with one deadline for all of it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::tls::PeerTls;

/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// In place of an answer: nobody there.
pub const NOBODY: &str = "nobody listens there";

/// In place of an answer: somebody there who wants nothing to do with us.
pub const CLOSED: &str = "closed without an answer";

/// In place of an answer: nothing before the deadline.
pub const LATE: &str = "no answer in time";

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The code of the status line.
    pub status: u16,
    /// The rest of it.
    pub reason: String,
    /// What follows the head.
    pub body: Vec<u8>,
}

impl Answer {
    /// The status line without its version.
    pub fn line(&self) -> String {
        format!("{} {}", self.status, self.reason)
    }
}

/// Where an agent is asked.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The address itself.
    pub address: SocketAddr,
    /// How it is asked over TLS, if it is.
    pub tls: Option<&'a PeerTls>,
    /// Whose certificate it has to show then.
    pub host: &'a str,
}

impl From<SocketAddr> for Place<'_> {
    fn from(address: SocketAddr) -> Self {
        Place { address, tls: None, host: "" }
    }
}

/// Asks now. `Err` says what there was in place of an answer.
pub fn get(place: Place, path: &str, deadline: Instant) -> Result<Answer, String> {
    let bytes = exchange(place, path, deadline).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => LATE.to_owned(),
        ErrorKind::ConnectionRefused => NOBODY.to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => CLOSED.to_owned(),
        _ => error.to_string(),
    })?;
    match bytes.is_empty() {
        true => Err(CLOSED.into()),
        false => read(&bytes).ok_or_else(|| "no HTTP".into()),
    }
}

fn exchange(place: Place, path: &str, deadline: Instant) -> io::Result<Vec<u8>> {
    let address = place.address;
    let socket = TcpStream::connect_timeout(&address, left(deadline)?)?;
    let mut stream = stream::open(place, Until { socket, deadline })?;
    let version = env!("CARGO_PKG_VERSION");
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nUser-Agent: pgsqlchk/{version}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    while bytes.len() < MAX_ANSWER_BYTES && !is_complete(&bytes) {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A server that does not read the request resets the connection after its answer.
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !bytes.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Whether as much has come as the head promises; where it promises nothing, the answer ends with the connection.
fn is_complete(bytes: &[u8]) -> bool {
    let Some(head_ends) = end_of_head(bytes) else { return false };
    let head = String::from_utf8_lossy(&bytes[..head_ends]).to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.is_some_and(|length| bytes.len() - head_ends >= length)
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4)
}

/// A socket, every step of which ends at the deadline.
struct Until {
    socket: TcpStream,
    deadline: Instant,
}

impl Read for Until {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(left(self.deadline)?))?;
        self.socket.read(bytes)
    }
}

impl Write for Until {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(left(self.deadline)?))?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// In the clear.
#[cfg(not(feature = "tls"))]
mod stream {
    use super::{Place, Until};

    pub fn open(_: Place, socket: Until) -> std::io::Result<Until> {
        Ok(socket)
    }
}

/// Over TLS, or in the clear.
#[cfg(feature = "tls")]
mod stream {
    use std::io::{Error, Read, Result, Write};

    use super::{Place, Until};

    pub trait Stream: Read + Write {}
    impl<T: Read + Write> Stream for T {}

    pub fn open(place: Place, socket: Until) -> Result<Box<dyn Stream>> {
        Ok(match place.tls {
            Some(tls) => {
                let session = tls.session(place.host).map_err(Error::other)?;
                Box::new(rustls::StreamOwned::new(session, socket))
            }
            None => Box::new(socket),
        })
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

fn read(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().next()?.strip_prefix("HTTP/1.")?;
    let (code, reason) = line.split_once(' ')?.1.split_at_checked(3)?;
    let body = bytes[end_of_head(bytes).unwrap_or(bytes.len())..].to_vec();
    Some(Answer { status: code.parse().ok()?, reason: reason.trim().chars().take(80).collect(), body })
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn an_answer_has_a_status_line() {
        let answer = read(b"HTTP/1.1 503 superseded\r\nX: y\r\n\r\nDown").unwrap();
        assert_eq!((answer.line().as_str(), answer.body.as_slice()), ("503 superseded", &b"Down"[..]));
        assert_eq!(read(b"HTTP/1.1 200\r\n\r\n").unwrap().line(), "200 ");
        assert!(!super::is_complete(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"));
        assert!(super::is_complete(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"));
        assert_eq!(read(b"SSH-2.0-OpenSSH\r\n"), None);
        assert_eq!(read(b"HTTP/1.1 2"), None);
    }
}
