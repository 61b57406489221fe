//! The PROXY protocol's header ahead of a request (haproxy/doc/proxy-protocol.txt, sections 2.1 and 2.2). Pure.
//!
//! HAProxy sends one with `check-send-proxy`, where what it checks stands behind a pooler or proxy that wants them. Here
//! it is recognized and skipped, whoever sends it: the address in it is believed by nobody, so there is nothing to win by
//! making one up. For `--allow`, and for who gives way to whom, the connection's own address counts.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The longest line of version 1, its end included; the specification counts it out.
const MAX_V1_BYTES: usize = 107;

/// The longest header of version 2 that is taken. "Both formats are designed to fit in the smallest TCP segment that any
/// TCP/IP host is required to support (576 - 40 = 536 bytes)": twice a Unix socket's address and still 304 bytes of what
/// else a proxy may add (TLVs). HAProxy's checks send 16 bytes, or a line.
pub(crate) const MAX_HEADER_BYTES: usize = 536;

const V1_START: &[u8] = b"PROXY ";

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and protocol, length of the rest.
const V2_FIXED_BYTES: usize = 16;

/// What stands at the start of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ProxyHeader {
    /// It could still become a header, or be the rest of one.
    Incomplete,
    /// No header: the request begins with the first byte.
    Absent,
    /// A header of so many bytes; the request begins after it.
    Complete(usize),
    /// It begins like a header and is none.
    Malformed(&'static str),
}

/// Reads the header at the start of `received`. There is one at most: what follows it is the request, whatever it is.
pub(crate) fn read(received: &[u8]) -> ProxyHeader {
    for (start, read) in [(V1_START, read_v1 as fn(&[u8]) -> ProxyHeader), (V2_SIGNATURE, read_v2)] {
        if received.starts_with(start) {
            return read(received);
        }
        if start.starts_with(received) {
            return ProxyHeader::Incomplete;
        }
    }
    ProxyHeader::Absent
}

/// Whether nothing but a header begins like this, complete or not: two empty lines are a person at a keyboard.
pub(crate) fn has_begun(received: &[u8]) -> bool {
    received.starts_with(V1_START)
        || received.contains(&0) && (received.starts_with(V2_SIGNATURE) || V2_SIGNATURE.starts_with(received))
}

fn read_v1(received: &[u8]) -> ProxyHeader {
    let within_limit = &received[..received.len().min(MAX_V1_BYTES)];
    match within_limit.iter().position(|&byte| byte == b'\n') {
        Some(end) => {
            let line = within_limit[..end].strip_suffix(b"\r").and_then(|line| line.strip_prefix(V1_START));
            let is_valid = line.and_then(|line| std::str::from_utf8(line).ok()).is_some_and(is_v1);
            match is_valid {
                true => ProxyHeader::Complete(end + 1),
                false => ProxyHeader::Malformed("a PROXY line that is not the protocol's version 1"),
            }
        }
        None if received.len() >= MAX_V1_BYTES => ProxyHeader::Malformed("a PROXY line without an end"),
        None => ProxyHeader::Incomplete,
    }
}

/// `TCP4 192.0.2.1 192.0.2.2 56324 443`; after `UNKNOWN` anything may stand, and means nothing.
fn is_v1(line: &str) -> bool {
    let mut words = line.split(' ');
    let is_addresses = match words.next() {
        Some("UNKNOWN") => return !line.contains('\r'),
        Some("TCP4") => are::<Ipv4Addr>([words.next(), words.next()]),
        Some("TCP6") => are::<Ipv6Addr>([words.next(), words.next()]),
        Some(_) | None => false,
    };
    is_addresses && are_ports([words.next(), words.next()]) && words.next().is_none()
}

fn are<Address: FromStr>(words: [Option<&str>; 2]) -> bool {
    words.into_iter().all(|word| word.is_some_and(|word| word.parse::<Address>().is_ok()))
}

/// Decimal, without a zero in front.
fn are_ports(words: [Option<&str>; 2]) -> bool {
    words
        .into_iter()
        .all(|word| word.is_some_and(|word| word.parse::<u16>().is_ok_and(|port| port.to_string() == word)))
}

fn read_v2(received: &[u8]) -> ProxyHeader {
    let rest = &received[V2_SIGNATURE.len()..];
    // Each byte as soon as it is there: who sends nonsense learns it at once.
    let Some(&version_and_command) = rest.first() else { return ProxyHeader::Incomplete };
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return ProxyHeader::Malformed("a PROXY header of another version, or with an unknown command"),
    };
    let Some(&family_and_protocol) = rest.get(1) else { return ProxyHeader::Incomplete };
    // Twice an address and, but for Unix sockets, a port.
    let address_bytes = match (family_and_protocol >> 4, family_and_protocol & 0x0f) {
        // Made by the proxy itself, as for a check: "discard the protocol block including the family which is ignored".
        _ if is_local => 0,
        (0, 0..=2) => 0,
        (1, 0..=2) => 12,
        (2, 0..=2) => 36,
        (3, 0..=2) => 216,
        _ => return ProxyHeader::Malformed("a PROXY header of an unknown family or protocol"),
    };
    let (Some(&high), Some(&low)) = (rest.get(2), rest.get(3)) else { return ProxyHeader::Incomplete };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let end = V2_FIXED_BYTES + length;
    if length < address_bytes {
        ProxyHeader::Malformed("a PROXY header without room for its addresses")
    } else if end > MAX_HEADER_BYTES {
        ProxyHeader::Malformed("a PROXY header of more than 536 bytes")
    } else if received.len() < end {
        ProxyHeader::Incomplete
    } else {
        ProxyHeader::Complete(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(version_and_command: u8, family_and_protocol: u8, length: u16, rest: usize) -> Vec<u8> {
        let length = length.to_be_bytes();
        let fixed = [version_and_command, family_and_protocol, length[0], length[1]];
        [V2_SIGNATURE, &fixed, &vec![0xa5; rest]].concat()
    }

    #[track_caller]
    fn assert_read(bytes: &[u8], expected: &str) {
        let word = match read(bytes) {
            ProxyHeader::Incomplete => "incomplete".to_owned(),
            ProxyHeader::Absent => "absent".to_owned(),
            ProxyHeader::Complete(length) => length.to_string(),
            ProxyHeader::Malformed(_) => "malformed".to_owned(),
        };
        assert_eq!(word, expected, "{}", bytes.escape_ascii());
    }

    #[test]
    fn lines_of_version_1_are_told_apart() {
        let longest = "PROXY UNKNOWN ffff:f:f:f:f:f:f:ffff ffff:f:f:f:f:f:f:ffff 65535 65535";
        let long = |length: usize| format!("{longest:x<length$}\r\n").into_bytes();
        let table: &[(&[u8], &str)] = &[
            (b"", "incomplete"),
            (b"P", "incomplete"),
            (b"PROXY", "incomplete"),
            (b"PROXY ", "incomplete"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r", "incomplete"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", "42"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET /", "42"),
            (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "56"),
            (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "32"),
            (b"PROXY TCP6 2001:db8::1 ::FFFF 1 2\r\n", "35"),
            (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "37"),
            (b"PROXY UNKNOWN\r\n", "15"),
            (b"PROXY UNKNOWN what ever\x01\r\n", "26"),
            (&long(MAX_V1_BYTES - 2), "107"),
            (&long(MAX_V1_BYTES - 1), "malformed"),
            (&long(MAX_V1_BYTES - 1)[..MAX_V1_BYTES], "malformed"),
            (&long(MAX_V1_BYTES - 1)[..MAX_V1_BYTES - 1], "incomplete"),
            (b"PUT / HTTP/1.1\r\n", "absent"),
            (b"PROXYING / HTTP/1.1\r\n", "absent"),
            (b"PROXY\tTCP4", "absent"),
            (b"proxy TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", "absent"),
            (b" PROXY UNKNOWN\r\n", "absent"),
            (b"PROXY \r\n", "malformed"),
            (b"PROXY / HTTP/1.1\r\n\r\n", "malformed"),
            (b"PROXY UNKNOWN\n", "malformed"),
            (b"PROXY UNKNOWN\r\r\n", "malformed"),
            (b"PROXY UNKNOWNS\r\n", "malformed"),
            (b"PROXY UNKNOWN \xff\r\n", "malformed"),
            (b"PROXY TCP5 192.0.2.1 192.0.2.2 56324 443\r\n", "malformed"),
            (b"PROXY TCP4  192.0.2.1 192.0.2.2 56324 443\r\n", "malformed"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n", "malformed"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 \r\n", "malformed"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\n", "malformed"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.256 56324 443\r\n", "malformed"),
            (b"PROXY TCP4 192.0.2.01 192.0.2.2 56324 443\r\n", "malformed"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n", "malformed"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 0443 443\r\n", "malformed"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 +443 443\r\n", "malformed"),
            (b"PROXY TCP4 ::1 ::1 1 2\r\n", "malformed"),
            (b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", "malformed"),
            (b"PROXY TCP6 ::1::1 ::1 1 2\r\n", "malformed"),
        ];
        for (bytes, expected) in table {
            assert_read(bytes, expected);
        }
    }

    #[test]
    fn headers_of_version_2_are_told_apart() {
        let table = [
            (v2(0x20, 0x00, 0, 0), "16"),
            (v2(0x21, 0x11, 12, 12), "28"),
            (v2(0x21, 0x11, 12, 100), "28"),
            (v2(0x21, 0x12, 12, 11), "incomplete"),
            (v2(0x21, 0x21, 36, 36), "52"),
            (v2(0x21, 0x31, 216, 216), "232"),
            (v2(0x21, 0x00, 0, 0), "16"),
            (v2(0x21, 0x11, 520, 520), "536"),
            (v2(0x21, 0x11, 521, 0), "malformed"),
            (v2(0x21, 0x11, 65535, 0), "malformed"),
            (v2(0x21, 0x11, 11, 11), "malformed"),
            (v2(0x21, 0x21, 35, 35), "malformed"),
            (v2(0x21, 0x31, 215, 215), "malformed"),
            (v2(0x21, 0x41, 12, 12), "malformed"),
            (v2(0x21, 0x13, 12, 12), "malformed"),
            (v2(0x22, 0x11, 12, 12), "malformed"),
            (v2(0x11, 0x11, 12, 12), "malformed"),
            (v2(0x31, 0x11, 12, 12), "malformed"),
            // LOCAL: nothing of the rest counts, but its length.
            (v2(0x20, 0xff, 3, 3), "19"),
            (v2(0x20, 0x11, 521, 0), "malformed"),
        ];
        for (bytes, expected) in &table {
            assert_read(bytes, expected);
        }
        let whole = &table[1].0;
        for end in 0..whole.len() {
            assert_read(&whole[..end], "incomplete");
        }
        assert_read(b"\r\nGET", "absent");
        assert_read(b"\r\n\r\n\0\r\nQUIT\r\n", "absent");
        // Decided by the first byte that tells.
        assert_read(&v2(0x29, 0, 0, 0)[..13], "malformed");
        assert_read(&v2(0x21, 0x4f, 0, 0)[..14], "malformed");
    }
}
