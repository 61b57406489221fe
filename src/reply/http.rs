//! The HTTP dialect: status line, headers in their fixed order, one line of body. Fixed to the byte.

use crate::instance::Role;
use crate::reason::Reason;
use crate::verdict::{Path, Target, TargetError, Verdict};

const TEXT: &str = "text/plain; charset=utf-8";

/// The longest document. All they hold is bounded; what the server names is cut where it is longer than any name.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024;

/// The longest reply, its head included.
pub const MAX_REPLY_BYTES: usize = MAX_DOCUMENT_BYTES + 1024;

/// A reply before it is put into bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReply {
    status: u16,
    phrase: &'static str,
    content_type: &'static str,
    body: String,
    names_methods: bool,
}

impl HttpReply {
    /// The answer to a target that PostgreSQL was asked about.
    pub fn of_verdict(target: Target, verdict: Verdict) -> HttpReply {
        match verdict {
            Verdict::Holds(Role::Primary) => HttpReply::new(200, "Primary", "Primary".into()),
            // The classic contract alone tells a standby by its code.
            Verdict::Holds(Role::Standby) if target.path == Path::Contract => {
                HttpReply::new(206, "Standby", "Standby".into())
            }
            Verdict::Holds(Role::Standby) => HttpReply::new(200, "Standby", "Standby".into()),
            Verdict::No(reason) => HttpReply::new(503, reason.word(), format!("No: {reason}")),
            // HAProxy's `disable-on-404`: no new sessions, the old ones may finish (configuration.txt, "http-check
            // disable-on-404").
            Verdict::Draining => {
                let reason = Reason::Draining;
                HttpReply::new(404, reason.word(), format!("No: {reason}"))
            }
            Verdict::Down(reason) => HttpReply::down(reason),
        }
    }

    /// A document, whatever it says; `body` without its last line feed. One of more than [`MAX_DOCUMENT_BYTES`], which
    /// no document can have, would not fit the way to the gate and ends there: it is not given.
    pub fn document(content_type: &'static str, body: String) -> HttpReply {
        if body.len() >= MAX_DOCUMENT_BYTES {
            return HttpReply::down(Reason::AgentOutOfResources);
        }
        HttpReply { content_type, ..HttpReply::new(200, "OK", body) }
    }

    /// What stands for a line of another protocol on the way to its client, who gets nothing but the body.
    pub fn line(status: u16, body: String) -> HttpReply {
        HttpReply::new(status, "Line", body)
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Cannot be verified.
    pub fn down(reason: Reason) -> HttpReply {
        HttpReply::new(503, reason.word(), format!("Down: {reason}"))
    }

    /// `/liveness`.
    pub fn alive() -> HttpReply {
        HttpReply::new(200, "Alive", "Alive".into())
    }

    /// The path or its query means nothing.
    pub fn of_target_error(error: &TargetError) -> HttpReply {
        match error {
            TargetError::Malformed => {
                HttpReply::bad_request("the request target has no path, or no host before it")
            }
            TargetError::UnknownPath => HttpReply::new(404, "Not Found", "Not Found: unknown path".into()),
            TargetError::BadQuery(what) => HttpReply::bad_request(what),
        }
    }

    /// 400: `what` says what was wrong, on one line.
    pub fn bad_request(what: &str) -> HttpReply {
        HttpReply::new(400, "Bad Request", format!("Bad Request: {what}"))
    }

    /// 405, naming the methods that would do.
    pub fn method_not_allowed() -> HttpReply {
        let body = "Method Not Allowed: use GET, HEAD or OPTIONS".into();
        HttpReply { names_methods: true, ..HttpReply::new(405, "Method Not Allowed", body) }
    }

    /// 408: the request did not come in time.
    pub fn request_timeout() -> HttpReply {
        HttpReply::new(408, "Request Timeout", "Request Timeout: the request is incomplete".into())
    }

    /// 413: a body was announced that is not read.
    pub fn content_too_large() -> HttpReply {
        let what = "Content Too Large: no body is read but a short one of GET, HEAD or OPTIONS";
        HttpReply::new(413, "Content Too Large", what.into())
    }

    /// 431: the head is too long.
    pub fn head_too_large() -> HttpReply {
        let phrase = "Request Header Fields Too Large";
        HttpReply::new(431, phrase, format!("{phrase}: a head is at most 8192 bytes"))
    }

    fn new(status: u16, phrase: &'static str, body: String) -> HttpReply {
        HttpReply { status, phrase, content_type: TEXT, body, names_methods: false }
    }

    /// The bytes on the wire. The answer to HEAD has the same headers and no body. The status line says
    /// HTTP/1.1 whatever the request said: it names the server's version (RFC 9110, 6.2).
    pub fn to_bytes(&self, is_head: bool) -> Vec<u8> {
        let allow = if self.names_methods { "Allow: GET, HEAD, OPTIONS\r\n" } else { "" };
        let mut text = format!(
            "HTTP/1.1 {} {}\r\n\
             Content-Type: {}\r\n\
             Content-Length: {}\r\n\
             Cache-Control: no-store\r\n\
             {allow}\
             Connection: close\r\n\
             \r\n",
            self.status,
            self.phrase,
            self.content_type,
            self.body.len() + 1,
        );
        if !is_head {
            text.push_str(&self.body);
            text.push('\n');
        }
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reply: &HttpReply, is_head: bool) -> String {
        String::from_utf8(reply.to_bytes(is_head)).unwrap()
    }

    #[test]
    fn the_contract_is_fixed_to_the_byte() {
        let headers = |length| {
            format!(
                "Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
                 Cache-Control: no-store\r\nConnection: close\r\n\r\n"
            )
        };
        let table = [
            (Verdict::Holds(Role::Primary), "HTTP/1.1 200 Primary\r\n", "Primary\n"),
            (Verdict::Holds(Role::Standby), "HTTP/1.1 206 Standby\r\n", "Standby\n"),
            (Verdict::Down(Reason::StartingUp), "HTTP/1.1 503 starting-up\r\n", "Down: starting-up\n"),
            (Verdict::No(Reason::InRecovery), "HTTP/1.1 503 in-recovery\r\n", "No: in-recovery\n"),
            (Verdict::Draining, "HTTP/1.1 404 draining\r\n", "No: draining\n"),
        ];
        for (verdict, status_line, body) in table {
            let reply = HttpReply::of_verdict(Target::plain(Path::Contract), verdict);
            let head = format!("{status_line}{}", headers(body.len()));
            assert_eq!(text(&reply, false), format!("{head}{body}"));
            assert_eq!(text(&reply, true), head);
        }
    }

    #[test]
    fn no_document_is_too_long_for_the_way_to_the_gate() {
        let document = |length: usize| HttpReply::document("text/plain", "x".repeat(length - 1));
        let longest = document(MAX_DOCUMENT_BYTES);
        assert_eq!(longest.status(), 200);
        assert!(longest.to_bytes(false).len() <= MAX_REPLY_BYTES);
        for length in [MAX_DOCUMENT_BYTES + 1, 2 * MAX_DOCUMENT_BYTES, 100 * MAX_DOCUMENT_BYTES] {
            assert_eq!(document(length), HttpReply::down(Reason::AgentOutOfResources), "{length}");
        }
    }

    #[test]
    fn only_the_contract_answers_206() {
        let reply = HttpReply::of_verdict(Target::plain(Path::ReadOnly), Verdict::Holds(Role::Standby));
        assert!(text(&reply, false).starts_with("HTTP/1.1 200 Standby\r\n"));
    }

    #[test]
    fn method_not_allowed_names_the_methods() {
        let reply = text(&HttpReply::method_not_allowed(), false);
        assert!(reply.contains("\r\nAllow: GET, HEAD, OPTIONS\r\nConnection: close\r\n"), "{reply}");
    }
}
