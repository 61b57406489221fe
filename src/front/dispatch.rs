//! Which request goes over which lane, and which client each reply belongs to.
//!
//! One lane per worker carries checks; one more is kept for what needs no PostgreSQL, so that `/liveness` does
//! not stand behind checks that wait for a frozen server. Requests wait here first come, first served. All have
//! the same timeout, so the one in front always has the nearest deadline, and a worker that gives up at its own
//! deadline is free before the deadline of the next.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use super::lane::{Arrival, Lane};
use crate::reason::Reason;
use crate::reply::HttpReply;

/// The lanes and the queues before them.
pub(super) struct Dispatcher {
    /// The last lane is the one for what needs no PostgreSQL.
    slots: Vec<Slot>,
    checks: VecDeque<Errand>,
    others: VecDeque<Errand>,
}

struct Slot {
    lane: Lane,
    /// `None` while the lane is free, and when the client went away before its reply.
    client: Option<usize>,
}

/// A request on its way: the head for tiny_http, and whom the reply is for.
pub(super) struct Errand {
    pub(super) client: usize,
    pub(super) head: Vec<u8>,
    pub(super) is_head: bool,
    pub(super) waits_for_postgresql: bool,
}

/// A reply for a client.
pub(super) type Delivery = (usize, Vec<u8>);

impl Dispatcher {
    pub(super) fn new(lanes: Vec<Lane>) -> Dispatcher {
        let slots = lanes.into_iter().map(|lane| Slot { lane, client: None }).collect();
        Dispatcher { slots, checks: VecDeque::new(), others: VecDeque::new() }
    }

    /// The lanes' sockets, to be polled for reading.
    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.slots.iter().map(|slot| slot.lane.socket.as_fd())
    }

    /// Sends the errand, or queues it.
    pub(super) fn submit(&mut self, errand: Errand) {
        let queue = if errand.waits_for_postgresql { &mut self.checks } else { &mut self.others };
        queue.push_back(errand);
        self.send_queued();
    }

    /// Reads from lane `index`; gives the reply that is complete now, if any.
    pub(super) fn on_ready(&mut self, index: usize) -> Option<Delivery> {
        let slot = &mut self.slots[index];
        let bytes = match slot.lane.receive() {
            Arrival::Partial => return None,
            Arrival::Reply(bytes) => bytes,
            Arrival::Broken => HttpReply::down(Reason::AgentOutOfResources).to_bytes(false),
        };
        let client = slot.client.take();
        self.send_queued();
        client.map(|client| (client, bytes))
    }

    /// The client is gone: its request is not sent any more, its reply not delivered.
    pub(super) fn forget(&mut self, client: usize) {
        for queue in [&mut self.checks, &mut self.others] {
            queue.retain(|errand| errand.client != client);
        }
        for slot in &mut self.slots {
            slot.client = slot.client.filter(|owner| *owner != client);
        }
    }

    /// Whether tiny_http ended a lane. It never does while it is whole, and no lane can be opened anew.
    pub(super) fn is_broken(&self) -> bool {
        self.slots.iter().any(|slot| slot.lane.is_broken())
    }

    fn send_queued(&mut self) {
        let Some((other_slot, check_slots)) = self.slots.split_last_mut() else { return };
        for slot in check_slots {
            send_next(slot, &mut self.checks);
        }
        send_next(other_slot, &mut self.others);
    }
}

fn send_next(slot: &mut Slot, queue: &mut VecDeque<Errand>) {
    if !slot.lane.is_free() {
        return;
    }
    let Some(errand) = queue.pop_front() else { return };
    slot.client = Some(errand.client);
    if let Err(error) = slot.lane.send(&errand.head, errand.is_head) {
        log::error!("a lane to the HTTP server failed: {error}");
    }
}
