//! HAProxy's header about the server that it checks (configuration.txt, "http-check send-state"), from bytes to what it
//! says. Pure.
//!
//! `UP 2/3; address=192.0.2.11; port=5432; name=pool/node1; node=lb1; weight=1/2; scur=13/22; qcur=0`: a state, and
//! variables "in no specific order". Whoever may ask may write it, so it is read strictly or not at all: names have the
//! characters that HAProxy's own configuration allows, and nothing else of the text is kept.

use crate::balancers::{Health, Name, State, Word};

/// The header's name.
pub(crate) const NAME: &str = "x-haproxy-server-state";

/// The longest header that is read. HAProxy's have about 120 bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 512;

/// More variables than any release of HAProxy sends.
const MAX_VARIABLES: usize = 16;

/// Reads the values of the header's fields. `None` where there is none, more than one, or one that is not HAProxy's.
pub(crate) fn read<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<Word> {
    let value = values.next()?;
    if values.next().is_some() || value.len() > MAX_VALUE_BYTES {
        return None;
    }
    let mut parts = value.split(|&byte| byte == b';');
    let (state, health) = read_state(parts.next()?)?;
    let (mut known, mut count): ([Option<&[u8]>; 5], usize) = ([None; 5], 0);
    for part in parts {
        count += 1;
        let (name, value) = read_variable(part.strip_prefix(b" ")?)?;
        let place =
            [&b"name"[..], b"node", b"weight", b"scur", b"qcur"].iter().position(|known| *known == name);
        // One that is said twice could be read in two ways.
        if count > MAX_VARIABLES || place.is_some_and(|place| known[place].replace(value).is_some()) {
            return None;
        }
    }
    let [name, node, weight, sessions, queue] = known;
    let (pool, server) = split_once(name?, b'/')?;
    let (sessions, pool_sessions) = read_pair(sessions?)?;
    if weight.is_some_and(|weight| read_pair(weight).is_none()) {
        return None;
    }
    Some(Word {
        node: Name::new(node?)?,
        pool: Name::new(pool)?,
        server: Name::new(server)?,
        state,
        health,
        sessions,
        pool_sessions,
        queue: read_number(queue?)?,
    })
}

/// `UP`, `DOWN 1/2`, `no check`.
fn read_state(text: &[u8]) -> Option<(State, Option<Health>)> {
    let state = State::ALL.into_iter().find(|state| text.starts_with(state.word().as_bytes()))?;
    let rest = &text[state.word().len()..];
    if rest.is_empty() {
        return Some((state, None));
    }
    let (checks, of) = read_pair(rest.strip_prefix(b" ")?)?;
    Some((state, Some(Health { checks: u16::try_from(checks).ok()?, of: u16::try_from(of).ok()? })))
}

/// `scur=13/22`. Later releases may say more; what stands there has to look like what stands there today.
fn read_variable(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, value) = split_once(text, b'=')?;
    let is_name = !name.is_empty() && name.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'_');
    let is_value = value.iter().all(|byte| byte.is_ascii_alphanumeric() || b".:_-/%".contains(byte));
    (is_name && is_value).then_some((name, value))
}

/// `13/22`.
fn read_pair(text: &[u8]) -> Option<(u32, u32)> {
    let (first, second) = split_once(text, b'/')?;
    Some((read_number(first)?, read_number(second)?))
}

/// Digits and nothing else: `parse` would take a sign.
fn read_number(text: &[u8]) -> Option<u32> {
    let is_number = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|&byte| byte == at)?;
    Some((&text[..place], &text[place + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(value: &str) -> Option<Word> {
        read([value.as_bytes()].into_iter())
    }

    const WHOLE: &str =
        "UP; address=127.0.0.1; port=5432; name=pool/node1; node=lb1; weight=1/1; scur=13/22; qcur=4";

    #[test]
    fn what_haproxy_sends_is_read() {
        let word = read_one(WHOLE).unwrap();
        assert_eq!(
            [word.node, word.pool, word.server].map(|name| name.as_str().to_owned()),
            ["lb1", "pool", "node1"]
        );
        assert_eq!((word.sessions, word.pool_sessions, word.queue), (13, 22, 4));
        assert_eq!((word.spelled_state().as_str(), word.is_up()), ("UP", true));
        for (state, is_up) in [
            ("UP 2/3", true),
            ("DOWN", false),
            ("DOWN 1/2", false),
            ("NOLB", false),
            ("NOLB 1/2", false),
            ("DRAIN", false),
            ("MAINT", false),
            ("no check", true),
        ] {
            let word = read_one(&WHOLE.replacen("UP", state, 1)).unwrap();
            assert_eq!((word.spelled_state().as_str(), word.is_up()), (state, is_up));
        }
        for also in [
            // The manual's own example; a server on a Unix socket; a slow start; what nobody knows yet.
            "UP 2/3; name=bck/srv2; node=lb1; weight=1/2; scur=13/22; qcur=0",
            "UP; address=unix; port=; name=bck/srv2; node=lb1.example; weight=1/2; scur=13/22; qcur=0",
            "UP; name=bck/srv2; node=lb1; weight=1/2; scur=13/22; qcur=0; throttle=37%",
            "UP; scur=1/2; qcur=0; node=lb1; name=b:5432/s_1.x; srv_uptime=12; address=::1",
        ] {
            assert!(read_one(also).is_some(), "{also}");
        }
    }

    #[test]
    fn what_haproxy_does_not_send_is_nothing() {
        for (part, other) in [
            ("UP;", "up;"),
            ("UP;", "UPSIDE;"),
            ("UP;", "UP 2;"),
            ("UP;", "UP 2/;"),
            ("UP;", "UP 65536/3;"),
            ("UP;", "UP  2/3;"),
            ("UP;", " UP;"),
            ("UP; ", ""),
            ("; name=pool/node1", ""),
            ("; node=lb1", ""),
            ("; scur=13/22", ""),
            ("; qcur=4", ""),
            ("node=lb1", "node=lb1; node=lb2"),
            ("node=lb1", "node="),
            ("node=lb1", "node=<b>"),
            ("node=lb1", "node=lb\"1"),
            ("node=lb1", "node=lb\t1"),
            ("node=lb1", "node=l\u{e4}b"),
            ("node=lb1", "node=lb%1"),
            ("node=lb1", "node=lb/1"),
            ("node=lb1", "Node=lb1; node=lb1"),
            ("node=lb1", "node=lb1; more"),
            ("node=lb1", "node=lb1;"),
            ("node=lb1", "node=lb1;more=1"),
            ("pool/node1", "pool"),
            ("pool/node1", "pool/"),
            ("pool/node1", "pool/a/b"),
            ("13/22", "13"),
            ("13/22", "-1/22"),
            ("13/22", "+1/22"),
            ("13/22", "13/4294967296"),
            ("13/22", "13/22/1"),
            ("qcur=4", "qcur=4 "),
            ("qcur=4", "qcur="),
            ("weight=1/1", "weight=1"),
        ] {
            assert!(WHOLE.contains(part), "{part}");
            assert_eq!(read_one(&WHOLE.replacen(part, other, 1)), None, "{other:?} for {part:?}");
        }
        let long = |length: usize| WHOLE.replace("lb1", &"n".repeat(length));
        assert!(read_one(&long(64)).is_some() && read_one(&long(65)).is_none());
        let many = |count: usize| format!("{WHOLE}{}", "; x=1".repeat(count));
        assert!(read_one(&many(9)).is_some() && read_one(&many(10)).is_none());
        assert_eq!(read_one(&format!("{WHOLE}; x={}", "1".repeat(MAX_VALUE_BYTES))), None);
        assert_eq!(read([WHOLE.as_bytes(); 2].into_iter()), None, "two of them");
        assert_eq!(read(std::iter::empty()), None);
    }
}
