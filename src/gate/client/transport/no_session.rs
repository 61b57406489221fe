//! No connection that speaks TLS, for a build without it: there is no such value, so that nothing here is ever called.

use std::convert::Infallible;
use std::os::fd::OwnedFd;

use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::tls::Door;

/// See the module's own words.
pub(in crate::gate::client) struct Session(Infallible);

impl Session {
    pub(super) fn begin(door: &Door, _received: &[u8]) -> Option<Session> {
        door.never()
    }

    pub(super) fn recv(&mut self, _socket: &OwnedFd, _into: &mut [u8]) -> Result<usize, Errno> {
        match self.0 {}
    }

    pub(super) fn send(&mut self, _socket: &OwnedFd, _bytes: &[u8]) -> Result<usize, Errno> {
        match self.0 {}
    }

    pub(super) fn finish(&mut self, _socket: &OwnedFd) -> Result<(), Errno> {
        match self.0 {}
    }

    pub(super) fn is_in_handshake(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn poll_flags(&self) -> PollFlags {
        match self.0 {}
    }
}
