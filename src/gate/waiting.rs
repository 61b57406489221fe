//! What the gate waits for, and until when.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Gate;
use super::stopping::{STOP_ANSWER_GRACE, STOP_LIMIT};

/// How long new clients wait in the backlog while all others wait for their answers and nobody leaves. Where
/// PostgreSQL answers, somebody leaves every moment; where it hangs, whoever comes learns soon that there is no room.
const FULL_PATIENCE: Duration = Duration::from_millis(250);

/// What became ready, in the order in which it is served: replies before requests, new clients last. Where those come
/// in, also at the stop, a client's number may become another one's.
#[derive(Clone, Copy)]
pub(super) enum Ready {
    Lane(usize),
    Client(usize),
    Stop,
    Listener(usize),
}

impl Gate {
    pub(super) fn wait(&self) -> Result<Vec<Ready>, Errno> {
        let mut items = Vec::with_capacity(self.places.end() + 16);
        let mut fds = Vec::with_capacity(self.places.end() + 16);
        for (number, socket) in self.dispatcher.awaited() {
            items.push(Ready::Lane(number));
            fds.push(PollFd::from_borrowed_fd(socket, PollFlags::IN));
        }
        for (index, client) in self.places.clients() {
            items.push(Ready::Client(index));
            fds.push(PollFd::from_borrowed_fd(client.socket.as_fd(), client.poll_flags()));
        }
        if self.stopping_since.is_none() {
            items.push(Ready::Stop);
            fds.push(PollFd::new(&self.stop.readable, PollFlags::IN));
        }
        if self.accept_again_at.is_none() && self.patient_until().is_none_or(|until| until <= Instant::now())
        {
            for (index, listener) in self.listeners.iter().enumerate() {
                items.push(Ready::Listener(index));
                fds.push(PollFd::new(&listener.socket, PollFlags::IN));
            }
        }
        let timeout = self.next_deadline().map(|deadline| {
            let rest = deadline.saturating_duration_since(Instant::now());
            Timespec::try_from(rest).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 })
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let ready = items.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready.map(|(item, _)| item).collect())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let clients = self.places.clients().filter_map(|(_, client)| client.deadline());
        let stop = self.stopping_since.map(|since| {
            let grace = since + STOP_ANSWER_GRACE;
            if Instant::now() < grace { grace } else { since + STOP_LIMIT }
        });
        let patience = self.patient_until().filter(|until| *until > Instant::now());
        clients.chain(self.accept_again_at).chain(patience).chain(stop).chain(self.idle_until()).min()
    }

    /// When the gate closes for lack of requests, if it is to close for that at all.
    /// Who has connected and has not asked yet will do so in a moment, or is gone after the head's deadline.
    pub(super) fn idle_until(&self) -> Option<Instant> {
        let mut clients = self.places.clients();
        let is_busy = self.stopping_since.is_some()
            || clients.any(|(_, client)| client.is_heading() || client.is_asking());
        self.rules.idle_exit.filter(|_| !is_busy).map(|limit| self.last_request + limit)
    }

    /// Until when new clients wait in the backlog, if they do.
    pub(super) fn patient_until(&self) -> Option<Instant> {
        let since = self.full_since.filter(|_| self.stopping_since.is_none() && self.is_full());
        since.map(|since| since + FULL_PATIENCE)
    }

    /// Whether there is no room for another client, whoever gives way.
    pub(super) fn is_full(&self) -> bool {
        self.places.count() >= self.terms.max_connections
            && self.places.clients().all(|(_, client)| client.dispensability().is_none())
    }
}
