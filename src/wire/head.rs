//! One request head, from bytes to what matters of it (RFC 9112, sections 2 to 6). Pure.
//!
//! Strict where two readers could disagree about a message (folding, lengths, stray control bytes), lenient
//! where old checkers are sloppy (bare line feeds, no Host, an empty line first). Of bodies only the short one is read
//! that HAProxy's `http-check send ... body` adds to a check, and thrown away; any other is refused by its announcement.
//! Nobody reads on after it: the connection carries one answer and is closed, so nothing can be smuggled behind it.

use super::accept;
use crate::reply::{HttpReply, Media};

/// The longest head, final empty line included. HAProxy's checks take about 100 bytes, a browser's 2 KiB.
pub(crate) const MAX_HEAD_BYTES: usize = 8 * 1024;

/// The longest body that is read. What somebody lets HAProxy send beside a check is a line or two.
pub(crate) const MAX_BODY_BYTES: usize = 1024;

/// What the bytes received so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// No end in sight yet, be it of the head or of the body.
    Incomplete,
    /// A request; its body, if it had one, is forgotten.
    Complete(RequestHead),
    /// Not to be answered but with this.
    Refused(Refusal),
}

/// The reply to a head that is not let through.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    reply: HttpReply,
    /// Even a refusal has no body where the request is known to be HEAD.
    is_head: bool,
}

impl Refusal {
    /// For the sender of bytes that were not read as a head; whether it was to be HEAD they can say all the same.
    pub(crate) fn unread(reply: HttpReply, received: &[u8]) -> Refusal {
        let start = received.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(0);
        Refusal::new(reply, received[start..].starts_with(b"HEAD "))
    }

    /// For a request that is not HEAD.
    pub(crate) fn of(reply: HttpReply) -> Refusal {
        Refusal::new(reply, false)
    }

    pub(crate) fn new(reply: HttpReply, is_head: bool) -> Refusal {
        Refusal { reply, is_head }
    }

    pub(crate) fn status(&self) -> u16 {
        self.reply.status()
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.reply.to_bytes(self.is_head)
    }
}

fn refused(reply: HttpReply, received: &[u8]) -> Head {
    Head::Refused(Refusal::unread(reply, received))
}

/// What of a head the answer depends on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RequestHead {
    /// As received: visible ASCII without spaces.
    pub(crate) method: String,
    /// As received: visible ASCII without spaces.
    pub(crate) target: String,
    /// Which form of a document the client prefers.
    pub(crate) media: Media,
}

impl RequestHead {
    /// What a client asks that knows no methods.
    pub(crate) fn get(target: &str) -> RequestHead {
        RequestHead { method: "GET".into(), target: target.into(), media: Media::Json }
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Whether its method is one of those that are answered.
    pub(crate) fn has_known_method(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }
}

/// Reads the head at the start of `received`, and waits for its body; bytes after that are nobody's business.
pub(crate) fn read_head(received: &[u8]) -> Head {
    let within_limit = &received[..received.len().min(MAX_HEAD_BYTES)];
    let lines = match split_lines(within_limit) {
        Ok(lines) => lines,
        Err(what) => return refused(HttpReply::bad_request(what), received),
    };
    match lines {
        Some(HeadLines { lines, bytes }) => read_lines(&lines, &received[bytes..]),
        None if received.len() > MAX_HEAD_BYTES => refused(HttpReply::head_too_large(), received),
        None => Head::Incomplete,
    }
}

/// A whole head.
struct HeadLines<'a> {
    /// The lines before the first empty one, without their ends.
    lines: Vec<&'a [u8]>,
    /// How many bytes it takes, empty lines included.
    bytes: usize,
}

/// The head, or `None` while its empty line is missing. A control byte is refused at once: a TLS client would otherwise
/// wait for an answer that never comes.
fn split_lines(bytes: &[u8]) -> Result<Option<HeadLines<'_>>, &'static str> {
    let mut lines = Vec::new();
    let mut start = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' => {
                let line = bytes[start..index].strip_suffix(b"\r").unwrap_or(&bytes[start..index]);
                if line.contains(&b'\r') {
                    return Err("a carriage return inside a line");
                }
                start = index + 1;
                match (line.is_empty(), lines.is_empty()) {
                    // RFC 9112, 2.2: empty lines before the request line are ignored.
                    (true, true) => {}
                    (true, false) => return Ok(Some(HeadLines { lines, bytes: start })),
                    (false, _) => lines.push(line),
                }
            }
            b'\r' | b'\t' => {}
            0..0x20 | 0x7f => return Err("a control character"),
            _ => {}
        }
    }
    Ok(None)
}

fn read_lines(lines: &[&[u8]], after_head: &[u8]) -> Head {
    let Some((request_line, fields)) = lines.split_first() else { return Head::Incomplete };
    let request = match read_request_line(request_line) {
        Ok(request) => request,
        Err(what) => return refused(HttpReply::bad_request(what), request_line),
    };
    let reply = match announced_body(fields) {
        Ok(Body::Short(length)) if length == 0 || request.has_known_method() => {
            if after_head.len() < length {
                return Head::Incomplete;
            }
            let media = accept::preferred(values(fields, b"accept"));
            return Head::Complete(RequestHead { media, ..request });
        }
        Ok(Body::Short(_) | Body::Other) => HttpReply::content_too_large(),
        Err(what) => HttpReply::bad_request(what),
    };
    Head::Refused(Refusal::new(reply, request.is_head()))
}

fn read_request_line(line: &[u8]) -> Result<RequestHead, &'static str> {
    let line = std::str::from_utf8(line).map_err(|_| "the request line is not ASCII")?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("the request line is not \"METHOD /path HTTP/1.1\"");
    };
    if !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
        return Err("only HTTP/1.0 and HTTP/1.1 are spoken here");
    }
    if method.is_empty() || !method.bytes().all(is_token_byte) {
        return Err("the method is not a token");
    }
    if target.is_empty() || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the request target is not visible ASCII");
    }
    Ok(RequestHead { method: method.to_owned(), target: target.to_owned(), media: Media::Json })
}

/// What fields say about a body.
enum Body {
    /// So many bytes, at most [`MAX_BODY_BYTES`]; without a body 0.
    Short(usize),
    /// One that is not read, whatever its length is.
    Other,
}

/// Checks every field line, and says which body they announce.
fn announced_body(fields: &[&[u8]]) -> Result<Body, &'static str> {
    let mut is_plain = true;
    let mut length: Option<&[u8]> = None;
    let (mut has_encoding, mut hosts) = (false, 0);
    for field in fields {
        let colon = field.iter().position(|&byte| byte == b':').ok_or("a header line without a colon")?;
        let (name, value) = (&field[..colon], field[colon + 1..].trim_ascii());
        // This also refuses folded lines and spaces before the colon, which begin or end the "name".
        if name.is_empty() || !name.iter().copied().all(is_token_byte) {
            return Err("a header name that is not a token, or a folded line");
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            has_encoding = true;
        } else if name.eq_ignore_ascii_case(b"expect") {
            // It waits for an interim reply that nobody gives here.
            is_plain = false;
        } else if name.eq_ignore_ascii_case(b"host") {
            hosts += 1;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
                return Err("Content-Length is not a number");
            }
            if length.is_some_and(|earlier| earlier != value) {
                return Err("two different Content-Length headers");
            }
            // One length is a length; two, though the same, are how requests are smuggled.
            is_plain &= length.is_none();
            length = Some(value);
        }
    }
    if hosts > 1 {
        return Err("more than one Host header");
    }
    Ok(match length.map_or(Some(0), short_length) {
        Some(0) if !has_encoding => Body::Short(0),
        Some(length) if !has_encoding && is_plain => Body::Short(length),
        Some(_) | None => Body::Other,
    })
}

/// The number that these digits are, if it is at most [`MAX_BODY_BYTES`].
fn short_length(digits: &[u8]) -> Option<usize> {
    let add = |number: usize, digit: &u8| {
        Some(number * 10 + usize::from(digit - b'0')).filter(|number| *number <= MAX_BODY_BYTES)
    };
    digits.iter().try_fold(0, add)
}

/// The values of the fields with this name, in their order.
fn values<'a>(fields: &'a [&'a [u8]], name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> + Clone {
    fields.iter().filter_map(move |field| {
        let colon = field.iter().position(|&byte| byte == b':')?;
        field[..colon].eq_ignore_ascii_case(name).then(|| field[colon + 1..].trim_ascii())
    })
}

/// RFC 9110, 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
