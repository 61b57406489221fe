//! A TCP address behind which the server changes, as behind a floating address or a service: new connections go where it
//! points now, and those that are open stay where they are.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::secs;

/// More connections than a test makes in its life.
const MAX_CONNECTIONS: usize = 10_000;

/// The address. It and everything that goes through it end when dropped.
pub struct Forwarder {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    target: Mutex<SocketAddr>,
    is_over: AtomicBool,
    /// Both ends of every connection.
    open: Mutex<Vec<TcpStream>>,
}

impl Forwarder {
    /// An address of 127.0.0.1 that leads to this port of it.
    pub fn to(port: u16) -> Forwarder {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a forwarder");
        let addr = listener.local_addr().expect("an address");
        let target = Mutex::new(local(port));
        let shared = Arc::new(Shared { target, is_over: AtomicBool::new(false), open: Mutex::default() });
        let acceptor = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&listener, &shared))
        };
        Forwarder { addr, shared, acceptor: Some(acceptor) }
    }

    /// From now on new connections go to this port.
    pub fn switch(&self, port: u16) {
        *lock(&self.shared.target) = local(port);
    }

    /// Its own port.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Whoever waits in accept(2) looks up.
        drop(TcpStream::connect_timeout(&self.addr, secs(5)));
        self.acceptor.take().map(JoinHandle::join);
        for stream in lock(&self.shared.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Shared) {
    for client in listener.incoming().take(MAX_CONNECTIONS) {
        if shared.is_over.load(Ordering::SeqCst) {
            return;
        }
        // With nobody behind it the connection just ends.
        let _ = client.and_then(|client| join(client, shared));
    }
}

/// Connects the client with what is behind the address now.
fn join(client: TcpStream, shared: &Shared) -> io::Result<()> {
    let target = *lock(&shared.target);
    let server = TcpStream::connect_timeout(&target, secs(5))?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    for (from, to) in [(&client, &server), (&server, &client)] {
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || copy(from, to));
    }
    lock(&shared.open).extend([client, server]);
    Ok(())
}

/// Until either side ends.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 8192];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
