//! What HAProxy says of this server with its checks (`http-check send-state`): who sees it how, and how many sessions each
//! still has here.
//!
//! Owns what was said last, by whom and when: a few entries of a fixed size, so that whoever may ask cannot make it grow.
//! The gate tells it, documents read it. Nobody's answer to a check depends on it.

mod word;

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use word::{Health, MAX_NAME_BYTES, Name, State, Word};

/// So many are remembered: a pool or two of a few HAProxys. Who comes on top takes the place of whoever was silent longest.
pub const MAX_BALANCERS: usize = 32;

/// What is older is not known any more: a HAProxy that checks at all checks more often.
pub const GOOD_FOR: Duration = Duration::from_secs(60);

/// What each HAProxy said last of each of its servers that is this one.
#[derive(Default)]
pub struct Balancers {
    heard: Mutex<Vec<Heard>>,
}

struct Heard {
    address: Option<IpAddr>,
    word: Word,
    at: Instant,
}

/// Something that was said, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Where it came from; `None` for a Unix socket.
    pub address: Option<IpAddr>,
    /// What it was.
    pub word: Word,
    /// How long ago.
    pub age: Duration,
}

impl Balancers {
    /// Nobody has said anything.
    pub fn new() -> Balancers {
        Balancers::default()
    }

    /// Remembers what came from this address with a check that arrived at `now`.
    pub fn hear(&self, address: Option<IpAddr>, word: Word, now: Instant) {
        let mut heard = self.lock();
        let is_same = |other: &Heard| other.address == address && other.word.is_about_the_same(&word);
        let place = heard.iter().position(is_same).or_else(|| {
            let oldest = heard.iter().enumerate().min_by_key(|(_, other)| other.at).map(|(place, _)| place);
            oldest.filter(|_| heard.len() >= MAX_BALANCERS)
        });
        let entry = Heard { address, word, at: now };
        match place {
            Some(place) => heard[place] = entry,
            None => heard.push(entry),
        }
    }

    /// What is known at `now`, in an order that lasts.
    pub fn said(&self, now: Instant) -> Vec<Said> {
        let heard = self.lock();
        let said = heard.iter().map(|Heard { address, word, at }| Said {
            address: *address,
            word: *word,
            age: now.saturating_duration_since(*at),
        });
        let mut said: Vec<Said> = said.filter(|said| said.age < GOOD_FOR).collect();
        said.sort_unstable_by(|a, b| a.key().cmp(&b.key()));
        said
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Heard>> {
        // What was being written is an entry, old or new.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    /// As long as can be.
    #[cfg(test)]
    pub(crate) fn longest() -> Said {
        let name = Name::new(&[b'n'; MAX_NAME_BYTES]).unwrap();
        let word = Word {
            node: name,
            pool: name,
            server: name,
            state: State::NoCheck,
            health: Some(Health { checks: u16::MAX, of: u16::MAX }),
            sessions: u32::MAX,
            pool_sessions: u32::MAX,
            queue: u32::MAX,
        };
        let address = "1111:2222:3333:4444:5555:6666:7777:8888".parse().ok();
        Said { address, word, age: GOOD_FOR }
    }

    fn key(&self) -> (&str, &str, &str, Option<IpAddr>) {
        let Word { node, pool, server, .. } = &self.word;
        (node.as_str(), pool.as_str(), server.as_str(), self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(node: &str, sessions: u32) -> Word {
        let name = |text: &str| Name::new(text.as_bytes()).unwrap();
        Word {
            node: name(node),
            pool: name("pool"),
            server: name("node1"),
            state: State::Up,
            health: None,
            sessions,
            pool_sessions: sessions,
            queue: 0,
        }
    }

    fn nodes(balancers: &Balancers, now: Instant) -> Vec<(String, u32)> {
        let said = balancers.said(now).into_iter();
        said.map(|said| (said.word.node.as_str().to_owned(), said.word.sessions)).collect()
    }

    #[test]
    fn the_last_word_of_each_counts_for_a_minute() {
        let (balancers, start) = (Balancers::new(), Instant::now());
        let address = Some("192.0.2.1".parse().unwrap());
        balancers.hear(address, word("lb2", 5), start);
        balancers.hear(address, word("lb1", 6), start + Duration::from_secs(1));
        balancers.hear(address, word("lb2", 7), start + Duration::from_secs(2));
        // Another HAProxy that has the same name.
        balancers.hear(None, word("lb2", 8), start + Duration::from_secs(3));
        let all = [("lb1".into(), 6), ("lb2".into(), 8), ("lb2".into(), 7)];
        assert_eq!(nodes(&balancers, start + Duration::from_secs(3)), all);
        assert_eq!(balancers.said(start + Duration::from_secs(5))[2].age, Duration::from_secs(3));
        let late = start + Duration::from_secs(1) + GOOD_FOR;
        assert_eq!(nodes(&balancers, late - Duration::from_millis(1)).len(), 3);
        assert_eq!(nodes(&balancers, late), all[1..], "lb1 was silent too long");
        assert_eq!(nodes(&balancers, late + GOOD_FOR), []);
        balancers.hear(address, word("lb1", 9), late + GOOD_FOR);
        assert_eq!(nodes(&balancers, late + GOOD_FOR), [("lb1".into(), 9)]);
    }

    #[test]
    fn whoever_was_silent_longest_is_forgotten_first() {
        let (balancers, start) = (Balancers::new(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        for number in 0..40 {
            balancers.hear(None, word(&format!("lb{number:02}"), 0), at(number));
            balancers.hear(None, word("real", 1), at(number));
        }
        let known = nodes(&balancers, at(40));
        assert_eq!(known.len(), MAX_BALANCERS);
        assert_eq!(known[0].0, "lb09");
        assert_eq!(known.last(), Some(&("real".into(), 1)), "it goes on talking");
    }
}
