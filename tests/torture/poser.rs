//! Somebody who answers in the place of an agent: slowly, with junk, as another cluster, or never.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::network::BALANCER;
use crate::plan::Guise;
use crate::support::{millis, secs};

/// Far more than agents ask within a fault.
const MAX_CONNECTIONS: usize = 10_000;
/// Half the agents' deadline: what is said then is heard in time.
const DELAY: Duration = millis(500);
/// Nobody is served longer; every deadline is below.
const PATIENCE: Duration = secs(3);
/// More than an agent reads.
const FLOOD_BYTES: usize = 1024 * 1024;

/// A primary of another system, on a timeline far above all others.
const FOREIGN: &str = r#"{"agent":"a stranger","name":"elsewhere","agent_version":"0.1.0","role":"primary","reason":null,
"draining":false,"system_identifier":"17","timeline":9999,"lsn":"FFFF/0","since":null,"time":null,
"postmaster_started":1700000000.5,"standbys":[]}"#;

/// Answers that are none, one after the other.
const JUNK: [&str; 7] = [
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"agent\":\"a\",\"role\":\"primary\",\"timeline\":99}",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more than was announced",
    "HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n{\"agent\":",
    "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/node\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 500 Internal Server Error\r\n\r\n",
    "\u{16}\u{3}\u{1} no HTTP at all\r\n\r\n",
    "",
];

/// Listens until it is dropped.
pub struct Poser {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Poser {
    /// In the place of the agent at this address.
    pub fn start(guise: Guise, original: SocketAddr) -> Poser {
        let listener = TcpListener::bind((BALANCER, 0)).expect("bind the poser");
        let address = listener.local_addr().expect("its address");
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let acceptor = thread::spawn(move || {
            for (number, client) in listener.incoming().take(MAX_CONNECTIONS).enumerate() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(client) = client {
                    // The client may go whenever it likes.
                    thread::spawn(move || drop(serve(guise, number, client, original)));
                }
            }
        });
        Poser { address, is_over, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Poser {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Whoever waits in accept(2) looks up.
        drop(TcpStream::connect_timeout(&self.address, secs(1)));
        self.acceptor.take().map(JoinHandle::join);
    }
}

fn serve(guise: Guise, number: usize, mut client: TcpStream, original: SocketAddr) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut question = [0; 4096];
    let length = client.read(&mut question)?;
    match guise {
        Guise::Slow => {
            let mut agent = TcpStream::connect_timeout(&original, PATIENCE)?;
            agent.set_read_timeout(Some(PATIENCE))?;
            agent.write_all(&question[..length])?;
            thread::sleep(DELAY);
            relay(agent, client)
        }
        Guise::Foreign => {
            let length = FOREIGN.len();
            client
                .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{FOREIGN}").as_bytes())
        }
        Guise::Junk => match JUNK.get(number % (JUNK.len() + 1)) {
            Some(junk) => client.write_all(junk.as_bytes()),
            None => {
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                client.write_all(&[b' '; FLOOD_BYTES])
            }
        },
        // Until the other one has had enough.
        Guise::Silent => client.read(&mut question).map(drop),
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    let mut answer = Vec::new();
    from.read_to_end(&mut answer)?;
    to.write_all(&answer)?;
    to.shutdown(Shutdown::Write)
}
