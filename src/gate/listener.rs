//! The public sockets: binding and accepting.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, acceptfrom_with, bind,
    getsockname, listen, socket_with,
};

use crate::config::Protocol;

/// The port that DBAs have opened for the classic script for a decade.
pub(crate) const DEFAULT_PORT: u16 = 23267;

/// Connections that may wait for accept; the system cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A public listening socket, non-blocking.
pub(crate) struct Listener {
    pub(crate) socket: OwnedFd,
    /// What is spoken there.
    pub(crate) protocol: Protocol,
    /// Whether it is spoken through TLS.
    is_tls: bool,
    /// The address that was really bound, for the log: a port 0 is replaced by the one the system chose.
    pub(crate) name: String,
}

/// Binds every address of HTTP, or the default one where none is given: `[::]`, which takes IPv4 clients too, or
/// `0.0.0.0` where IPv6 is off; then those of HTTPS, and the address of the agent-check, if there is one.
pub(crate) fn bind_all(
    http: &[SocketAddr],
    https: &[SocketAddr],
    agent: Option<SocketAddr>,
) -> Result<Vec<Listener>, String> {
    let all: Vec<SocketAddr> = http.iter().chain(https).copied().chain(agent).collect();
    let bind_as = |address: SocketAddr, protocol, option| {
        bind_listener(address, protocol, leaves_ipv4_to_another(address, &all))
            .map_err(|error| cannot_listen(address, option, error))
    };
    let mut listeners = if http.is_empty() {
        vec![bind_default()?]
    } else {
        http.iter().map(|address| bind_as(*address, Protocol::Http, "--listen")).collect::<Result<_, _>>()?
    };
    for address in https {
        listeners.push(bind_as(*address, Protocol::Http, "--tls-listen")?.over_tls());
    }
    if let Some(address) = agent {
        listeners.push(bind_as(address, Protocol::Agent, "--agent-listen")?);
    }
    Ok(listeners)
}

fn bind_default() -> Result<Listener, String> {
    let dual_stack = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), DEFAULT_PORT);
    match bind_listener(dual_stack, Protocol::Http, false) {
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
            let ipv4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), DEFAULT_PORT);
            bind_listener(ipv4, Protocol::Http, false).map_err(|error| cannot_listen(ipv4, "--listen", error))
        }
        result => result.map_err(|error| cannot_listen(dual_stack, "--listen", error)),
    }
}

/// `[::]:P` beside `0.0.0.0:P` means one socket each, so the IPv6 one must keep to itself.
fn leaves_ipv4_to_another(address: SocketAddr, all: &[SocketAddr]) -> bool {
    let ipv4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
    address.ip() == Ipv6Addr::UNSPECIFIED && address.port() != 0 && all.contains(&ipv4)
}

fn bind_listener(address: SocketAddr, protocol: Protocol, is_ipv6_only: bool) -> Result<Listener, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    // Without it a restart would have to wait for the last clients' TIME_WAIT.
    set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // The system's default (net.ipv6.bindv6only) must not decide what [::] means.
        set_ipv6_v6only(&socket, is_ipv6_only)?;
    }
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(Listener { name: name_of(&socket)?, protocol, is_tls: false, socket })
}

/// A listening socket that somebody else has opened, of any family.
pub(crate) fn adopt(socket: OwnedFd, protocol: Protocol) -> Result<Listener, String> {
    // Another process may take the client that woke us up; then accept must not block.
    ioctl_fionbio(&socket, true).map_err(|error| format!("cannot use the listening socket: {error}"))?;
    let name = name_of(&socket).map_err(|error| format!("cannot use the listening socket: {error}"))?;
    Ok(Listener { socket, protocol, is_tls: false, name })
}

fn name_of(socket: &OwnedFd) -> Result<String, Errno> {
    let address = getsockname(socket)?;
    if let Ok(address) = SocketAddr::try_from(address.clone()) {
        return Ok(address.to_string());
    }
    let unix = SocketAddrUnix::try_from(address)?;
    Ok(unix.path().map_or_else(|| "a Unix socket".into(), |path| path.to_string_lossy().into_owned()))
}

fn cannot_listen(address: SocketAddr, option: &str, error: Errno) -> String {
    let why = match error {
        Errno::ADDRINUSE => format!(
            "address already in use (is another pgsqlchk, or xinetd, running? {option} chooses another)"
        ),
        Errno::ADDRNOTAVAIL => format!("this host does not have the address (see {option})"),
        Errno::ACCESS => {
            format!("permission denied (ports below 1024 need a privilege; {option} chooses another)")
        }
        error => io::Error::from(error).to_string(),
    };
    format!("cannot listen on {address}: {why}")
}

/// A client that was accepted, and its address; `None` where that is unknown.
pub(crate) type Accepted = (OwnedFd, Option<SocketAddrAny>);

/// What to do after accept failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// Nobody is waiting.
    Empty,
    /// This one client was lost (it gave up, or a network error was reported for it); try the next.
    Lost,
    /// No descriptor or memory; the client stays in the backlog.
    Exhausted,
    /// The socket listens no more: whoever has passed it on has shut it down.
    Closed,
}

/// What and where, as the log says it.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Http if self.speaks_tls() => write!(f, "{} (TLS)", self.name),
            Protocol::Http => f.write_str(&self.name),
            Protocol::Agent => write!(f, "{} (agent-check)", self.name),
        }
    }
}

impl Listener {
    /// The same, for those who speak TLS.
    pub(crate) fn over_tls(self) -> Listener {
        Listener { is_tls: true, ..self }
    }

    /// Whether what is spoken there is spoken through TLS.
    pub(crate) fn speaks_tls(&self) -> bool {
        cfg!(feature = "tls") && self.is_tls
    }

    /// Takes the next client. accept(2): Linux passes pending network errors of the new socket on, so all errors
    /// but exhaustion concern a single client.
    pub(crate) fn accept(&self) -> Result<Accepted, AcceptError> {
        match acceptfrom_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(accepted) => Ok(accepted),
            Err(Errno::AGAIN) => Err(AcceptError::Empty),
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Err(AcceptError::Exhausted),
            Err(Errno::INVAL | Errno::BADF | Errno::NOTSOCK) => Err(AcceptError::Closed),
            Err(_) => Err(AcceptError::Lost),
        }
    }
}
