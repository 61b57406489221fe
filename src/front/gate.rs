//! The public side of the agent: one thread and one `poll` loop between hostile clients and tiny_http.
//!
//! tiny_http has no limits of its own: one announced body can abort the process, one failed accept ends its
//! service for ever. It therefore never meets a byte that was not checked here. The gate accepts, lets in whom
//! `--allow` names, holds at most `--max-connections` clients, reads one head each within its limits, and passes
//! a canonical head on over a private lane (see [`super::lane`]). Replies come back whole and are sent and closed
//! so that no reset can destroy them.
//!
//! Owns every client; nothing here blocks but `poll`.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SocketAddrAny;

use super::client::{Client, Next};
use super::dialect;
use super::dispatch::{Dispatcher, Errand};
use super::head::{Refusal, RequestHead};
use super::listener::{AcceptError, Listener};
use super::places::{Origin, Places};
use super::service::Service;
use super::stop_signal::StopSignal;
use super::watchdog::Caller;
use crate::config::Allow;
use crate::panics;
use crate::reason::Reason;
use crate::system::notify;
use crate::tally;

/// How long accepting rests after the system ran out of descriptors or memory, instead of spinning.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// How long new clients wait in the backlog while all others wait for their answers and nobody leaves. Where
/// PostgreSQL answers, somebody leaves every moment; where it hangs, whoever comes learns soon that there is no room.
const FULL_PATIENCE: Duration = Duration::from_millis(250);

/// Clients accepted in one turn before the others get theirs.
const ACCEPTS_PER_TURN: usize = 64;

/// After the signal to stop: for heads that are still under way.
const STOP_HEAD_GRACE: Duration = Duration::from_millis(100);

/// After the signal to stop: for answers that are still under way. The process ends within a second.
const STOP_ANSWER_GRACE: Duration = Duration::from_millis(750);

/// After the signal to stop: the last moment.
const STOP_LIMIT: Duration = Duration::from_millis(900);

/// The gate; see the module's own words.
pub(super) struct Gate {
    listeners: Vec<Listener>,
    rules: Rules,
    service: Arc<Service>,
    dispatcher: Dispatcher,
    stop_signal: StopSignal,
    places: Places,
    accept_again_at: Option<Instant>,
    /// Since when a new client finds no room, and nobody has left.
    full_since: Option<Instant>,
    stopping_since: Option<Instant>,
    last_request: Instant,
}

/// What the administrator said about clients.
pub(super) struct Rules {
    pub(super) allow: Allow,
    /// For whom these rules do not hold.
    pub(super) ourselves: Caller,
    pub(super) max_connections: usize,
    /// Stop after this long without a request.
    pub(super) idle_exit: Option<Duration>,
}

enum Welcome {
    Always,
    IfRoom,
    Never,
}

/// Whether more than one client is to be expected in a backlog.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Crowd {
    Perhaps,
    /// All who wait have to be taken in.
    Surely,
}

impl Rules {
    fn welcome(&self, peer: Option<&SocketAddrAny>) -> Welcome {
        if self.ourselves.is(peer) {
            return Welcome::Always;
        }
        // Who may use a Unix socket is said by its file's mode.
        if ip_of(peer).is_none_or(|ip| self.allow.permits(ip)) { Welcome::IfRoom } else { Welcome::Never }
    }
}

fn ip_of(peer: Option<&SocketAddrAny>) -> Option<IpAddr> {
    peer.and_then(|peer| SocketAddr::try_from(peer.clone()).ok()).map(|address| address.ip())
}

/// What became ready, in the order in which it is served: replies before requests, new clients last. Where those come
/// in, also at the stop, a client's number may become another one's.
#[derive(Clone, Copy)]
enum Ready {
    Lane(usize),
    Client(usize),
    Stop,
    Listener(usize),
}

impl Gate {
    /// A gate that lets nobody in before it runs.
    pub(super) fn new(
        listeners: Vec<Listener>,
        rules: Rules,
        service: Arc<Service>,
        dispatcher: Dispatcher,
        stop_signal: StopSignal,
    ) -> Gate {
        Gate {
            listeners,
            rules,
            service,
            dispatcher,
            stop_signal,
            places: Places::default(),
            accept_again_at: None,
            full_since: None,
            stopping_since: None,
            last_request: Instant::now(),
        }
    }

    /// Serves until the stop signal, then finishes what is in flight.
    pub(super) fn run(mut self) -> Result<(), String> {
        loop {
            let ready = self.wait().map_err(|error| format!("poll failed: {error}"))?;
            let now = Instant::now();
            for item in ready {
                match item {
                    Ready::Lane(index) => {
                        for (client, bytes) in self.dispatcher.on_ready(index) {
                            self.deliver(client, bytes, now);
                        }
                    }
                    Ready::Client(index) => self.advance(index, now, Client::on_ready),
                    Ready::Stop => self.begin_stop(self.stop_signal.name(), now),
                    Ready::Listener(index) => self.accept(index, now, Crowd::Perhaps),
                }
            }
            self.expire(now);
            if self.dispatcher.is_broken() {
                return Err("the HTTP server behind the gate ended a connection".into());
            }
            if self.is_stopped(now) {
                return Ok(());
            }
            if self.listeners.is_empty() && self.stopping_since.is_none() {
                return Err("nothing is left to listen on".into());
            }
        }
    }

    fn wait(&self) -> Result<Vec<Ready>, Errno> {
        let mut items = Vec::with_capacity(self.places.end() + 16);
        let mut fds = Vec::with_capacity(self.places.end() + 16);
        for (index, socket) in self.dispatcher.sockets().into_iter().enumerate() {
            items.push(Ready::Lane(index));
            fds.push(PollFd::from_borrowed_fd(socket, PollFlags::IN));
        }
        for (index, client) in self.places.clients() {
            items.push(Ready::Client(index));
            fds.push(PollFd::from_borrowed_fd(client.socket.as_fd(), client.poll_flags()));
        }
        if self.stopping_since.is_none() {
            items.push(Ready::Stop);
            fds.push(PollFd::new(&self.stop_signal.readable, PollFlags::IN));
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
    fn idle_until(&self) -> Option<Instant> {
        let mut clients = self.places.clients();
        let is_busy = self.stopping_since.is_some()
            || clients.any(|(_, client)| client.is_heading() || client.is_asking());
        self.rules.idle_exit.filter(|_| !is_busy).map(|limit| self.last_request + limit)
    }

    /// Until when new clients wait in the backlog, if they do.
    fn patient_until(&self) -> Option<Instant> {
        let since = self.full_since.filter(|_| self.stopping_since.is_none() && self.is_full());
        since.map(|since| since + FULL_PATIENCE)
    }

    /// Whether there is no room for another client, whoever gives way.
    fn is_full(&self) -> bool {
        self.places.count() >= self.rules.max_connections
            && self.places.clients().all(|(_, client)| client.dispensability().is_none())
    }

    fn accept(&mut self, index: usize, now: Instant, crowd: Crowd) {
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
            let protocol = listener.protocol;
            match listener.accept() {
                Ok((socket, peer)) => {
                    let origin = Origin::of(ip_of(peer.as_ref()));
                    let client = Client::new(socket, protocol, now);
                    match self.rules.welcome(peer.as_ref()) {
                        Welcome::Always => self.enter(origin, client, now),
                        Welcome::IfRoom => self.admit(origin, client, now),
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
        if self.places.count() >= self.rules.max_connections && !self.make_room(Some(origin), now) {
            self.refused(tally::Refusal::Full);
            return;
        }
        self.enter(origin, client, now);
    }

    fn enter(&mut self, origin: Origin, client: Client, now: Instant) {
        let index = self.places.take(origin, client);
        self.service.tally.clients.enter();
        // The request has mostly come with the connection.
        self.advance(index, now, Client::on_ready);
    }

    fn make_room(&mut self, newcomer: Option<Origin>, now: Instant) -> bool {
        while let Some(index) = self.places.dispensable(newcomer) {
            // Who has not asked may have in the meantime.
            if self.places.get(index).is_some_and(Client::is_heading) {
                self.advance(index, now, Client::on_ready);
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

    fn leave(&mut self, index: usize) {
        if self.places.free(index) {
            self.full_since = None;
            self.service.tally.clients.leave();
        }
    }

    /// Lets a client take its next step, and acts on what comes of it.
    fn advance(&mut self, index: usize, now: Instant, step: impl FnOnce(&mut Client, Instant) -> Next) {
        let Some(client) = self.places.get_mut(index) else { return };
        match step(client, now) {
            Next::Wait => {}
            Next::Close => self.close(index),
            Next::Ask(request) => self.ask(index, &request, now),
            Next::Refuse(refusal) => self.refuse(index, &refusal, now),
        }
    }

    /// The request has arrived, at `now`: truth and deadline count from here. What asks for nothing we know is
    /// answered here, so that tiny_http only sees heads of a known, small shape.
    fn ask(&mut self, index: usize, request: &RequestHead, now: Instant) {
        let Some(client) = self.places.get(index) else { return };
        panics::trip("gate");
        let protocol = client.protocol();
        let is_head = request.is_head();
        self.last_request = now;
        match dialect::what_is_asked(protocol, request) {
            Ok(target) => self.dispatcher.submit(Errand {
                client: index,
                head: self.service.canonical_head(protocol, request, now),
                is_head,
                needs: dialect::needs(protocol, target),
            }),
            Err(reply) => self.refuse(index, &Refusal::new(reply, is_head), now),
        }
    }

    /// What asks for nothing we know is counted here, and everything else where it is answered.
    fn refuse(&mut self, index: usize, refusal: &Refusal, now: Instant) {
        self.service.tally.requests.count(None, refusal.status());
        self.deliver(index, refusal.to_bytes(), now);
    }

    fn deliver(&mut self, index: usize, bytes: Vec<u8>, now: Instant) {
        self.advance(index, now, |client, now| client.reply(bytes, now));
    }

    fn close(&mut self, index: usize) {
        self.leave(index);
        self.dispatcher.forget(index);
    }

    fn expire(&mut self, now: Instant) {
        if self.accept_again_at.is_some_and(|at| at <= now) {
            self.accept_again_at = None;
        }
        if self.idle_until().is_some_and(|until| until <= now) {
            self.begin_stop("idle", now);
        }
        let is_answer_late = self.stopping_since.is_some_and(|since| now >= since + STOP_ANSWER_GRACE);
        for index in 0..self.places.end() {
            let Some(client) = self.places.get(index) else { continue };
            if client.deadline().is_some_and(|deadline| deadline <= now) {
                self.advance(index, now, Client::on_deadline);
            } else if is_answer_late && client.is_asking() {
                let reply = dialect::down(client.protocol(), Reason::AgentStopping);
                let bytes = reply.to_bytes(client.is_asking_head());
                self.dispatcher.forget(index);
                self.deliver(index, bytes, now);
            }
        }
    }

    /// Takes in who is waiting already, then listens no more.
    fn begin_stop(&mut self, why: &str, now: Instant) {
        log::info!(target: "pgsqlchk", "stopping ({why})");
        notify::stopping();
        self.stopping_since = Some(now);
        // From the end, as one that was shut down goes away.
        for index in (0..self.listeners.len()).rev() {
            self.accept(index, now, Crowd::Surely);
        }
        self.listeners.clear();
        self.accept_again_at = None;
        for client in self.places.clients_mut() {
            client.hurry(now + STOP_HEAD_GRACE);
        }
    }

    fn is_stopped(&self, now: Instant) -> bool {
        self.stopping_since.is_some_and(|since| now >= since + STOP_LIMIT || self.places.count() == 0)
    }
}
