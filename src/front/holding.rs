//! Bad configuration where somebody else keeps the port open: who asks there is told so, and the next try is a minute away.
//!
//! systemd starts the agent for whoever waits at its socket. One that ended at once would be started again for the same
//! client, many times a second, until systemd gave up and closed the port.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::standalone::protocol_of;
use crate::gate::client::{Client, Next};
use crate::gate::listener::{self, AcceptError, Listener};
use crate::reason::Reason;
use crate::system::inherited::{self, Inherited};
use crate::system::notify;
use crate::wire::dialect;

/// How long the port is held. The unit's `TimeoutStartSec=` is longer.
const HOLD: Duration = Duration::from_secs(60);

/// For those who came before the end and have not been answered yet.
const GRACE: Duration = Duration::from_millis(100);

/// Clients at once; later ones wait for a place, which each of them leaves within seconds.
const MAX_CLIENTS: usize = 64;

/// Answers `503 bad-configuration` for a minute on the sockets that were passed to this process. Returns at once where none
/// were, or where nobody waits there: so `systemctl restart` fails as soon as it can be known. `line` is what was wrong, for
/// `systemctl status`.
pub fn hold_port(line: &str) {
    if let Ok(sockets) = inherited::take() {
        hold(line, sockets);
    }
}

/// The same on these sockets.
pub fn hold(line: &str, sockets: Vec<Inherited>) {
    let adopt = |socket: Inherited| listener::adopt(socket.socket, protocol_of(&socket.name)).ok();
    let listeners: Vec<Listener> = sockets.into_iter().filter_map(adopt).collect();
    let mut waiting: Vec<PollFd<'_>> = listeners.iter().map(poll_for_clients).collect();
    if poll(&mut waiting, Some(&Timespec::default())).unwrap_or(0) == 0 {
        return;
    }
    if notify::start() == Ok(true) {
        notify::status(line);
    }
    refuse_until(Instant::now() + HOLD, &listeners);
}

fn poll_for_clients(listener: &Listener) -> PollFd<'_> {
    PollFd::new(&listener.socket, PollFlags::IN)
}

fn refuse_until(end: Instant, listeners: &[Listener]) {
    let mut clients: Vec<Client> = Vec::new();
    loop {
        let now = Instant::now();
        clients.retain_mut(|client| match client.deadline() {
            Some(deadline) if deadline <= now => advance(client, Client::on_deadline, now),
            Some(_) | None => true,
        });
        let is_over = now >= end;
        if is_over && (clients.is_empty() || now >= end + GRACE) {
            return;
        }
        let last = if is_over { end + GRACE } else { end };
        let until = clients.iter().filter_map(Client::deadline).chain([last]).min().unwrap_or(last);
        let room = if clients.len() < MAX_CLIENTS && !is_over { listeners } else { &[] };
        let Ok(ready) = wait(&clients, room, until.saturating_duration_since(now)) else { return };
        let now = Instant::now();
        let (ready_clients, ready_listeners) = ready.split_at(clients.len());
        let mut ready_clients = ready_clients.iter();
        clients.retain_mut(|client| {
            ready_clients.next() != Some(&true) || advance(client, Client::on_ready, now)
        });
        for (listener, _) in room.iter().zip(ready_listeners).filter(|(_, is_ready)| **is_ready) {
            match listener.accept() {
                Ok((socket, _)) => {
                    let mut client = Client::new(socket, listener.protocol, now);
                    if advance(&mut client, Client::on_ready, now) {
                        clients.push(client);
                    }
                }
                Err(AcceptError::Empty | AcceptError::Lost) => {}
                // Nothing that waiting here would mend.
                Err(AcceptError::Exhausted | AcceptError::Closed) => return,
            }
        }
    }
}

/// Which of them can go on, the clients first; all false where the time is over.
fn wait(clients: &[Client], listeners: &[Listener], limit: Duration) -> Result<Vec<bool>, Errno> {
    let of_clients = clients.iter().map(|client| PollFd::new(&client.socket, client.poll_flags()));
    let mut polled: Vec<PollFd<'_>> = of_clients.chain(listeners.iter().map(poll_for_clients)).collect();
    match poll(&mut polled, Timespec::try_from(limit).ok().as_ref()) {
        Ok(_) => Ok(polled.iter().map(|one| !one.revents().is_empty()).collect()),
        Err(Errno::INTR) => Ok(vec![false; polled.len()]),
        Err(error) => Err(error),
    }
}

/// Whether it is still there afterwards.
fn advance(client: &mut Client, step: fn(&mut Client, Instant) -> Next, now: Instant) -> bool {
    let mut next = step(client, now);
    loop {
        let bytes = match next {
            Next::Wait => return true,
            Next::Close => return false,
            Next::Ask(request) => {
                dialect::down(client.protocol(), Reason::BadConfiguration).to_bytes(request.is_head())
            }
            Next::Refuse(refusal) => refusal.to_bytes(),
        };
        next = client.reply(bytes, now);
    }
}
