//! The public side of the agent: one thread and one `poll` loop between hostile clients and tiny_http.
//!
//! tiny_http has no limits of its own: one announced body can abort the process, one failed accept ends its
//! service for ever. It therefore never meets a byte that was not checked here. The gate accepts, lets in whom
//! `--allow` names, holds at most `--max-connections` clients, reads one head each within its limits, and passes
//! a canonical head on over a private lane (see [`lane`]). Replies come back whole and are sent and closed
//! so that no reset can destroy them.
//!
//! Owns every client; nothing here blocks but `poll`.

mod accepting;
pub(crate) mod client;
pub(crate) mod dispatch;
mod handshakes;
pub(crate) mod lane;
pub(crate) mod listener;
mod order;
mod places;
pub(crate) mod pool;
pub(crate) mod roster;
pub(crate) mod service;
mod stopping;
pub(crate) mod terms;
mod waiting;
pub(crate) mod watchdog;
mod way;
pub(crate) mod witnesses;

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use crate::panics;
use crate::wire::dialect;
use crate::wire::head::{Refusal, RequestHead};
use accepting::Crowd;
pub(crate) use accepting::Rules;
use client::{Client, Next};
use dispatch::{Dispatcher, Errand};
use listener::Listener;
use places::Places;
use service::Service;
use terms::DoorTerms;
use waiting::Ready;
use way::Way;

/// The request to stop.
pub(crate) struct Stop {
    /// Becomes readable when the agent has to stop.
    pub(crate) readable: UnixStream,
    /// Who wants it, for the log.
    pub(crate) name: Box<dyn Fn() -> &'static str>,
}

/// The gate; see the module's own words.
pub(crate) struct Gate {
    listeners: Vec<Listener>,
    rules: Rules,
    service: Arc<Service>,
    /// What holds in this turn.
    terms: Arc<DoorTerms>,
    dispatcher: Dispatcher,
    stop: Stop,
    places: Places,
    /// Whose handshake comes first.
    next_handshake: usize,
    accept_again_at: Option<Instant>,
    /// Since when a new client finds no room, and nobody has left.
    full_since: Option<Instant>,
    stopping_since: Option<Instant>,
    last_request: Instant,
}

impl Gate {
    /// A gate that lets nobody in before it runs.
    pub(crate) fn new(
        listeners: Vec<Listener>,
        rules: Rules,
        service: Arc<Service>,
        dispatcher: Dispatcher,
        stop: Stop,
    ) -> Gate {
        Gate {
            listeners,
            rules,
            terms: Arc::clone(&service.terms().door),
            service,
            dispatcher,
            stop,
            places: Places::default(),
            next_handshake: 0,
            accept_again_at: None,
            full_since: None,
            stopping_since: None,
            last_request: Instant::now(),
        }
    }

    /// Serves until the stop signal, then finishes what is in flight.
    pub(crate) fn run(mut self) -> Result<(), String> {
        loop {
            let ready = self.wait().map_err(|error| format!("poll failed: {error}"))?;
            let now = Instant::now();
            self.terms = Arc::clone(&self.service.terms().door);
            let mut handshakes = Vec::new();
            for item in ready {
                match item {
                    Ready::Lane(index) => {
                        for (client, bytes) in self.dispatcher.on_ready(index) {
                            self.deliver(client, bytes, now);
                        }
                    }
                    Ready::Client(index) if self.is_in_handshake(index) => handshakes.push(index),
                    Ready::Client(index) => self.advance(index, now, Client::on_ready),
                    Ready::Stop => self.begin_stop((self.stop.name)(), now),
                    Ready::Listener(index) => self.accept(index, now, Crowd::Perhaps),
                }
            }
            self.shake_hands(handshakes, now);
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

    /// Lets a client take its next step, and acts on what comes of it.
    fn advance(&mut self, index: usize, now: Instant, step: impl FnOnce(&mut Client, Instant) -> Next) {
        let Some(client) = self.places.get_mut(index) else { return };
        match step(client, now) {
            Next::Wait => {}
            Next::Close => self.close(index),
            Next::Ask(request) => self.ask(index, &request),
            Next::Refuse(refusal) => self.refuse(index, &refusal, now),
        }
    }

    /// The request has arrived: truth and deadline count from here, and not from the beginning of the turn, for handshakes of
    /// others may have come before it. What asks for nothing we know is
    /// answered here, so that tiny_http only sees heads of a known, small shape.
    fn ask(&mut self, index: usize, request: &RequestHead) {
        let Some(client) = self.places.get(index) else { return };
        let now = Instant::now();
        panics::trip("gate");
        let protocol = client.protocol();
        let is_head = request.is_head();
        self.last_request = now;
        if let Some(word) = request.server_state.as_deref() {
            self.service.balancers.hear(client.ip(), *word, now);
        }
        match dialect::what_is_asked(protocol, request, &self.terms.standing) {
            Ok(target) => self.dispatcher.submit(Errand {
                client: index,
                head: self.service.canonical_head(protocol, request, now),
                is_head,
                way: Way::of(protocol, target),
            }),
            Err(reply) => self.refuse(index, &Refusal::new(reply, is_head), now),
        }
    }

    /// What asks for nothing we know is counted here, and everything else where it is answered.
    fn refuse(&mut self, index: usize, refusal: &Refusal, now: Instant) {
        self.service.tally.requests.count(None, refusal.status());
        self.deliver(index, refusal.to_bytes(), now);
    }

    fn leave(&mut self, index: usize) {
        if self.places.free(index) {
            self.full_since = None;
            self.service.tally.clients.leave();
        }
    }

    fn deliver(&mut self, index: usize, bytes: Vec<u8>, now: Instant) {
        self.advance(index, now, |client, now| client.reply(bytes, now));
    }

    fn close(&mut self, index: usize) {
        self.leave(index);
        self.dispatcher.forget(index);
    }
}
