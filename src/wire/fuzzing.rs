//! What has to hold for whatever a client sends.

use super::dialect;
use super::head::{Head, MAX_BODY_BYTES, MAX_HEAD_BYTES, RequestHead, read_head};
use super::proxy_header::{self, ProxyHeader};
use super::{accept, line, server_state};
use crate::balancers::{MAX_NAME_BYTES, Name, Word};
use crate::config::Protocol;
use crate::fuzzing::wire;
use crate::reply::Media;
use crate::verdict::Standing;

/// A request head, received in pieces.
pub(crate) fn head(bytes: &[u8]) {
    let whole = read_head(bytes);
    assert_decided_once(bytes, &whole, read_head);
    match &whole {
        Head::Incomplete => {
            assert!(bytes.len() < MAX_HEAD_BYTES + MAX_BODY_BYTES, "head and body are bounded")
        }
        Head::Complete(request) => {
            assert_clean(bytes);
            assert_request(request, Protocol::Http);
        }
        Head::Refused(refusal) => {
            let reply = refusal.to_bytes();
            if reply.ends_with(b"\r\n\r\n") {
                return; // to HEAD
            }
            let (status, _) = wire::read_line_reply(&reply);
            assert_eq!(status, refusal.status());
            assert!(matches!(status, 400 | 413 | 431), "{status}");
        }
    }
}

/// A line of HAProxy's agent-check, received in pieces.
pub(crate) fn line(bytes: &[u8]) {
    let whole = line::read_line(bytes);
    assert_decided_once(bytes, &whole, line::read_line);
    if let Head::Incomplete = whole {
        assert!(bytes.len() <= line::MAX_LINE_BYTES, "the line is bounded");
        assert_ne!(line::read_rest(bytes), Head::Incomplete, "there is always an answer");
    }
    for head in [whole, line::read_rest(bytes)] {
        match head {
            Head::Incomplete => {}
            Head::Complete(request) => assert_request(&request, Protocol::Agent),
            Head::Refused(refusal) => assert_down_line(&refusal.to_bytes()),
        }
    }
}

/// What stands ahead of a request, received in pieces.
pub(crate) fn proxy_header(bytes: &[u8]) {
    let whole = proxy_header::read(bytes);
    for end in 0..bytes.len() {
        let early = proxy_header::read(&bytes[..end]);
        assert!(early == ProxyHeader::Incomplete || early == whole, "decided after {end} bytes: {early:?}");
    }
    let starts = [b"PROXY ".as_slice(), b"\r\n\r\n\0\r\nQUIT\n"];
    let has_start = starts.iter().any(|start| bytes.starts_with(start));
    match whole {
        ProxyHeader::Incomplete => {
            assert!(bytes.len() < proxy_header::MAX_HEADER_BYTES, "the header is bounded");
            assert!(has_start || starts.iter().any(|start| start.starts_with(bytes)));
        }
        ProxyHeader::Absent => assert!(!has_start, "a header becomes no request"),
        ProxyHeader::Complete(length) => {
            assert!(has_start && (15..=proxy_header::MAX_HEADER_BYTES).contains(&length));
            assert_eq!(proxy_header::read(&bytes[..length]), whole, "what follows is not looked at");
            if bytes.starts_with(b"PROXY") {
                let line = &bytes[..length];
                assert!(length <= 107 && line.ends_with(b"\r\n"), "{}", line.escape_ascii());
                assert_eq!(line.iter().filter(|byte| matches!(byte, b'\r' | b'\n')).count(), 2, "one line");
            } else {
                assert_eq!(length, 16 + usize::from(bytes[14]) * 256 + usize::from(bytes[15]));
            }
        }
        ProxyHeader::Malformed(what) => {
            assert!(has_start);
            wire::assert_one_line(what);
        }
    }
    if has_start {
        assert!(proxy_header::has_begun(bytes), "no line of an agent-check begins like this");
    }
}

/// What HAProxy says of a server, in one field or several.
pub(crate) fn server_state(bytes: &[u8]) {
    let Some(word) = server_state::read(bytes.split(|byte| *byte == b'\n')) else { return };
    assert!(
        bytes.len() <= server_state::MAX_VALUE_BYTES && bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
    );
    for name in [word.node, word.pool, word.server] {
        let text = name.as_str();
        assert!(
            (1..=MAX_NAME_BYTES).contains(&text.len()) && !text.contains([';', '/', '"', '<', ' ']),
            "{text}"
        );
        assert!(bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
    }
    let Word { node, pool, server, sessions, pool_sessions, queue, .. } = word;
    let [node, pool, server] = [&node, &pool, &server].map(Name::as_str);
    let state = word.spelled_state();
    let spelled =
        format!("{state}; name={pool}/{server}; qcur={queue}; scur={sessions}/{pool_sessions}; node={node}");
    assert_eq!(server_state::read([spelled.as_bytes()].into_iter()), Some(word), "{spelled}");
}

/// The values of Accept fields, one in each line.
pub(crate) fn accept(bytes: &[u8]) {
    let fields: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let preferred = accept::preferred(fields.iter().copied());
    // RFC 9110, 5.3: a list over several fields is one list.
    let is_plain = std::str::from_utf8(bytes).is_ok() && !bytes.contains(&b'"');
    if is_plain {
        assert_eq!(accept::preferred([fields.join(&b',').as_slice()].into_iter()), preferred);
    }
    if !bytes.to_ascii_lowercase().windows(4).any(|window| window == b"html" || window == b"ext/") {
        let joined = fields.join(&b',');
        if !joined.windows(3).any(|window| window == b"*/*") {
            assert_eq!(preferred, Media::Json, "nobody asked for HTML");
        }
    }
}

/// More bytes never change what was decided, or the answer would depend on how the network cuts.
fn assert_decided_once(bytes: &[u8], whole: &Head, read: fn(&[u8]) -> Head) {
    let step = bytes.len() / 16 + 1;
    for end in (0..bytes.len()).step_by(step) {
        let early = read(&bytes[..end]);
        assert!(early == Head::Incomplete || early == *whole, "decided after {end} bytes: {early:?}");
    }
}

/// No byte of a head that is let through could make another reader see another request.
fn assert_clean(bytes: &[u8]) {
    let unix = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    let unix = unix.trim_start_matches('\n');
    let (head, _) = unix.split_once("\n\n").expect("a complete head has an end");
    assert!(!head.contains(|character: char| character.is_ascii_control() && !"\n\t".contains(character)));
    let fields = head.split('\n').skip(1);
    let (mut lengths, mut is_expecting) = (Vec::new(), false);
    for field in fields.map(str::to_ascii_lowercase) {
        assert!(!field.starts_with([' ', '\t']), "folded");
        let (name, value) = field.split_once(':').expect("a colon");
        assert_ne!(name.trim(), "transfer-encoding");
        is_expecting |= name.trim() == "expect";
        if name.trim() == "content-length" {
            lengths.push(value.trim().parse::<usize>().expect("a number"));
        }
    }
    let body = lengths.iter().copied().max().unwrap_or(0);
    if body > 0 {
        assert!(body <= MAX_BODY_BYTES && lengths.len() == 1 && !is_expecting, "{lengths:?}");
        assert!(["GET ", "HEAD ", "OPTIONS "].iter().any(|method| head.starts_with(method)), "{head:?}");
        // Without the last byte of it, there is no request yet.
        let end = head_length(bytes) + body;
        assert!(bytes.len() >= end, "the body is there");
        assert_eq!(read_head(&bytes[..end - 1]), Head::Incomplete);
    }
}

/// Up to and with the empty line, by a way of its own.
fn head_length(bytes: &[u8]) -> usize {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).expect("a head");
    let mut length = start;
    for line in bytes[start..].split_inclusive(|byte| *byte == b'\n') {
        length += line.len();
        if matches!(line, b"\n" | b"\r\n") {
            break;
        }
    }
    length
}

/// It becomes a line of ours on the way to tiny_http, and what it asks has an answer.
fn assert_request(request: &RequestHead, protocol: Protocol) {
    for word in [&request.method, &request.target] {
        assert!(!word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic()), "{word:?}");
    }
    match dialect::what_is_asked(protocol, request, &Standing::default()) {
        Ok(target) => {
            assert_eq!(dialect::needs(protocol, target, true), dialect::needs(protocol, target, true))
        }
        Err(reply) => {
            let reply = reply.to_bytes(false);
            match protocol {
                Protocol::Http => {
                    let (status, _) = wire::read_line_reply(&reply);
                    assert!(matches!(status, 400 | 404 | 405), "{status}");
                }
                Protocol::Agent => assert_down_line(&reply),
            }
        }
    }
}

fn assert_down_line(reply: &[u8]) {
    let line = dialect::on_the_wire(Protocol::Agent, reply.to_vec());
    assert_eq!(line, b"down #bad-request\n");
}
