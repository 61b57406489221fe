//! Listeners that are no PostgreSQL: silent ones, ones that talk nonsense, ones whose queue is full.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::secs;

/// More connections than any test makes.
const MANY: usize = 10_000;

/// Answers every connection's first bytes with `answer`, then keeps it open and says nothing more.
/// Its thread ends with the test program.
pub fn answering(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
    let addr = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for mut stream in listener.incoming().take(MANY).flatten() {
            thread::spawn(move || {
                let mut buffer = [0; 1024];
                let asked = stream.read(&mut buffer).unwrap_or(0) > 0;
                if asked && stream.write_all(answer).is_ok() {
                    // Bounded by far more than the other side's deadline.
                    let _ = stream.set_read_timeout(Some(secs(30)));
                    hold(stream);
                }
            });
        }
    });
    addr
}

/// Says nothing more until the other side gives up, or has said nothing for the time that the stream has for reading.
pub fn hold(mut stream: impl Read) {
    loop {
        match stream.read(&mut [0; 1024]) {
            // After a pause of the whole program (signal(7), SO_RCVTIMEO).
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// Offers TLS to whoever asks for it, and closes whatever else it is asked, as stunnel does with `protocol = pgsql`.
pub fn speaking_tls_only() -> SocketAddr {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
    let addr = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for mut stream in listener.incoming().take(MANY).flatten() {
            let mut asked = [0; 8];
            if stream.read_exact(&mut asked).is_ok() && asked == SSL_REQUEST {
                let _ = stream.write_all(b"S");
            }
        }
    });
    addr
}

/// Accepts and closes at once.
pub fn closing() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
    let addr = listener.local_addr().expect("its address");
    thread::spawn(move || listener.incoming().take(MANY).for_each(drop));
    addr
}

/// A listening socket whose queue of connections is full, and the connections that fill it.
pub struct FullQueue {
    listener: OwnedFd,
    _queued: Vec<OwnedFd>,
}

impl FullQueue {
    /// Over TCP: further SYNs get no answer, as from a host that a firewall hides.
    pub fn tcp() -> (FullQueue, SocketAddr) {
        FullQueue::tcp_at((Ipv4Addr::LOCALHOST, 0).into())
    }

    /// The same at this address.
    pub fn tcp_at(addr: SocketAddr) -> (FullQueue, SocketAddr) {
        let listener = socket(AddressFamily::INET, SocketFlags::empty());
        net::bind(&listener, &addr).expect("bind");
        net::listen(&listener, 0).expect("listen");
        let addr =
            SocketAddr::try_from(net::getsockname(&listener).expect("its name")).expect("an IP address");
        // A queue of n takes n + 1 (listen(2)); the third has no place.
        let queued = (0..3).map(|_| {
            let client = socket(AddressFamily::INET, SocketFlags::NONBLOCK);
            let connected = net::connect(&client, &addr);
            assert!(matches!(connected, Ok(()) | Err(Errno::INPROGRESS)), "{connected:?}");
            client
        });
        let full = FullQueue { _queued: queued.collect(), listener };
        let refused =
            TcpStream::connect_timeout(&addr, super::millis(100)).map(drop).map_err(|error| error.kind());
        assert_eq!(refused, Err(std::io::ErrorKind::TimedOut), "the queue is full");
        (full, addr)
    }

    /// Over a Unix socket: a connect waits for a place in the queue for ever.
    pub fn unix(path: &Path) -> FullQueue {
        let listener = socket(AddressFamily::UNIX, SocketFlags::empty());
        net::bind(&listener, &SocketAddrUnix::new(path).expect("a short path")).expect("bind");
        net::listen(&listener, 0).expect("listen");
        FullQueue { _queued: fill(path), listener }
    }

    /// The listening socket's descriptor.
    pub fn listener(&self) -> &OwnedFd {
        &self.listener
    }
}

/// Connects to a Unix socket that nobody accepts from until its queue takes no more.
pub fn fill(path: &Path) -> Vec<OwnedFd> {
    let address = SocketAddrUnix::new(path).expect("a short path");
    let mut queued = Vec::new();
    while queued.len() < MANY {
        let client = socket(AddressFamily::UNIX, SocketFlags::NONBLOCK);
        match net::connect(&client, &address) {
            Ok(()) => queued.push(client),
            Err(Errno::AGAIN) => return queued,
            Err(error) => panic!("connect to {}: {error}", path.display()),
        }
    }
    panic!("the queue of {} never fills", path.display());
}

fn socket(family: AddressFamily, flags: SocketFlags) -> OwnedFd {
    let flags = flags | SocketFlags::CLOEXEC;
    net::socket_with(family, SocketType::STREAM, flags, None).expect("a socket")
}
