//! Standard input, output and error, when an inetd-like parent has put a socket there.
//!
//! xinetd puts the client's socket on descriptors 0, 1 and 2, so anything that is printed lands in the reply,
//! ahead of its status line. The socket is therefore moved away before the first line could be written, and the
//! three descriptors point to /dev/null from then on.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, fstat};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin};

/// Moves the socket away if standard input and standard error are one and the same socket, which only an
/// inetd-like parent does. Call it before anything can print.
pub fn claim_shared_socket() -> Option<OwnedFd> {
    let (input, error) = (fstat(stdin()).ok()?, fstat(stderr()).ok()?);
    let is_shared = (input.st_dev, input.st_ino) == (error.st_dev, error.st_ino);
    let is_socket = FileType::from_raw_mode(input.st_mode) == FileType::Socket;
    if is_shared && is_socket { claim_stdin() } else { None }
}

/// Moves the socket on standard input away, and silences all three descriptors; `None` where it is no stream
/// socket, and then standard error can still be written to.
pub fn claim_stdin_socket() -> Option<OwnedFd> {
    if socket_type(stdin()) == Ok(SocketType::STREAM) { claim_stdin() } else { None }
}

fn claim_stdin() -> Option<OwnedFd> {
    // Three are taken by the standard ones.
    let socket = fcntl_dupfd_cloexec(stdin(), 3).ok()?;
    silence().ok()?;
    Some(socket)
}

fn silence() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(null.as_fd())?;
    dup2_stdout(null.as_fd())?;
    dup2_stderr(null.as_fd())?;
    Ok(())
}
