//! `HOST:PORT`, as peers and poolers are named.

use std::fmt;

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or a numeric address, without brackets, in lower case.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl HostPort {
    /// `None` where it is none.
    pub(super) fn parse(text: &str) -> Option<HostPort> {
        let (host, port) = text.rsplit_once(':')?;
        let numeric = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = match numeric {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                !host.is_empty() && host.len() <= 253 && host.bytes().all(is_name)
            }
        };
        // `parse` would take a sign.
        let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        let port = port.and_then(|port| port.parse().ok()).filter(|port| *port != 0)?;
        is_host.then(|| HostPort { host: numeric.unwrap_or(host).to_ascii_lowercase(), port })
    }
}

/// As in a URL.
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}
