//! The places of the house: who is in, from where, and who gives way where all places are taken.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use super::client::Client;

/// Everyone who may be one and the same. It is as easy to come a thousand times as once, so whoever came most often
/// has the weakest claim to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// An address.
    Ipv4(Ipv4Addr),
    /// The first 64 bits of an address: a host has all of the others to itself (RFC 4291, section 2.5.1).
    Ipv6([u16; 4]),
    /// A Unix socket.
    Local,
}

impl Origin {
    /// The one of this address; a Unix socket has none.
    pub(crate) fn of(ip: Option<IpAddr>) -> Origin {
        match ip.map(|ip| ip.to_canonical()) {
            Some(IpAddr::V4(ip)) => Origin::Ipv4(ip),
            Some(IpAddr::V6(ip)) => {
                let [first, second, third, fourth, ..] = ip.segments();
                Origin::Ipv6([first, second, third, fourth])
            }
            None => Origin::Local,
        }
    }
}

struct Place {
    client: Client,
    origin: Origin,
    /// Clients that are accepted in the same turn came at the same time, by the clock.
    arrival: u64,
}

/// The clients, each at an index that it keeps for life; free places are used again.
#[derive(Default)]
pub(crate) struct Places {
    places: Vec<Option<Place>>,
    /// Clients that came so far.
    arrivals: u64,
    /// How many there are of each origin; no more entries than clients.
    crowds: HashMap<Origin, usize>,
}

impl Places {
    /// How many clients there are.
    pub(crate) fn count(&self) -> usize {
        self.clients().count()
    }

    /// Above every index.
    pub(crate) fn end(&self) -> usize {
        self.places.len()
    }

    /// All clients, with their indices.
    pub(crate) fn clients(&self) -> impl Iterator<Item = (usize, &Client)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(index, place)| Some((index, &place.as_ref()?.client)))
    }

    /// All clients, to be changed.
    pub(crate) fn clients_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.places.iter_mut().flatten().map(|place| &mut place.client)
    }

    /// The client at this place, if there is one.
    pub(crate) fn get(&self, index: usize) -> Option<&Client> {
        self.places.get(index)?.as_ref().map(|place| &place.client)
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut Client> {
        self.places.get_mut(index)?.as_mut().map(|place| &mut place.client)
    }

    /// Gives a client a place, at whatever cost; says which.
    pub(crate) fn take(&mut self, origin: Origin, client: Client) -> usize {
        *self.crowds.entry(origin).or_default() += 1;
        self.arrivals += 1;
        let index = self.places.iter().position(Option::is_none).unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[index] = Some(Place { client, origin, arrival: self.arrivals });
        index
    }

    /// Frees a place; says whether it was taken.
    pub(crate) fn free(&mut self, index: usize) -> bool {
        let Some(place) = self.places.get_mut(index).and_then(Option::take) else { return false };
        if let Some(count) = self.crowds.get_mut(&place.origin) {
            *count -= 1;
            if *count == 0 {
                self.crowds.remove(&place.origin);
            }
        }
        true
    }

    /// Who gives way to a newcomer: whoever has its reply already, else who does not take it, and of each the oldest;
    /// else of those who have not asked yet the oldest of the largest crowd, unless the newcomer's own is larger still.
    /// Who waits for an answer never does.
    pub(crate) fn dispensable(&self, newcomer: Option<Origin>) -> Option<usize> {
        let crowd = |origin| self.crowds.get(&origin).copied().unwrap_or(0);
        let candidates = self.places.iter().enumerate().filter_map(|(index, place)| {
            let Place { client, origin, arrival } = place.as_ref()?;
            let rank = client.dispensability()?;
            let size = if client.is_heading() { crowd(*origin) } else { usize::MAX };
            Some((rank, Reverse(size), client.since(), arrival, index))
        });
        let (_, Reverse(size), _, _, index) = candidates.min()?;
        newcomer.is_none_or(|origin| crowd(origin) <= size).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Protocol;
    use crate::gate::client::Next;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    fn origin(text: &str) -> Origin {
        Origin::of(Some(text.parse().unwrap()))
    }

    /// Clients that have not asked yet, in the order they came, and their own ends.
    fn places(origins: &[Origin]) -> (Places, Vec<UnixStream>) {
        let (mut places, mut ends, start) = (Places::default(), Vec::new(), Instant::now());
        for (age, origin) in (0..).zip(origins) {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let since = start + Duration::from_millis(age);
            places.take(*origin, Client::new(ours.into(), Protocol::Http, since));
            ends.push(theirs);
        }
        (places, ends)
    }

    #[test]
    fn the_oldest_of_the_largest_crowd_gives_way() {
        let (a, b, c) = (origin("192.0.2.1"), origin("192.0.2.2"), origin("192.0.2.3"));
        let (mut places, _ends) = places(&[a, b, b, a, b, c]);
        assert_eq!(places.dispensable(Some(c)), Some(1));
        assert_eq!(places.dispensable(Some(b)), Some(1), "of its own");
        assert!(places.free(1) && !places.free(1));
        assert_eq!(places.dispensable(Some(c)), Some(0), "the older one of equals");
        assert!(places.free(0));
        assert_eq!(places.dispensable(Some(c)), Some(2));
        assert_eq!((places.count(), places.end()), (4, 6));
    }

    /// The newest had the place of the one that went before it, and so was the first of those that came in one turn.
    #[test]
    fn among_those_that_came_at_the_same_moment_the_first_one_gives_way() {
        let (a, now) = (origin("192.0.2.1"), Instant::now());
        let (mut places, mut ends) = (Places::default(), Vec::new());
        let mut arrive = |places: &mut Places| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ends.push(theirs);
            places.take(a, Client::new(ours.into(), Protocol::Http, now))
        };
        (0..3).for_each(|index| assert_eq!(arrive(&mut places), index));
        for index in [0, 1, 2, 0, 1, 2] {
            assert_eq!(places.dispensable(Some(a)), Some(index));
            places.free(index);
            assert_eq!(arrive(&mut places), index);
        }
    }

    #[test]
    fn a_crowd_does_not_push_out_a_smaller_one() {
        let (a, b) = (origin("192.0.2.1"), origin("2001:db8::1"));
        let (mut places, mut ends) = places(&[a, b, b]);
        for index in [1, 2] {
            ends[index].write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            let next = places.get_mut(index).unwrap().on_ready(Instant::now());
            assert!(matches!(next, Next::Ask(_)), "they wait for their answers: {next:?}");
        }
        assert_eq!(places.dispensable(Some(b)), None);
        for newcomer in [Some(a), Some(Origin::Local), None] {
            assert_eq!(places.dispensable(newcomer), Some(0), "{newcomer:?}");
        }
    }

    #[test]
    fn a_network_is_one_and_ipv4_in_ipv6_is_ipv4() {
        assert_eq!(origin("2001:db8::1"), origin("2001:db8:0:0:ffff::2"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
    }
}
