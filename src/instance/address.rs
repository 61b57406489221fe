//! Where the instance is right now: the configured endpoint, resolved to something that can be connected to.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use super::Failure;
use crate::config::{ConnectionSettings, Endpoint};
use crate::reason::Reason;

/// An address to connect to, after every look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// The directory of the Unix socket, and the socket's own path.
    Unix { directory: PathBuf, socket: PathBuf },
    /// A TCP address.
    Tcp(SocketAddr),
}

impl Address {
    /// Resolves the endpoint to the addresses to try, in their order; never empty. Looking up a host name blocks
    /// for as long as the resolver pleases.
    pub(super) fn resolve(settings: &ConnectionSettings) -> Result<Vec<Address>, Failure> {
        if let Some((socket, owner)) = settings.stranger() {
            let cause = format!(
                "{} belongs to user {owner}, who is neither root, nor postgres, nor the agent's own (where that is right, \
                 name its directory: host=/tmp)",
                socket.display()
            );
            return Err(Failure::new(Reason::ConnectionRefused, cause));
        }
        if let (Some(directory), Some(socket)) = (settings.locate(), settings.socket_path()) {
            return Ok(vec![Address::Unix { directory, socket }]);
        }
        let tcp = |ip| Address::Tcp(SocketAddr::new(ip, settings.port));
        match &settings.endpoint {
            Endpoint::Tcp { address: Some(address), .. } => Ok(vec![tcp(*address)]),
            Endpoint::Tcp { host: Some(host), address: None } => {
                Ok(look_up(host)?.into_iter().map(tcp).collect())
            }
            Endpoint::Tcp { host: None, address: None }
            | Endpoint::DefaultSocket
            | Endpoint::UnixDirectory(_) => {
                Err(Failure::new(Reason::NameNotResolved, "no host is configured"))
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix { socket, .. } => write!(f, "{}", socket.display()),
            Address::Tcp(address) => write!(f, "{address}"),
        }
    }
}

pub(super) fn look_up(host: &str) -> Result<Vec<IpAddr>, Failure> {
    let addresses = (host, 0)
        .to_socket_addrs()
        .map_err(|error| Failure::new(Reason::NameNotResolved, format!("{host}: {error}")))?;
    let mut ips = Vec::new();
    for address in addresses {
        if !ips.contains(&address.ip()) {
            ips.push(address.ip());
        }
    }
    match ips.is_empty() {
        false => Ok(ips),
        true => Err(Failure::new(Reason::NameNotResolved, format!("{host}: no address"))),
    }
}
