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
    /// Resolves the endpoint. Looking up a host name blocks for as long as the resolver pleases.
    pub(super) fn resolve(settings: &ConnectionSettings) -> Result<Address, Failure> {
        if let (Some(directory), Some(socket)) = (settings.locate(), settings.socket_path()) {
            return Ok(Address::Unix { directory, socket });
        }
        let ip = match &settings.endpoint {
            Endpoint::Tcp { address: Some(address), .. } => *address,
            Endpoint::Tcp { host: Some(host), address: None } => look_up(host)?,
            Endpoint::Tcp { host: None, address: None }
            | Endpoint::DefaultSocket
            | Endpoint::UnixDirectory(_) => {
                return Err(Failure::new(Reason::NameNotResolved, "no host is configured"));
            }
        };
        Ok(Address::Tcp(SocketAddr::new(ip, settings.port)))
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

/// The first address of a name. The agent watches one instance, so the others are not tried.
fn look_up(host: &str) -> Result<IpAddr, Failure> {
    let mut addresses = (host, 0)
        .to_socket_addrs()
        .map_err(|error| Failure::new(Reason::NameNotResolved, format!("{host}: {error}")))?;
    match addresses.next() {
        Some(address) => Ok(address.ip()),
        None => Err(Failure::new(Reason::NameNotResolved, format!("{host}: no address"))),
    }
}
