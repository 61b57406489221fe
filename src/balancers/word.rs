//! One word of a HAProxy's: which server it is about, how that is seen, and how many sessions it has. Of a fixed size.

use std::fmt;

/// The longest name that is taken, in bytes: that of a host (`HOST_NAME_MAX`), and more than a name on HAProxy's stats
/// page has room for.
pub const MAX_NAME_BYTES: usize = 64;

/// A name as HAProxy's configuration may have it: `A-Z a-z 0-9 . : _ -`, at most [`MAX_NAME_BYTES`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; MAX_NAME_BYTES],
    length: usize,
}

impl Name {
    /// `None` where it is empty, too long, or has a character that no name has.
    pub fn new(text: &[u8]) -> Option<Name> {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".:_-".contains(byte);
        if text.is_empty() || !text.iter().all(is_plain) {
            return None;
        }
        let mut bytes = [0; MAX_NAME_BYTES];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Name { bytes, length: text.len() })
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        // ASCII, as it was read.
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// How HAProxy sees a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// `UP`: it gets sessions.
    Up,
    /// `DOWN`.
    Down,
    /// `NOLB`: its sessions go on, and it gets no new ones.
    Nolb,
    /// `DRAIN`, likewise.
    Drain,
    /// `MAINT`.
    Maint,
    /// `no check`.
    NoCheck,
}

impl State {
    /// Every state there is.
    pub const ALL: [State; 6] =
        [State::Up, State::Down, State::Nolb, State::Drain, State::Maint, State::NoCheck];

    /// As HAProxy spells it.
    pub const fn word(self) -> &'static str {
        match self {
            State::Up => "UP",
            State::Down => "DOWN",
            State::Nolb => "NOLB",
            State::Drain => "DRAIN",
            State::Maint => "MAINT",
            State::NoCheck => "no check",
        }
    }
}

/// How many checks there were on the way to another state, and how many it takes: `2/3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// So many checks.
    pub checks: u16,
    /// Of so many.
    pub of: u16,
}

/// What one HAProxy says of one of its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// HAProxy's own name.
    pub node: Name,
    /// Name of the `backend` or `listen` section.
    pub pool: Name,
    /// Name of the server in it.
    pub server: Name,
    /// How it sees the server.
    pub state: State,
    /// Where the next checks decide.
    pub health: Option<Health>,
    /// Sessions that are open on the server.
    pub sessions: u32,
    /// Sessions that are open on all servers of the pool.
    pub pool_sessions: u32,
    /// Sessions that wait for the server.
    pub queue: u32,
}

impl Word {
    /// Whether both are about the same server of the same HAProxy, by their names.
    pub fn is_about_the_same(&self, other: &Word) -> bool {
        let names = |word: &Word| [word.node, word.pool, word.server];
        names(self) == names(other)
    }

    /// The state as HAProxy spells it: `UP`, `DOWN 1/2`.
    pub fn spelled_state(&self) -> String {
        match self.health {
            Some(Health { checks, of }) => format!("{} {checks}/{of}", self.state.word()),
            None => self.state.word().to_owned(),
        }
    }

    /// Whether HAProxy counts the server as up. One that an agent-check alone has drained still is.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up | State::NoCheck)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_haproxy_takes() {
        for text in ["lb1", "Read-Write_2.example:5432", &"n".repeat(64)] {
            assert_eq!(Name::new(text.as_bytes()).unwrap().as_str(), text);
        }
        for text in ["", "a b", "a/b", "<b>", "a\"", "a\n", "\u{e9}", "a;b", &"n".repeat(65)] {
            assert_eq!(Name::new(text.as_bytes()), None, "{text:?}");
        }
    }
}
