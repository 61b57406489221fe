//! A check over a new connection beside the bare question, which is the unit everything else is measured in.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use crate::Site;
use crate::client::{CHECK, LIVENESS, buffer, exchange, timed};
use crate::report::{heading, median, say, timing_row};
use crate::support;

/// The bare question.
const ROLE: &str = "SELECT pg_is_in_recovery()";

/// Round trips of each kind, in the order they were made.
pub struct Timings {
    bare: Vec<Duration>,
    check: Vec<Duration>,
    liveness: Vec<Duration>,
    tcp: Vec<Duration>,
}

impl Timings {
    /// One of each, in turns.
    pub fn measure(turns: usize, site: &mut Site) -> Timings {
        let (agent, session) = (site.agent.addr(), &mut site.session);
        let [mut bare, mut check, mut liveness, mut tcp] = [(); 4].map(|()| Vec::with_capacity(turns));
        let listener = bare_listener(turns);
        let mut buffer = buffer();
        for _ in 0..turns {
            bare.push(timed(|| session.simple_query(ROLE).expect("the bare question")));
            check.push(timed(|| exchange(agent, CHECK, "200", &mut buffer)));
            liveness.push(timed(|| exchange(agent, LIVENESS, "200", &mut buffer)));
            tcp.push(timed(|| exchange(listener, LIVENESS, "200", &mut buffer)));
        }
        Timings { bare, check, liveness, tcp }
    }

    pub fn print(mut self, title: &str) {
        heading(title);
        let unit = median(&mut self.bare);
        for (name, timings, goal) in [
            (format!("{ROLE}, open session, Unix socket"), &mut self.bare, "the unit"),
            ("check over a new TCP connection".to_owned(), &mut self.check, "3.50, aim 2.50"),
            ("/liveness over a new TCP connection".to_owned(), &mut self.liveness, ""),
            ("the same from a bare listener: what TCP costs".to_owned(), &mut self.tcp, ""),
        ] {
            timing_row(&name, timings, unit, goal);
        }
        say("");
    }
}

/// A listener of this program that reads once, answers with fixed bytes and closes: no server is faster.
fn bare_listener(connections: usize) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
    let address = listener.local_addr().expect("the listener's address");
    let reply = support::wire::reply("200 Alive", "Alive\n");
    thread::spawn(move || {
        for mut stream in listener.incoming().take(connections).flatten() {
            let mut request = [0; 1024];
            let asked = stream.read(&mut request).is_ok_and(|length| length > 0);
            assert!(asked && stream.write_all(reply.as_bytes()).is_ok(), "the exchange goes well");
        }
    });
    address
}
