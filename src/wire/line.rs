//! One line of HAProxy's agent-check, from bytes to what is asked. Pure.
//!
//! HAProxy sends `agent-send` as it stands, or nothing at all: the line may lack its end, and no line is a question,
//! too.

use super::dialect;
use super::head::{Head, Refusal, RequestHead};
use crate::config::Protocol;
use crate::reason::Reason;

/// The longest line, its end included; any target is far shorter.
pub(crate) const MAX_LINE_BYTES: usize = 1024;

/// What HAProxy asks that sends nothing: whether there is a PostgreSQL at all.
const ASKED_BY_SILENCE: &str = "/health";

/// Reads the line at the start of `received`; bytes after it are nobody's business.
pub(crate) fn read_line(received: &[u8]) -> Head {
    let within_limit = &received[..received.len().min(MAX_LINE_BYTES)];
    match within_limit.iter().position(|&byte| byte == b'\n') {
        Some(end) => read_target(within_limit[..end].strip_suffix(b"\r").unwrap_or(&within_limit[..end])),
        None if received.len() > MAX_LINE_BYTES => refused(),
        None => Head::Incomplete,
    }
}

/// Reads what there is of a line that goes no further.
pub(crate) fn read_rest(received: &[u8]) -> Head {
    match read_line(received) {
        Head::Incomplete => read_target(received.strip_suffix(b"\r").unwrap_or(received)),
        // An empty line: it could have become a PROXY header.
        head @ (Head::Complete(_) | Head::Refused(_)) => head,
    }
}

/// A line that is not to be waited for any longer, or too long.
pub(crate) fn refused() -> Head {
    Head::Refused(Refusal::of(dialect::down(Protocol::Agent, Reason::BadRequest)))
}

fn read_target(line: &[u8]) -> Head {
    match std::str::from_utf8(line) {
        Ok("") => Head::Complete(RequestHead::get(ASKED_BY_SILENCE)),
        // It becomes part of a request line.
        Ok(target) if target.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Head::Complete(RequestHead::get(target))
        }
        Ok(_) | Err(_) => refused(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(head: Head) -> String {
        match head {
            Head::Incomplete => "incomplete".into(),
            Head::Complete(request) => request.target,
            Head::Refused(_) => "refused".into(),
        }
    }

    #[test]
    fn a_line_has_either_end_or_none() {
        let table: &[(&[u8], &str, &str)] = &[
            (b"", "incomplete", "/health"),
            (b"\n", "/health", "/health"),
            (b"\r\n", "/health", "/health"),
            (b"/replica?lag=16MB\n", "/replica?lag=16MB", ""),
            (b"/replica\r\n", "/replica", ""),
            (b"/replica\n/primary\n", "/replica", ""),
            (b"/replica", "incomplete", "/replica"),
            (b"/replica\r", "incomplete", "/replica"),
            (b"GET / HTTP/1.1\r\n\r\n", "refused", ""),
            (b" /replica\n", "refused", ""),
            (b"/re\rplica\n", "refused", ""),
            (b"/\xc3\xa9\n", "refused", ""),
            (b"/\xff\n", "refused", ""),
            (b"/\0\n", "refused", ""),
            (b"\x16\x03\x01\x02\x00", "incomplete", "refused"),
        ];
        for (bytes, expected, at_the_end) in table {
            assert_eq!(asked(read_line(bytes)), *expected, "{}", bytes.escape_ascii());
            let at_the_end = if bytes.contains(&b'\n') { expected } else { at_the_end };
            assert_eq!(asked(read_rest(bytes)), *at_the_end, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn the_limit_is_exact() {
        let line = |length: usize| [vec![b'/'; length - 1], vec![b'\n']].concat();
        assert_eq!(asked(read_line(&line(MAX_LINE_BYTES))).len(), MAX_LINE_BYTES - 1);
        assert_eq!(asked(read_line(&line(MAX_LINE_BYTES + 1))), "refused");
        assert_eq!(asked(read_line(&[b'/'; MAX_LINE_BYTES])), "incomplete");
        assert_eq!(asked(read_line(&[b'/'; MAX_LINE_BYTES + 1])), "refused");
    }
}
