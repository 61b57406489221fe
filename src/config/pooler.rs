//! `--pooler`: what clients of this node go through.

use std::fmt;
use std::path::PathBuf;

use super::HostPort;

/// One thread each, and one knock each when somebody asks.
pub const MAX_POOLERS: usize = 8;

/// The longest path that an address of a Unix socket can hold (unix(7), `sun_path`, with its last NUL).
const MAX_PATH_BYTES: usize = 107;

const EXPECTED: &str = "expected HOST:PORT or the path of a socket";

/// Where a pooler listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolerAddress {
    /// Over TCP.
    Tcp(HostPort),
    /// A Unix socket.
    Unix(PathBuf),
}

impl PoolerAddress {
    fn parse(value: &str) -> Result<PoolerAddress, String> {
        if !value.starts_with('/') {
            return HostPort::parse(value).map(PoolerAddress::Tcp).ok_or_else(|| EXPECTED.into());
        }
        if value.ends_with('/') {
            return Err("expected the socket itself, not its folder (/run/postgresql/.s.PGSQL.6432)".into());
        }
        if value.contains(|c: char| c.is_control() || c.is_whitespace() || "\"\\,".contains(c)) {
            return Err("a socket's path has no spaces, quotes, commas or backslashes here".into());
        }
        if value.len() > MAX_PATH_BYTES {
            return Err(format!("a socket's path has at most {MAX_PATH_BYTES} bytes"));
        }
        Ok(PoolerAddress::Unix(value.into()))
    }
}

/// As it is given.
impl fmt::Display for PoolerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolerAddress::Tcp(address) => address.fmt(f),
            PoolerAddress::Unix(path) => path.display().fmt(f),
        }
    }
}

/// One more of them.
pub(super) fn add(poolers: &mut Vec<PoolerAddress>, value: &str) -> Result<(), String> {
    let pooler = PoolerAddress::parse(value)?;
    if poolers.contains(&pooler) {
        return Err("the pooler is given twice".into());
    }
    if poolers.len() == MAX_POOLERS {
        return Err(format!("at most {MAX_POOLERS} poolers"));
    }
    poolers.push(pooler);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pooler_is_a_host_and_a_port_or_a_socket() {
        for value in ["node1:6432", "192.0.2.1:6432", "[2001:db8::1]:6432", "/run/postgresql/.s.PGSQL.6432"] {
            assert_eq!(PoolerAddress::parse(value).map(|it| it.to_string()).as_deref(), Ok(value));
        }
        let long = format!("/{}", "a".repeat(MAX_PATH_BYTES));
        for value in [
            "",
            "node1",
            "6432",
            ":6432",
            "node1:0",
            "run/pool",
            "/run/postgresql/",
            "/run/a b",
            "/run/\"",
            "http://node1:1",
            &long,
        ] {
            assert!(PoolerAddress::parse(value).is_err(), "{value}");
        }
    }

    #[test]
    fn there_are_eight_and_none_twice() {
        let mut poolers = Vec::new();
        for port in 1..=8 {
            assert_eq!(add(&mut poolers, &format!("node1:{port}")), Ok(()));
        }
        assert_eq!(add(&mut poolers, "NODE1:1"), Err("the pooler is given twice".into()));
        assert_eq!(add(&mut poolers, "/run/pool"), Err("at most 8 poolers".into()));
    }
}
