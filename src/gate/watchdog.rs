//! The agent's own check of itself, behind `READY=1` and `WATCHDOG=1`.
//!
//! A thread that is alive proves nothing about the others. So the service manager hears of the agent only while a
//! real question for `/liveness` comes back over one of the public listeners: through the gate, tiny_http and a worker.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, bind,
    connect, getsockname, recv, send, socket_with,
};

use super::listener::Listener;
use crate::config::Protocol;
use crate::instance::Needs;
use crate::monitor::{Monitor, RUNNER_STACK_BYTES};
use crate::panics;
use crate::system::{notify, threads};

/// The look itself needs little more than a buffer.
const STACK_BYTES: usize = 128 * 1024;

/// How often `READY=1` is tried, ten times a second: systemd itself gives up after 90 s, unless it was told otherwise (`DefaultTimeoutStartSec=`).
const READY_ATTEMPTS: usize = 900;

/// However short the service manager's period is, looking must not become the agent's main occupation.
const MIN_INTERVAL: Duration = Duration::from_millis(20);

/// A way in: where to connect to, and what is spoken there.
struct Door {
    address: SocketAddrAny,
    protocol: Protocol,
}

impl Door {
    fn question(&self) -> &'static [u8] {
        match self.protocol {
            Protocol::Http => b"GET /liveness HTTP/1.1\r\nConnection: close\r\n\r\n",
            Protocol::Agent => b"/liveness\n",
        }
    }

    /// What a good answer begins with.
    fn answer(&self) -> &'static [u8] {
        match self.protocol {
            Protocol::Http => b"HTTP/1.1 200 ",
            Protocol::Agent => b"up ",
        }
    }
}

/// The address from which the agent is asking itself at the moment. `--allow` and `--max-connections` don't hold for
/// it: neither strangers nor a crowd may have the agent restarted. Nobody else can have the address meanwhile.
#[derive(Clone, Default)]
pub(crate) struct Caller {
    address: Arc<Mutex<Option<SocketAddrAny>>>,
}

impl Caller {
    pub(crate) fn is(&self, peer: Option<&SocketAddrAny>) -> bool {
        peer.is_some_and(|peer| self.lock().as_ref().is_some_and(|own| own == peer || same_ipv4(own, peer)))
    }

    fn set(&self, address: Option<SocketAddrAny>) {
        *self.lock() = address;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<SocketAddrAny>> {
        self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// On a dual-stack listener an IPv4 client has an IPv4-mapped address.
fn same_ipv4(own: &SocketAddrAny, peer: &SocketAddrAny) -> bool {
    let canonical = |address: &SocketAddrAny| {
        let address = SocketAddr::try_from(address.clone()).ok()?;
        Some((address.ip().to_canonical(), address.port()))
    };
    canonical(own).is_some_and(|own| canonical(peer) == Some(own))
}

/// Keeps the service manager informed, if there is one, from threads of its own.
pub(crate) fn start(
    listeners: &[Listener],
    caller: Caller,
    monitor: Monitor,
    timeout: Duration,
) -> io::Result<()> {
    match notify::start() {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        Err(what) => {
            log::warn!(target: "pgsqlchk", "cannot notify the service manager: {what}");
            return Ok(());
        }
    }
    let doors = doors_of(listeners);
    let keep = move || {
        notify::ready(READY_ATTEMPTS);
        if let Some(period) = notify::watchdog_period() {
            keep_watch((period / 2).max(MIN_INTERVAL), &doors, &caller);
        }
    };
    let first_verdict = Box::new(|_| {
        // Any verdict will do, also that PostgreSQL is down: the agent is able to say so.
        let spawned = threads::spawn("watchdog", STACK_BYTES, keep);
        if let Err(error) = spawned {
            log::error!(target: "pgsqlchk", "cannot start a thread for the watchdog: {error}");
        }
    });
    // A look can hang in a frozen server for ever, so it gets a thread to hang in; the verdict does not wait for it.
    let look = move || {
        panics::trip("first look");
        monitor.park(Needs::default(), Instant::now() + timeout, first_verdict);
        monitor.run();
    };
    threads::spawn("first look", RUNNER_STACK_BYTES, look).map(drop)
}

/// Twice in every period of the service manager's; sooner where the last look failed.
fn keep_watch(interval: Duration, doors: &[Door], caller: &Caller) {
    let mut is_well = true;
    while !notify::is_stopping() {
        panics::trip("watchdog");
        let begun = Instant::now();
        let is_answered = is_answered(doors, caller, begun, interval * 3 / 4);
        let pause = if is_answered {
            notify::watchdog();
            interval
        } else {
            if is_well && !notify::is_stopping() {
                log::warn!(target: "pgsqlchk", "the agent does not answer itself: no WATCHDOG=1 is sent");
            }
            interval / 4
        };
        is_well = is_answered;
        thread::sleep((begun + pause).saturating_duration_since(Instant::now()));
    }
}

/// Whether one of the ways in leads to an answer within the limit. Behind one where packets vanish there has to be time
/// for the others.
fn is_answered(doors: &[Door], caller: &Caller, begun: Instant, limit: Duration) -> bool {
    let count = u32::try_from(doors.len()).unwrap_or(u32::MAX);
    (1..).zip(doors).any(|(number, door)| ask(door, caller, begun + limit / count * number).is_ok())
}

/// The ways in of each listener.
fn doors_of(listeners: &[Listener]) -> Vec<Door> {
    let doors = |listener: &Listener| {
        let protocol = listener.protocol;
        let address = getsockname(&listener.socket).ok();
        let addresses = address.map(|address| loopbacks(&address).unwrap_or_else(|| vec![address]));
        addresses.into_iter().flatten().map(move |address| Door { address, protocol })
    };
    listeners.iter().flat_map(doors).collect()
}

/// Instead of a wildcard address; `[::]` can also be reached over IPv4, where the system has no `[::1]`.
fn loopbacks(address: &SocketAddrAny) -> Option<Vec<SocketAddrAny>> {
    let address =
        SocketAddr::try_from(address.clone()).ok().filter(|address| address.ip().is_unspecified())?;
    let ipv4 = IpAddr::from(Ipv4Addr::LOCALHOST);
    let ips = if address.is_ipv4() { vec![ipv4] } else { vec![Ipv6Addr::LOCALHOST.into(), ipv4] };
    Some(ips.into_iter().map(|ip| SocketAddr::new(ip, address.port()).into()).collect())
}

/// One question for `/liveness`, answered before the deadline.
fn ask(door: &Door, caller: &Caller, deadline: Instant) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(door.address.address_family(), SocketType::STREAM, flags, None)?;
    bind_beside(&socket, &door.address)?;
    caller.set(Some(getsockname(&socket)?));
    let result = exchange(&socket, door, deadline);
    caller.set(None);
    result
}

/// Binds the address before the connection is there: the gate must know the caller when it sees it.
fn bind_beside(socket: &OwnedFd, door: &SocketAddrAny) -> Result<(), Errno> {
    if door.address_family() == AddressFamily::UNIX {
        // The kernel chooses an abstract name (unix(7), "Autobind feature").
        return bind(socket, &SocketAddrUnix::new_unnamed());
    }
    let mut address = SocketAddr::try_from(door.clone())?;
    address.set_port(0);
    bind(socket, &address)
}

fn exchange(socket: &OwnedFd, door: &Door, deadline: Instant) -> Result<(), Errno> {
    match connect(socket, &door.address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => {
            wait(socket, PollFlags::OUT, deadline)?;
            socket_error(socket)??;
        }
        Err(error) => return Err(error),
    }
    // So few bytes fit every socket's buffer at once.
    if send(socket, door.question(), SendFlags::NOSIGNAL)? != door.question().len() {
        return Err(Errno::AGAIN);
    }
    let mut received = Vec::new();
    let mut chunk = [0; 512];
    // To the end of the reply and of the connection; each turn reads something or waits for it.
    loop {
        match recv(socket, &mut chunk[..], RecvFlags::empty()) {
            Ok((0, _)) if received.starts_with(door.answer()) => return Ok(()),
            Ok((0, _)) => return Err(Errno::CONNRESET),
            Ok((count, _)) if received.len() < chunk.len() => received.extend_from_slice(&chunk[..count]),
            Ok(_) => return Err(Errno::MSGSIZE),
            Err(Errno::AGAIN | Errno::INTR) => wait(socket, PollFlags::IN, deadline)?,
            Err(error) => return Err(error),
        }
    }
}

fn wait(socket: &OwnedFd, flags: PollFlags, deadline: Instant) -> Result<(), Errno> {
    let rest = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(rest).map_err(|_| Errno::INVAL)?;
    match poll(&mut [PollFd::new(socket, flags)], Some(&timeout)) {
        Ok(0) => Err(Errno::TIMEDOUT),
        Ok(_) => Ok(()),
        Err(Errno::INTR) if !rest.is_zero() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn address(text: &str) -> SocketAddrAny {
        text.parse::<SocketAddr>().unwrap().into()
    }

    #[test]
    fn only_the_very_address_is_let_in() {
        let caller = Caller::default();
        assert!(!caller.is(Some(&address("127.0.0.1:5"))));
        caller.set(Some(address("127.0.0.1:5")));
        for (peer, is_caller) in [
            ("127.0.0.1:5", true),
            ("[::ffff:127.0.0.1]:5", true),
            ("127.0.0.1:6", false),
            ("127.0.0.2:5", false),
            ("[::1]:5", false),
        ] {
            assert_eq!(caller.is(Some(&address(peer))), is_caller, "{peer}");
        }
        assert!(!caller.is(None));
        caller.set(None);
        assert!(!caller.is(Some(&address("127.0.0.1:5"))));
    }

    /// Once the first way in ate all of the time, and the service manager killed an agent that was well.
    #[test]
    fn a_way_in_that_leads_nowhere_leaves_time_for_the_next() {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let door = |listener: &TcpListener| Door {
            address: listener.local_addr().unwrap().into(),
            protocol: Protocol::Http,
        };
        // Connected by the system, and never accepted.
        let (silent, good) = (listen(), listen());
        let doors = [door(&silent), door(&good)];
        let answering = thread::spawn(move || {
            let (mut stream, _) = good.accept().unwrap();
            assert!(stream.read(&mut [0; 512]).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 Alive\r\n\r\n").unwrap();
        });
        let limit = Duration::from_secs(6);
        assert!(is_answered(&doors, &Caller::default(), Instant::now(), limit));
        answering.join().unwrap();
        assert!(!is_answered(&doors[..1], &Caller::default(), Instant::now(), limit / 30));
        assert!(!is_answered(&[], &Caller::default(), Instant::now(), limit));
    }

    #[test]
    fn a_wildcard_is_reached_over_loopback() {
        assert_eq!(loopbacks(&address("0.0.0.0:80")), Some(vec![address("127.0.0.1:80")]));
        assert_eq!(loopbacks(&address("[::]:80")), Some(vec![address("[::1]:80"), address("127.0.0.1:80")]));
        assert_eq!(loopbacks(&address("192.0.2.1:80")), None);
    }
}
