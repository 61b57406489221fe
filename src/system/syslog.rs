//! The local syslog: one datagram per line to /dev/log (RFC 3164, section 4.1).
//!
//! The timestamp is left to the receiver, as RFC 3164, section 4.3.2 provides: rsyslog, syslog-ng, busybox and
//! journald all stamp local messages with the time of their arrival.

use std::io;
use std::os::unix::net::UnixDatagram;

use log::Level;

const PATH: &str = "/dev/log";
const FACILITY_DAEMON: u8 = 3;

/// A way to the local syslog.
pub struct Syslog {
    socket: UnixDatagram,
}

impl Syslog {
    /// Fails where no syslog listens.
    pub fn open() -> io::Result<Syslog> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(PATH)?;
        // A syslog that is stuck must not hold up anything.
        socket.set_nonblocking(true)?;
        Ok(Syslog { socket })
    }

    /// Sends one line; after a restart of the syslog, over a new connection.
    pub fn send(&mut self, level: Level, line: &str) -> io::Result<()> {
        let datagram = message(level, std::process::id(), line);
        if self.socket.send(&datagram).is_err() {
            *self = Syslog::open()?;
            self.socket.send(&datagram)?;
        }
        Ok(())
    }
}

fn message(level: Level, pid: u32, line: &str) -> Vec<u8> {
    let severity = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    format!("<{}>pgsqlchk[{pid}]: {line}", FACILITY_DAEMON * 8 + severity).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_priority_tag_and_pid() {
        assert_eq!(message(Level::Warn, 7, "slow"), b"<28>pgsqlchk[7]: slow");
        assert_eq!(message(Level::Info, 7, "up"), b"<30>pgsqlchk[7]: up");
    }
}
