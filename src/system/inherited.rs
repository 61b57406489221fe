//! The listening sockets that systemd, or another parent with its protocol, has opened and passed on
//! (sd_listen_fds(3)): `LISTEN_FDS` of them from descriptor 3 on, for the process `LISTEN_PID`, with the names in
//! `LISTEN_FDNAMES`.
//!
//! The only module with unsafe code: a number from the environment becomes a descriptor that is owned. rustix could
//! do that with pidfd_getfd(2), but Linux before 5.6, many containers and `SystemCallFilter=@system-service` refuse
//! that call.

#![expect(unsafe_code, reason = "a descriptor can only be inherited by its number")]

use std::env;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{FileType, fstat};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType, getpeername};

/// SD_LISTEN_FDS_START of sd_listen_fds(3).
const FIRST: RawFd = 3;

/// Far more than anybody lists in a socket unit; they have to fit the descriptors that are reserved beside the
/// clients' ones.
const MAX_SOCKETS: usize = 32;

/// systemd's name for the socket unit, unless the descriptor's name says which unit it is.
const USUAL_UNIT: &str = "pgsqlchk.socket";

/// A listening stream socket that was passed to this process.
#[derive(Debug)]
pub struct Inherited {
    /// The socket itself.
    pub socket: OwnedFd,
    /// What it was called (`FileDescriptorName=`, or the socket unit's name); empty where no names were passed.
    pub name: String,
}

/// The stream sockets that were passed to this process, in their order; none where nothing was passed. `Err` is one
/// line that says which setting of the socket unit has to be changed.
pub fn take() -> Result<Vec<Inherited>, String> {
    let variable = |name| env::var(name).ok();
    let Some(count) = passed(variable("LISTEN_PID"), variable("LISTEN_FDS"), std::process::id())? else {
        return Ok(Vec::new());
    };
    let names = names(variable("LISTEN_FDNAMES"), count)?;
    let take_one = |(number, name): (RawFd, String)| {
        let fail = |what: String| format!("inherited descriptor {number} is {what}");
        let socket = claim(number).ok_or_else(|| fail("not open, although LISTEN_FDS counts it".into()))?;
        match wrong_kind(&socket, &name) {
            None => Ok(Inherited { socket, name }),
            Some(what) => Err(fail(what)),
        }
    };
    (FIRST..).zip(names).map(take_one).collect()
}

/// How many descriptors were passed, if any were passed to this process and not to its parent or another child.
fn passed(pid: Option<String>, count: Option<String>, own_pid: u32) -> Result<Option<usize>, String> {
    let (Some(pid), Some(count)) = (pid, count) else { return Ok(None) };
    if pid.parse() != Ok(own_pid) {
        return Ok(None);
    }
    match count.parse() {
        Ok(0) => Ok(None),
        Ok(number) if number <= MAX_SOCKETS => Ok(Some(number)),
        Ok(number) => Err(format!(
            "LISTEN_FDS = {number}: at most {MAX_SOCKETS} sockets: remove some from {USUAL_UNIT}"
        )),
        Err(_) => Err(format!("LISTEN_FDS = {count:?} is not a number (sd_listen_fds(3))")),
    }
}

/// One name each; empty where no names were passed.
fn names(text: Option<String>, count: usize) -> Result<Vec<String>, String> {
    let Some(text) = text else { return Ok(vec![String::new(); count]) };
    let names: Vec<String> = text.split(':').map(str::to_owned).collect();
    if names.len() == count {
        return Ok(names);
    }
    Err(format!("LISTEN_FDNAMES has {} names for {count} descriptors (sd_listen_fds(3))", names.len()))
}

/// Takes a descriptor over, if it is open and inherited, and keeps it from being inherited further.
fn claim(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: the number is 3 or more, so never -1. The borrow lasts for two calls of fcntl(2), which report a
    // descriptor that is not open and change nothing but its own flag.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = fcntl_getfd(borrowed).ok()?;
    // Everything this process opens is close-on-exec, as std and rustix have it, and what is inherited cannot be:
    // so a descriptor with the flag belongs to somebody here, or was taken over before.
    if flags.contains(FdFlags::CLOEXEC) {
        return None;
    }
    fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC).ok()?;
    // SAFETY: the descriptor is open, and it was inherited for this purpose and not taken over yet (see above), so
    // nobody else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Why this is nothing to serve clients on, and what to change.
fn wrong_kind(socket: &OwnedFd, name: &str) -> Option<String> {
    let unit = if name.ends_with(".socket") { name } else { USUAL_UNIT };
    let instead = |what: &str, setting: &str| {
        Some(format!("{what}: use ListenStream= instead of {setting}= in {unit}"))
    };
    let Ok(status) = fstat(socket) else { return Some("unusable: it has no status".into()) };
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Socket => {}
        FileType::Fifo => return instead("a FIFO", "ListenFIFO"),
        FileType::CharacterDevice => return instead("a device", "ListenSpecial"),
        FileType::RegularFile
        | FileType::Directory
        | FileType::Symlink
        | FileType::BlockDevice
        | FileType::Unknown => return Some(format!("no socket: only ListenStream= is of use in {unit}")),
    }
    let family = socket_domain(socket);
    if family == Ok(AddressFamily::NETLINK) {
        return instead("a netlink socket", "ListenNetlink");
    }
    if !matches!(family, Ok(AddressFamily::INET | AddressFamily::INET6 | AddressFamily::UNIX)) {
        return Some(format!(
            "a socket of another family: give ListenStream= a port, an IP address or a path in {unit}"
        ));
    }
    match socket_type(socket) {
        Ok(SocketType::STREAM) => {}
        Ok(SocketType::DGRAM) => return instead("a datagram socket", "ListenDatagram"),
        Ok(SocketType::SEQPACKET) => return instead("a packet socket", "ListenSequentialPacket"),
        Ok(_) | Err(_) => return Some(format!("no stream socket: only ListenStream= is of use in {unit}")),
    }
    if socket_acceptconn(socket) != Ok(true) {
        return Some(match getpeername(socket) {
            Ok(_) => format!("a connected socket: set Accept=no in {unit}"),
            Err(_) => format!("a socket that does not listen: let ListenStream= in {unit} open it"),
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn only_what_was_passed_to_this_very_process_counts() {
        let word = |text: &str| Some(text.to_owned());
        assert_eq!(passed(None, None, 7), Ok(None));
        assert_eq!(passed(None, word("1"), 7), Ok(None));
        assert_eq!(passed(word("7"), None, 7), Ok(None));
        assert_eq!(passed(word("8"), word("1"), 7), Ok(None));
        assert_eq!(passed(word("8"), word("nonsense"), 7), Ok(None));
        assert_eq!(passed(word("7"), word("0"), 7), Ok(None));
        assert_eq!(passed(word("7"), word("2"), 7), Ok(Some(2)));
        for count in ["33", "-1", "", "2 "] {
            assert!(passed(word("7"), word(count), 7).is_err(), "{count:?}");
        }
    }

    #[test]
    fn each_descriptor_has_one_name_or_none_has() {
        assert_eq!(names(None, 2).unwrap(), ["", ""]);
        assert_eq!(names(Some("http:agent".into()), 2).unwrap(), ["http", "agent"]);
        assert!(names(Some("http".into()), 2).is_err());
    }

    #[test]
    fn what_this_process_has_opened_itself_is_not_taken() {
        use std::os::fd::AsRawFd;
        let own = File::open("/dev/null").unwrap();
        assert!(claim(own.as_raw_fd()).is_none());
    }
}
