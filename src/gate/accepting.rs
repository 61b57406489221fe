//! Who is let in, and who gives way where the house is full.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::net::SocketAddrAny;

use super::Gate;
use super::client::Client;
use super::listener::AcceptError;
use super::places::Origin;
use super::watchdog::Caller;
use crate::config::Allow;
use crate::tally;

/// How long accepting rests after the system ran out of descriptors or memory, instead of spinning.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Clients accepted in one turn before the others get theirs.
const ACCEPTS_PER_TURN: usize = 64;

/// What holds for clients for as long as the agent runs; the rest are its [`Terms`](super::terms::DoorTerms).
pub(crate) struct Rules {
    /// For whom neither these rules nor the terms hold.
    pub(crate) ourselves: Caller,
    /// Stop after this long without a request.
    pub(crate) idle_exit: Option<Duration>,
}

enum Welcome {
    Always,
    IfRoom,
    Never,
}

/// Whether more than one client is to be expected in a backlog.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Crowd {
    Perhaps,
    /// All who wait have to be taken in.
    Surely,
}

impl Rules {
    fn welcome(&self, peer: Option<&SocketAddrAny>, allow: &Allow) -> Welcome {
        if self.ourselves.is(peer) {
            return Welcome::Always;
        }
        // Who may use a Unix socket is said by its file's mode.
        if ip_of(peer).is_none_or(|ip| allow.permits(ip)) { Welcome::IfRoom } else { Welcome::Never }
    }
}

fn ip_of(peer: Option<&SocketAddrAny>) -> Option<IpAddr> {
    peer.and_then(|peer| SocketAddr::try_from(peer.clone()).ok()).map(|address| address.ip())
}

impl Gate {
    pub(super) fn accept(&mut self, index: usize, now: Instant, crowd: Crowd) {
        for turn in 0..ACCEPTS_PER_TURN {
            // To ask whether another one waits is a system call; `poll` says so as well. Checks mostly come one by one.
            if turn > 0 && crowd == Crowd::Perhaps && self.places.count() <= 1 {
                return;
            }
            self.full_since = self.is_full().then_some(self.full_since.unwrap_or(now));
            if self.patient_until().is_some_and(|until| now < until) {
                return;
            }
            // The signal to stop may have come in the same turn and closed them all.
            let Some(listener) = self.listeners.get(index) else { return };
            let (protocol, speaks_tls) = (listener.protocol, listener.speaks_tls());
            match listener.accept() {
                Ok((socket, peer)) => {
                    let origin = Origin::of(ip_of(peer.as_ref()));
                    let client = Client::new(socket, protocol, now);
                    match self.rules.welcome(peer.as_ref(), &self.terms.allow) {
                        // Also where others have to speak TLS: it comes from this very process.
                        Welcome::Always => self.enter(origin, client, now),
                        Welcome::IfRoom => {
                            let client = match &self.terms.tls {
                                Some(door) if speaks_tls => client.over_tls(door),
                                // Without a certificate there is no such port.
                                Some(_) | None => client,
                            };
                            self.admit(origin, client, now);
                        }
                        // Closed at once, without a byte: who is not allowed gets nothing to work with.
                        Welcome::Never => self.refused(tally::Refusal::NotAllowed),
                    }
                }
                Err(AcceptError::Lost) => {}
                Err(AcceptError::Empty) => return,
                Err(AcceptError::Closed) => {
                    let name = self.listeners.remove(index).name;
                    log::error!(target: "pgsqlchk", "{name} listens no more: it was shut down");
                    return;
                }
                Err(AcceptError::Exhausted) => {
                    log::debug!("accept rests: out of descriptors or memory");
                    // Makes room for one; the pause keeps a full system from being polled in circles.
                    self.make_room(None, now);
                    self.accept_again_at = Some(now + EXHAUSTED_PAUSE);
                    return;
                }
            }
        }
    }

    /// Takes the client in. Where the house is full somebody else gives way, or nobody, and then it is the new one
    /// that has to go.
    fn admit(&mut self, origin: Origin, client: Client, now: Instant) {
        if self.places.count() >= self.terms.max_connections && !self.make_room(Some(origin), now) {
            self.refused(tally::Refusal::Full);
            return;
        }
        self.enter(origin, client, now);
    }

    fn enter(&mut self, origin: Origin, client: Client, now: Instant) {
        let index = self.places.take(origin, client);
        self.service.tally.clients.enter();
        // The request has mostly come with the connection.
        if !self.is_in_handshake(index) {
            self.advance(index, now, Client::on_ready);
        }
    }

    fn make_room(&mut self, newcomer: Option<Origin>, now: Instant) -> bool {
        while let Some(index) = self.places.dispensable(newcomer) {
            // Who has not asked may have in the meantime, but for those who cannot before they have shaken hands.
            if self.places.get(index).is_some_and(Client::is_heading) {
                if !self.is_in_handshake(index) {
                    self.advance(index, now, Client::on_ready);
                }
                match self.places.get(index) {
                    Some(client) if client.is_heading() => self.refused(tally::Refusal::GaveWay),
                    Some(_) => continue,
                    None => return true,
                }
            }
            self.leave(index);
            return true;
        }
        false
    }

    fn refused(&self, why: tally::Refusal) {
        self.service.tally.clients.refuse(why);
    }
}
