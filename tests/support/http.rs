//! One HTTP exchange over one TCP connection, the way HAProxy checks; replies are kept to the byte.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// After this long an exchange counts as never answered; every deadline of the agent is far below it.
const LIMIT: Duration = Duration::from_secs(10);

/// A reply as it came over the wire.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Reason phrase.
    pub reason: String,
    /// Header names (as sent) and values, in the order of the reply.
    pub headers: Vec<(String, String)>,
    /// What follows the head.
    pub body: String,
    /// Every byte up to the end of the connection.
    pub raw: Vec<u8>,
    /// From before the connect to the end of the connection.
    pub elapsed: Duration,
}

impl Reply {
    /// Takes the bytes of one reply apart; None when they are no HTTP/1.1 reply.
    pub fn parse(raw: Vec<u8>, elapsed: Duration) -> Option<Reply> {
        let text = String::from_utf8(raw.clone()).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let (status, reason) = lines.next()?.strip_prefix("HTTP/1.1 ")?.split_once(' ')?;
        let headers = lines
            .map(|line| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())))
            .collect::<Option<Vec<_>>>()?;
        let (status, reason, body) = (status.parse().ok()?, reason.to_owned(), body.to_owned());
        Some(Reply { status, reason, headers, body, raw, elapsed })
    }

    /// The value of a header, its name compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Status code and reason phrase in one word: `503 in-recovery`.
    pub fn line(&self) -> String {
        format!("{} {}", self.status, self.reason)
    }
}

/// Sends a request over a connection of its own and reads until the server closes, 10 s at most.
pub fn exchange(addr: SocketAddr, request: &[u8]) -> io::Result<Reply> {
    let began = Instant::now();
    let mut stream = TcpStream::connect_timeout(&addr, LIMIT)?;
    stream.set_write_timeout(Some(LIMIT))?;
    // A server may refuse before it has read everything; its reply counts, not the failed write.
    let written = stream.write_all(request);
    let mut raw = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = LIMIT.checked_sub(began.elapsed()).filter(|left| !left.is_zero());
        let left =
            left.ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "no end of the reply in 10 s"))?;
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => raw.extend_from_slice(&buffer[..count]),
            // A machine that is stopped for a moment interrupts what has a time limit (signal(7)).
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if raw.is_empty() {
        written?;
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without a reply"));
    }
    let shown = String::from_utf8_lossy(&raw).into_owned();
    Reply::parse(raw, began.elapsed())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP/1.1 reply: {shown:?}")))
}

/// A plain GET as curl would send it.
pub fn get(addr: SocketAddr, path: &str) -> io::Result<Reply> {
    exchange(addr, format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n").as_bytes())
}
