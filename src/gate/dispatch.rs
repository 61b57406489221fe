//! Which request goes over which lane, and which client each reply belongs to.
//!
//! Each [`Way`] has a lane of its own, so that nobody stands behind what he need not wait for. On a lane, and in the queue
//! before it, requests keep their order. All have the same timeout, so the one in front always has the nearest
//! deadline, and none is held up beyond its own by one that came before. (But for another agent that says how long it
//! waits for `/node`: it may stand behind who asks for the instance with more patience.)

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::lane::Lane;
use super::roster::Roster;
use super::way::{WAYS, Way};

/// How many lanes [`Dispatcher::new`] wants.
pub(crate) const LANES: usize = WAYS;

/// Requests under way on a lane at once. Their heads, a query included under 500 bytes each, fit the lane's socket buffer
/// many times.
/// Their replies need not: whoever writes one waits until the gate, which never waits for anybody, has read it.
const MAX_UNDER_WAY: usize = 64;

/// The lanes and the queues before them.
pub(crate) struct Dispatcher {
    tracks: [Track; LANES],
    roster: Arc<Roster>,
}

/// One lane with its queue.
struct Track {
    lane: Lane,
    /// Whom the replies under way are for, in their order; `None` for a client that went away.
    clients: VecDeque<Option<usize>>,
    queue: VecDeque<Errand>,
}

/// A request on its way: the head for tiny_http, and whom the reply is for.
pub(crate) struct Errand {
    pub(crate) client: usize,
    pub(crate) head: Vec<u8>,
    pub(crate) is_head: bool,
    pub(crate) way: Way,
}

/// A reply for a client.
pub(crate) type Delivery = (usize, Vec<u8>);

impl Dispatcher {
    /// Over these lanes, to the workers of the roster.
    pub(crate) fn new(lanes: [Lane; LANES], roster: Arc<Roster>) -> Dispatcher {
        let track = |lane| Track { lane, clients: VecDeque::new(), queue: VecDeque::new() };
        Dispatcher { tracks: lanes.map(track), roster }
    }

    /// The lanes that owe a reply, each by its number and its socket, which is to be polled for reading. (Whether one that
    /// owes nothing is whole shows when something is sent over it.)
    pub(crate) fn awaited(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        let tracks = self.tracks.iter().enumerate().filter(|(_, track)| track.lane.under_way() > 0);
        tracks.map(|(number, track)| (number, track.lane.socket.as_fd()))
    }

    /// Sends the errand, or queues it.
    pub(crate) fn submit(&mut self, errand: Errand) {
        let track = &mut self.tracks[errand.way as usize];
        track.queue.push_back(errand);
        track.send_queued(&self.roster);
    }

    /// Reads from the lane of this number (see [`Dispatcher::awaited`]); gives what is to be delivered.
    pub(crate) fn on_ready(&mut self, number: usize) -> Vec<Delivery> {
        self.tracks[number].receive(&self.roster)
    }

    /// The client is gone: its request is not sent any more, its reply not delivered.
    pub(crate) fn forget(&mut self, client: usize) {
        for track in &mut self.tracks {
            track.queue.retain(|errand| errand.client != client);
            for owner in &mut track.clients {
                *owner = owner.filter(|owner| *owner != client);
            }
        }
    }

    /// Whether tiny_http ended a lane. No lane can be opened anew.
    pub(crate) fn is_broken(&self) -> bool {
        self.tracks.iter().any(|track| track.lane.is_broken())
    }
}

impl Track {
    fn send_queued(&mut self, roster: &Roster) {
        while self.lane.under_way() < MAX_UNDER_WAY {
            let Some(errand) = self.queue.pop_front() else { return };
            self.clients.push_back(Some(errand.client));
            roster.announce();
            self.lane.send(&errand.head, errand.is_head);
        }
    }

    fn receive(&mut self, roster: &Roster) -> Vec<Delivery> {
        let replies = self.lane.receive();
        let owners = self.clients.drain(..replies.len());
        let deliveries = owners.zip(replies).filter_map(|(owner, bytes)| Some((owner?, bytes))).collect();
        self.send_queued(roster);
        deliveries
    }
}
