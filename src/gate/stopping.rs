//! Deadlines that pass, and the end: what is in flight is finished, within a second.

use std::time::{Duration, Instant};

use super::Gate;
use super::accepting::Crowd;
use super::client::Client;
use crate::reason::Reason;
use crate::system::notify;
use crate::wire::dialect;

/// After the signal to stop: for heads that are still under way.
const STOP_HEAD_GRACE: Duration = Duration::from_millis(100);

/// After the signal to stop: for answers that are still under way. The process ends within a second.
pub(super) const STOP_ANSWER_GRACE: Duration = Duration::from_millis(750);

/// After the signal to stop: the last moment.
pub(super) const STOP_LIMIT: Duration = Duration::from_millis(900);

impl Gate {
    pub(super) fn expire(&mut self, now: Instant) {
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
    pub(super) fn begin_stop(&mut self, why: &str, now: Instant) {
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

    pub(super) fn is_stopped(&self, now: Instant) -> bool {
        self.stopping_since.is_some_and(|since| now >= since + STOP_LIMIT || self.places.count() == 0)
    }
}
