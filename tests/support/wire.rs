//! Raw TCP clients. They send exactly the bytes they are told to, keep exactly the bytes that come back, and
//! tell a clean end of the connection (FIN) from an abortive one (RST).
//!
//! What the server has done with a connection is read from the kernel's own table, `/proc/net/tcp`, so that
//! a test can wait for "accepted" or "read" instead of sleeping and hoping.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketType, bind, connect, ipproto, socket, sockopt};

use super::eventually;

/// The longest any client here waits for the server: the 5 s a head may take, and slack.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How the server's side of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The server said it has no more to send; everything before that could be read.
    Fin,
    /// The connection was aborted: an HTTP client would report an error, and may have lost the reply.
    Reset,
    /// Neither: it was still open when the client's patience ended.
    Open,
}

/// Everything a client got from the server.
#[derive(Debug)]
pub struct Received {
    /// The bytes, from the first to the last.
    pub bytes: Vec<u8>,
    /// How the connection ended after them.
    pub end: End,
    /// From the start of this waiting to its end.
    pub elapsed: Duration,
}

impl Received {
    /// The bytes as text; what is not UTF-8 shows as U+FFFD and so compares unequal.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// One client connection.
pub struct Wire {
    stream: TcpStream,
    server: SocketAddr,
}

impl Wire {
    /// Connects from whatever address the kernel picks.
    pub fn connect(server: SocketAddr) -> Wire {
        Wire::try_connect(server).unwrap_or_else(|error| panic!("cannot connect to {server}: {error}"))
    }

    /// Like `connect`, for a server that may be gone.
    pub fn try_connect(server: SocketAddr) -> io::Result<Wire> {
        Wire::around(TcpStream::connect_timeout(&server, PATIENCE)?, server)
    }

    /// Connects with `source` as the client's address: all of 127.0.0.0/8 belongs to this host.
    pub fn connect_from(source: Ipv4Addr, server: SocketAddr) -> Wire {
        Wire::try_connect_from(source, server)
            .unwrap_or_else(|error| panic!("cannot connect from {source} to {server}: {error}"))
    }

    /// Like `connect_from`, for a server that may be gone.
    pub fn try_connect_from(source: Ipv4Addr, server: SocketAddr) -> io::Result<Wire> {
        let descriptor = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::TCP))?;
        bind(&descriptor, &SocketAddrV4::new(source, 0))?;
        connect(&descriptor, &server)?;
        Wire::around(TcpStream::from(descriptor), server)
    }

    fn around(stream: TcpStream, server: SocketAddr) -> io::Result<Wire> {
        // Each `send` is a segment of its own.
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Wire { stream, server })
    }

    /// Sends all of `bytes`; the server has to take them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap_or_else(|error| panic!("the server does not take the request: {error}"));
    }

    /// Sends all of `bytes`, unless the server has had enough.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends `chunk` again and again until `total` bytes went out, the server ended the connection, or it
    /// took nothing for `stall`. Returns how many bytes it took, its own and the kernel's buffers included.
    pub fn flood(&mut self, chunk: &[u8], total: usize, stall: Duration) -> usize {
        self.stream.set_write_timeout(Some(stall)).expect("set_write_timeout");
        let mut sent = 0;
        while sent < total {
            match self.stream.write(chunk) {
                Ok(taken) => sent += taken,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        sent
    }

    /// Says that this client has nothing more to send, and goes on reading.
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap_or_else(|error| panic!("shutdown: {error}"));
    }

    /// A second handle on the same connection, to read in one thread and write in another.
    pub fn second_handle(&self) -> Wire {
        Wire { stream: self.stream.try_clone().expect("dup"), server: self.server }
    }

    /// Asks the kernel for the smallest receive buffer it gives.
    pub fn shrink_receive_buffer(&self) {
        sockopt::set_socket_recv_buffer_size(&self.stream, 1).expect("SO_RCVBUF");
    }

    /// Whether bytes, or the end of the connection, arrive within `limit`.
    pub fn wait_readable(&self, limit: Duration) -> bool {
        let mut watched = [PollFd::new(&self.stream, PollFlags::IN)];
        let limit = Timespec::try_from(limit).expect("a limit of seconds");
        poll(&mut watched, Some(&limit)).is_ok_and(|ready| ready > 0)
    }

    /// Waits for the server to have accepted this connection.
    pub fn wait_accepted(&self) {
        eventually(PATIENCE, "the server accepts the connection", || {
            self.server_side().is_some_and(|side| side.accepted)
        });
    }

    /// Waits for the server to have read everything sent so far.
    pub fn wait_consumed(&self) {
        eventually(PATIENCE, "the server reads what was sent", || {
            self.server_side().is_none_or(|side| side.accepted && side.unread == 0)
        });
    }

    /// Reads until the connection ends, for at most `limit`.
    pub fn receive(&mut self, limit: Duration) -> Received {
        let begin = Instant::now();
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        let end = loop {
            let left = limit.saturating_sub(begin.elapsed());
            if left.is_zero() {
                break End::Open;
            }
            self.stream.set_read_timeout(Some(left)).expect("set_read_timeout");
            match self.stream.read(&mut chunk) {
                Ok(0) => break End::Fin,
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => break End::Reset,
                    other => panic!("reading the reply: {other}: {error}"),
                },
            }
        };
        Received { bytes, end, elapsed: begin.elapsed() }
    }

    /// Ends the connection with a RST, whatever is still on its way.
    pub fn reset(self) {
        sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// The server's end of this connection in the kernel's table.
    fn server_side(&self) -> Option<ServerSide> {
        let client = self.stream.local_addr().expect("a connected socket has an address");
        let names = format!(" {} {} ", hexadecimal(self.server), hexadecimal(client));
        // Tens of thousands of connections in TIME_WAIT may stand there: no line but ours is taken apart.
        let table = fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
        let (_, rest) = table.split_once(&names)?;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?;
        let unread = fields.next()?.split_once(':')?.1;
        let inode = fields.nth(4)?;
        Some(ServerSide {
            accepted: inode != "0" || state != ESTABLISHED,
            unread: u32::from_str_radix(unread, 16).expect("rx_queue is hexadecimal"),
        })
    }
}

/// `TCP_ESTABLISHED` as `/proc/net/tcp` spells it.
const ESTABLISHED: &str = "01";

/// What the kernel knows of the server's end of a connection.
struct ServerSide {
    /// It has an inode from `accept` to the process's `close`, and is no longer established after that.
    accepted: bool,
    /// Bytes in the receive queue.
    unread: u32,
}

/// An address as `/proc/net/tcp` spells it: the IPv4 address in the host's byte order, then the port.
fn hexadecimal(address: SocketAddr) -> String {
    let IpAddr::V4(ip) = address.ip() else { panic!("{address}: only IPv4 connections are looked up") };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port())
}

/// One request in pieces of `size` bytes, each read by the server before the next is sent.
///
/// A head has five seconds; a machine that is busy with other things may need longer for so many pieces, so the attempt
/// that counts is one that was quick enough.
pub fn talk_in_pieces(server: SocketAddr, request: &[u8], size: usize) -> Received {
    for _ in 0..5 {
        let begun = Instant::now();
        let mut wire = Wire::connect(server);
        let mut early = false;
        for piece in request.chunks(size) {
            early |= wire.wait_readable(Duration::ZERO);
            // Late, it is answered with 408 and takes no more.
            let _ = wire.try_send(piece);
            wire.wait_consumed();
        }
        if begun.elapsed() < Duration::from_secs(4) {
            assert!(!early, "answered before all of it was sent");
            return wire.receive(PATIENCE);
        }
    }
    panic!("this machine cannot send {} bytes in pieces of {size} within four seconds", request.len());
}

/// One request on a connection of its own: everything that comes back, and how it ends.
pub fn talk(server: SocketAddr, request: impl AsRef<[u8]>) -> Received {
    let mut wire = Wire::connect(server);
    wire.send(request);
    wire.receive(PATIENCE)
}

/// The whole reply for a status line such as `200 Primary` and a body: the shape every reply of the agent
/// has.
pub fn reply(status: &str, body: &str) -> String {
    head(status, body) + body
}

/// The head of that reply, which is all that HEAD gets.
pub fn head(status: &str, body: &str) -> String {
    let allow = if status.starts_with("405 ") { "Allow: GET, HEAD, OPTIONS\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\n\
         Cache-Control: no-store\r\n\
         {allow}\
         Connection: close\r\n\
         \r\n",
        body.len()
    )
}
