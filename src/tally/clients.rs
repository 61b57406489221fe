//! Who is connected, and who was sent away without an answer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a connection got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `--allow` does not name the client.
    NotAllowed,
    /// `--max-connections` clients were connected, and none of them had to give way.
    Full,
    /// It had not asked yet when a new client needed its place.
    GaveWay,
}

impl Refusal {
    /// Every reason there is.
    pub const ALL: [Refusal; 3] = [Refusal::NotAllowed, Refusal::Full, Refusal::GaveWay];

    /// The word that stands in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Refusal::NotAllowed => "not-allowed",
            Refusal::Full => "full",
            Refusal::GaveWay => "gave-way",
        }
    }
}

/// Connections.
#[derive(Default)]
pub struct Clients {
    connected: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

impl Clients {
    /// A client was let in.
    pub fn enter(&self) {
        self.connected.fetch_add(1, Relaxed);
    }

    /// A client that was let in is gone.
    pub fn leave(&self) {
        self.connected.fetch_sub(1, Relaxed);
    }

    /// A client was sent away without an answer.
    pub fn refuse(&self, why: Refusal) {
        self.refused[why as usize].fetch_add(1, Relaxed);
    }

    /// Clients connected now.
    pub(super) fn connected(&self) -> u64 {
        self.connected.load(Relaxed)
    }

    pub(super) fn refused(&self) -> [(Refusal, u64); Refusal::ALL.len()] {
        Refusal::ALL.map(|why| (why, self.refused[why as usize].load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_own_counter() {
        let clients = Clients::default();
        for (count, why) in Refusal::ALL.into_iter().enumerate() {
            (0..=count).for_each(|_| clients.refuse(why));
        }
        assert_eq!(clients.refused().map(|(_, count)| count), [1, 2, 3]);
    }
}
