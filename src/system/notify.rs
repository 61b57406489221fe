//! Tells the service manager how the agent is (sd_notify(3)): one datagram per message to `NOTIFY_SOCKET`.
//!
//! Nothing here blocks or fails an answer: the socket is non-blocking, and where there is no service manager, or it
//! does not take a message, the agent goes on. A state that was lost goes along with the next message.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The process has one service manager, and what has to tell it something lies far apart.
static MANAGER: OnceLock<Manager> = OnceLock::new();

struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    state: Mutex<State>,
}

/// Between two attempts to say [`ready`].
const READY_PAUSE: Duration = Duration::from_millis(100);

/// What the service manager has to know.
#[derive(Default)]
struct State {
    status: String,
    /// Whether `status` still has to be sent.
    is_new: bool,
    is_stopping: bool,
}

/// Finds the service manager, if there is one. Says whether there is, so that messages make sense. `Err` is one line
/// for the log.
pub fn start() -> Result<bool, String> {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Ok(false) };
    let fail = |error: io::Error| format!("NOTIFY_SOCKET = {}: {error}", name.to_string_lossy());
    let address = address_of(&name).map_err(fail)?;
    let socket = UnixDatagram::unbound().map_err(fail)?;
    socket.set_nonblocking(true).map_err(fail)?;
    Ok(MANAGER.set(Manager { socket, address, state: Mutex::default() }).is_ok())
}

/// A path, or an abstract name after an `@`; systemd has no others on a local machine.
fn address_of(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract socket")),
    }
}

/// The agent listens and has looked once, or has read its configuration again. Without this message the service manager would
/// wait until it gives up, so a manager that takes nothing is told so many times, ten of them a second.
pub fn ready(attempts: usize) {
    let Some(manager) = MANAGER.get() else { return };
    for _ in 0..attempts {
        if manager.send("READY=1") {
            return;
        }
        thread::sleep(READY_PAUSE);
    }
}

/// The agent reads its configuration again; [`ready`] says when it is done. systemd's `Type=notify-reload` wants the time on
/// its clock with it (sd_notify(3)).
pub fn reloading() {
    if let Some(manager) = MANAGER.get() {
        let now = clock_gettime(ClockId::Monotonic);
        let now_us = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        manager.send(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}"));
    }
}

/// What the instance is, in one line, for `systemctl status`.
pub fn status(line: &str) {
    if let Some(manager) = MANAGER.get() {
        let mut state = manager.lock();
        line.clone_into(&mut state.status);
        state.is_new = true;
        drop(state);
        manager.send("");
    }
}

/// The agent answers.
pub fn watchdog() {
    if let Some(manager) = MANAGER.get() {
        manager.send("WATCHDOG=1");
    }
}

/// The agent has been told to stop.
pub fn stopping() {
    if let Some(manager) = MANAGER.get() {
        manager.lock().is_stopping = true;
        manager.send("STOPPING=1");
    }
}

/// Whether [`stopping`] was called.
pub fn is_stopping() -> bool {
    MANAGER.get().is_some_and(|manager| manager.lock().is_stopping)
}

impl Manager {
    /// Sends `message` together with a status that was not sent yet.
    fn send(&self, message: &str) -> bool {
        let mut state = self.lock();
        let mut text = message.to_owned();
        if state.is_new {
            let separator = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{separator}STATUS={}", state.status));
        }
        // Another message has taken it along.
        if text.is_empty() {
            return true;
        }
        let is_sent = self.socket.send_to_addr(text.as_bytes(), &self.address).is_ok();
        state.is_new &= !is_sent;
        is_sent
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the service manager waits for a sign of life before it restarts the agent (`WatchdogSec=`); `None` where
/// it does not watch this process.
pub fn watchdog_period() -> Option<Duration> {
    let variable = |name| env::var(name).ok();
    period_of(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id())
}

/// sd_watchdog_enabled(3).
fn period_of(microseconds: Option<String>, pid: Option<String>, own_pid: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own_pid)) {
        return None;
    }
    let microseconds = microseconds?.parse().ok().filter(|number| *number > 0)?;
    Some(Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let word = |text: &str| Some(text.to_owned());
        let second = Some(Duration::from_secs(1));
        assert_eq!(period_of(word("1000000"), None, 7), second);
        assert_eq!(period_of(word("1000000"), word("7"), 7), second);
        for (microseconds, pid) in [("1000000", "8"), ("1000000", ""), ("0", "7"), ("1s", "7"), ("", "7")] {
            assert_eq!(period_of(word(microseconds), word(pid), 7), None, "{microseconds} {pid}");
        }
        assert_eq!(period_of(None, word("7"), 7), None);
    }

    #[test]
    fn the_socket_is_a_path_or_an_abstract_name() {
        assert!(address_of(OsStr::new("/run/systemd/notify")).unwrap().as_pathname().is_some());
        assert_eq!(address_of(OsStr::new("@a/b")).unwrap().as_abstract_name(), Some(&b"a/b"[..]));
        for name in ["", "run/notify", "vsock:2:9"] {
            assert!(address_of(OsStr::new(name)).is_err(), "{name:?}");
        }
    }
}
