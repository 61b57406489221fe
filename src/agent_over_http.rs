//! What the running agent says, asked over HTTP at the addresses that the same configuration has it listen on.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::gate::listener::DEFAULT_PORT;

/// Twice the longest document.
const MAX_REPLY_BYTES: u64 = 128 * 1024;

const QUESTION: &[u8] = b"GET /status HTTP/1.0\r\nAccept: application/json\r\n\r\n";

/// What is needed of `/status`.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    /// Whether the drain file exists, for all that the agent sees.
    pub(super) draining: Option<bool>,
    /// What HAProxy says.
    pub(super) haproxy: Vec<Said>,
}

/// What one HAProxy says of one of its servers.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Said {
    pub(super) node: String,
    pub(super) pool: String,
    pub(super) server: String,
    pub(super) state: String,
    /// Whether HAProxy counts the server as up.
    pub(super) up: bool,
    pub(super) sessions: u64,
    pub(super) queue: u64,
    pub(super) address: Option<String>,
    pub(super) age_ms: u64,
}

/// Where the agent may be asked from this host, in the order to try; empty where nobody can know.
pub(super) fn addresses(listen: &[SocketAddr]) -> Vec<SocketAddr> {
    let default = [SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), DEFAULT_PORT)];
    let listen = if listen.is_empty() { &default[..] } else { listen };
    let loopbacks = |address: &SocketAddr| match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![Ipv4Addr::LOCALHOST.into()],
        // It takes IPv4 too, and where IPv6 is off nothing else is there.
        IpAddr::V6(ip) if ip.is_unspecified() => vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()],
        ip => vec![ip],
    };
    let known = listen.iter().filter(|address| address.port() != 0);
    known
        .flat_map(|address| loopbacks(address).into_iter().map(|ip| SocketAddr::new(ip, address.port())))
        .collect()
}

/// Asks the first agent that answers, and says where that is. `Err` says in one line why none does.
pub(super) fn ask(addresses: &[SocketAddr], limit: Duration) -> Result<(SocketAddr, Status), String> {
    let deadline = Instant::now() + limit;
    let mut why = "no port is named to ask it at".to_owned();
    for address in addresses {
        match ask_one(*address, deadline) {
            Ok(status) => return Ok((*address, status)),
            Err(what) => why = format!("{address}: {what}"),
        }
    }
    Err(why)
}

fn ask_one(address: SocketAddr, deadline: Instant) -> Result<Status, String> {
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let say = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        std::io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
        _ => error.to_string(),
    };
    let mut stream = TcpStream::connect_timeout(&address, left()).map_err(say)?;
    stream.set_write_timeout(Some(left())).and_then(|()| stream.write_all(QUESTION)).map_err(say)?;
    let mut reply = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left())).map_err(say)?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => reply.extend_from_slice(&chunk[..count]),
            Err(error) if reply.is_empty() && error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(say(error)),
        }
        if reply.len() as u64 > MAX_REPLY_BYTES || Instant::now() >= deadline {
            return Err("what answers there does not come to an end".into());
        }
    }
    read(&reply)
}

fn read(reply: &[u8]) -> Result<Status, String> {
    if reply.is_empty() {
        return Err("closed without an answer (does --allow name this host?)".into());
    }
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n");
    let body = end.filter(|_| reply.starts_with(b"HTTP/1.1 200 ")).map(|end| &reply[end + 4..]);
    let status = body.and_then(|body| serde_json::from_slice(body).ok());
    status.ok_or_else(|| "what answers there is no agent that knows of HAProxy".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_asked_where_it_listens() {
        let of = |listen: &[&str]| {
            let listen: Vec<SocketAddr> = listen.iter().map(|text| text.parse().unwrap()).collect();
            addresses(&listen).iter().map(SocketAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), ["[::1]:23267", "127.0.0.1:23267"]);
        assert_eq!(of(&["[::]:1"]), ["[::1]:1", "127.0.0.1:1"]);
        assert_eq!(of(&["0.0.0.0:1", "192.0.2.1:2", "127.0.0.1:0"]), ["127.0.0.1:1", "192.0.2.1:2"]);
    }

    #[test]
    fn only_an_agents_answer_is_one() {
        let said = r#"{"node":"lb1","pool":"p","server":"s","state":"UP","up":true,"sessions":1,"pool_sessions":2,
            "queue":0,"address":null,"age_ms":3}"#;
        let reply = |head: &str, body: &str| format!("HTTP/1.1 {head}\r\nA: b\r\n\r\n{body}\n").into_bytes();
        let status =
            read(&reply("200 OK", &format!("{{\"draining\":true,\"haproxy\":[{said}],\"more\":1}}")))
                .unwrap();
        assert_eq!((status.draining, status.haproxy[0].sessions), (Some(true), 1));
        for reply in [reply("404 draining", "{}"), reply("200 OK", "{}"), b"SSH-2.0".to_vec(), Vec::new()] {
            assert!(read(&reply).is_err());
        }
    }
}
