//! `--peer`: where another agent answers.

use super::HostPort;
use crate::tls;

/// One thread each, and one request each when somebody asks.
pub const MAX_PEERS: usize = 16;

const EXPECTED: &str = "expected http://HOST:PORT or HOST:PORT";

fn parse(value: &str) -> Result<HostPort, String> {
    let authority = match value.split_once("://") {
        None => value,
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
            return Err(format!("{} (or use http:// on a trusted network)", tls::NOT_HERE));
        }
        Some(_) => return Err(EXPECTED.into()),
    };
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains(['/', '?', '#']) {
        return Err("a peer has no path: it is asked for /node".into());
    }
    HostPort::parse(authority).ok_or_else(|| EXPECTED.into())
}

/// One more of them.
pub(super) fn add(peers: &mut Vec<HostPort>, value: &str) -> Result<(), String> {
    let peer = parse(value)?;
    if peers.contains(&peer) {
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
            "https://node1:1",
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
    fn there_are_sixteen_and_none_twice() {
        let mut peers = Vec::new();
        for port in 1..=16 {
            assert_eq!(add(&mut peers, &format!("node1:{port}")), Ok(()));
        }
        assert_eq!(add(&mut peers, "http://NODE1:1/"), Err("the peer is given twice".into()));
        assert_eq!(add(&mut peers, "node1:17"), Err("at most 16 peers".into()));
    }
}
