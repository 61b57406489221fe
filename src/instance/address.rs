//! Where the instance is right now: the configured endpoint, resolved to something that can be connected to.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant};

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

/// How long one of several addresses has.
#[derive(Clone, Copy)]
pub(super) struct Share {
    /// Until then it has its equal share of the time that was left.
    pub(super) until: Instant,
    /// The share's length; `None` for the last address, as nobody comes after it.
    pub(super) limit: Option<Duration>,
}

/// Tries addresses in their order, as libpq does: `localhost` is often ::1 first, and the server listens on 127.0.0.1. Ends
/// with the first one at which somebody is reached, whatever he says.
pub(super) fn try_in_order<T>(
    addresses: Vec<Address>,
    deadline: Instant,
    mut attempt: impl FnMut(Address, Share) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    let mut last_failure = Failure::new(Reason::NameNotResolved, "no address");
    for address in addresses {
        let now = Instant::now();
        let share = deadline.saturating_duration_since(now) / left;
        let limit = (left > 1).then_some(share);
        left -= 1;
        match attempt(address, Share { until: now + share, limit }) {
            Err(failure) if failure.is_next_address_worth_it() => last_failure = failure,
            result => return result,
        }
    }
    Err(last_failure)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Vec<Address> {
        (1..=3).map(|port| Address::Tcp(SocketAddr::from(([192, 0, 2, 1], port)))).collect()
    }

    #[test]
    fn an_address_that_swallows_everything_leaves_the_others_their_share() {
        let begun = Instant::now();
        let deadline = begun + Duration::from_secs(6);
        let mut limits = Vec::new();
        let result: Result<(), Failure> = try_in_order(three(), deadline, |_, share| {
            limits.push(share.limit.map(|limit| limit.as_secs_f64().round()));
            assert!(share.until <= deadline);
            Err(Failure::new(Reason::Unreachable, "swallowed"))
        });
        assert_eq!(result.map_err(|failure| failure.reason), Err(Reason::Unreachable));
        // Nothing was waited for here, so the second one has half of what is left.
        assert_eq!(limits, [Some(2.0), Some(3.0), None]);
    }

    #[test]
    fn whoever_is_reached_is_the_one_whatever_he_says() {
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut tried = 0;
        let result: Result<(), Failure> = try_in_order(three(), deadline, |_, _| {
            tried += 1;
            let reason = if tried == 1 { Reason::ConnectionRefused } else { Reason::AuthenticationFailed };
            Err(Failure::new(reason, ""))
        });
        assert_eq!(result.map_err(|failure| failure.reason), Err(Reason::AuthenticationFailed));
        assert_eq!(tried, 2);
    }
}
