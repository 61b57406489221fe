//! Handshakes of TLS take the processor's time, milliseconds each where the key is RSA's, and whoever sends a hello orders
//! one. They are what everybody else goes before.

use std::time::{Duration, Instant};

use super::Gate;
use super::client::Client;

/// In one turn; at least one is taken a step further. Then those who wait for a reply, or to be taken in, have theirs.
const HANDSHAKE_TIME: Duration = Duration::from_millis(20);

impl Gate {
    pub(super) fn is_in_handshake(&self, index: usize) -> bool {
        self.places.get(index).is_some_and(Client::is_in_handshake)
    }

    /// Takes those who can go on a step further, in the order of their places, as far as there is time. The rest of them are
    /// still ready in the next turn, which begins with the first of those.
    pub(super) fn shake_hands(&mut self, mut ready: Vec<usize>, now: Instant) {
        let begun = Instant::now();
        let first = ready.partition_point(|index| *index < self.next_handshake);
        ready.rotate_left(first);
        for index in ready {
            if begun.elapsed() > HANDSHAKE_TIME {
                self.next_handshake = index;
                return;
            }
            self.advance(index, now, Client::on_ready);
        }
    }
}
