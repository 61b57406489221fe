//! `--peer`: where another agent answers, and whether it does so over TLS.

use std::fmt;

use super::HostPort;
use crate::tls;

/// One thread each, and one request each when somebody asks.
pub const MAX_PEERS: usize = 16;

const EXPECTED: &str = "expected http://HOST:PORT or HOST:PORT";

/// An agent of another node, as it is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Its host and port.
    pub place: HostPort,
    /// Whether it is asked over TLS.
    pub is_tls: bool,
}

/// Without a scheme where it is the usual one.
impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_tls { "https://" } else { "" }, self.place)
    }
}

fn parse(value: &str) -> Result<PeerAddress, String> {
    let (authority, is_tls) = match value.split_once("://") {
        None => (value, false),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (rest, false),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => {
            tls::only_if_here().map_err(|why| format!("{why} (or use http:// on a trusted network)"))?;
            (rest, true)
        }
        Some(_) => return Err(EXPECTED.into()),
    };
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains(['/', '?', '#']) {
        return Err("a peer has no path: it is asked for /node".into());
    }
    let place = HostPort::parse(authority).ok_or(EXPECTED)?;
    Ok(PeerAddress { place, is_tls })
}

/// One more of them.
pub(super) fn add(peers: &mut Vec<PeerAddress>, value: &str) -> Result<(), String> {
    let peer = parse(value)?;
    if peers.iter().any(|other| other.place == peer.place) {
        return Err("the peer is given twice".into());
    }
    if peers.len() == MAX_PEERS {
        return Err(format!("at most {MAX_PEERS} peers"));
    }
    peers.push(peer);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_host_and_a_port() {
        for (value, expected) in [
            ("node1:23267", "node1:23267"),
            ("http://node1:23267", "node1:23267"),
            ("HTTP://Node-1.example:1/", "node-1.example:1"),
            ("192.0.2.1:65535", "192.0.2.1:65535"),
            ("http://[2001:DB8::1]:23267", "[2001:db8::1]:23267"),
        ] {
            let peer = parse(value).map(|peer| peer.to_string());
            assert_eq!(peer.as_deref(), Ok(expected), "{value}");
        }
        for value in [
            "",
            "node1",
            "node1:",
            ":23267",
            "node1:0",
            "node1:+1",
            "node1:65536",
            "node1:http",
            "::1:23267",
            "[::1]",
            "[node1]:1",
            "ftp://node1:1",
            "https://node1",
            "node1:1/node",
            "node1:1?x",
            "node1:1#x",
            "http://",
            "node 1:1",
            "a:b@node1:1",
            "http:///node1:1",
        ] {
            assert!(parse(value).is_err(), "{value}");
        }
    }

    #[test]
    fn tls_is_spoken_where_it_is_here() {
        let peer = parse("HTTPS://Node1:23269/").map(|peer| peer.to_string());
        match tls::only_if_here() {
            Ok(()) => assert_eq!(peer.as_deref(), Ok("https://node1:23269")),
            Err(why) => assert!(peer.unwrap_err().starts_with(&why)),
        }
    }

    #[test]
    fn there_are_sixteen_and_none_twice() {
        let mut peers = Vec::new();
        for port in 1..=16 {
            assert_eq!(add(&mut peers, &format!("node1:{port}")), Ok(()));
        }
        assert_eq!(add(&mut peers, "http://NODE1:1/"), Err("the peer is given twice".into()));
        assert_eq!(add(&mut peers, "node1:17"), Err("at most 16 peers".into()));
    }
}
