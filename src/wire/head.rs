//! One request head, from bytes to what matters of it (RFC 9112, sections 2 to 6). Pure.
//!
//! Strict where two readers could disagree about a message (folding, lengths, stray control bytes), lenient
//! where old checkers are sloppy (bare line feeds, no Host, an empty line first). Of bodies only the short one is read
//! that HAProxy's `http-check send ... body` adds to a check, and thrown away; any other is refused by its announcement.
//! Nobody reads on after it: the connection carries one answer and is closed, so nothing can be smuggled behind it.

use std::time::Duration;

use httparse::{Header as Field, Status};

use super::{accept, server_state};
use crate::balancers::Word;
use crate::reply::{HttpReply, Media};

/// The longest head, final empty line included. HAProxy's checks take about 100 bytes, a browser's 2 KiB.
pub(crate) const MAX_HEAD_BYTES: usize = 8 * 1024;

/// The longest body that is read. What somebody lets HAProxy send beside a check is a line or two.
pub(crate) const MAX_BODY_BYTES: usize = 1024;

/// So many milliseconds another agent waits for `/node`, at least one: then it is told at once that there is no role to be told.
pub(crate) const PATIENCE: &str = "pgsqlchk-wait-ms";

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
        let mut rest = received;
        while let Some(after) = rest.strip_prefix(b"\r\n").or(rest.strip_prefix(b"\n")) {
            rest = after;
        }
        Refusal::new(reply, rest.starts_with(b"HEAD "))
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
    /// What HAProxy says of this server with its check, if it does.
    pub(crate) server_state: Option<Box<Word>>,
    /// How long the client waits, if it says so.
    pub(crate) patience: Option<Duration>,
}

impl RequestHead {
    /// What a client asks that knows no methods.
    pub(crate) fn get(target: &str) -> RequestHead {
        let (method, target) = ("GET".into(), target.into());
        RequestHead { method, target, media: Media::Json, server_state: None, patience: None }
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Whether its method is one of those that are answered.
    pub(crate) fn has_known_method(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }
}

/// Reads the head at the start of `received`, and waits for its body; bytes after that are nobody's business. What is
/// wrong is refused as soon as it is there, as a TLS client would otherwise wait for an answer that never comes.
pub(crate) fn read_head(received: &[u8]) -> Head {
    let within_limit = &received[..received.len().min(MAX_HEAD_BYTES)];
    // Each line is a field at most, and the last one may have no end yet.
    let mut fields = Vec::with_capacity(within_limit.iter().filter(|byte| **byte == b'\n').count() + 1);
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(within_limit, fields.spare_capacity_mut());
    match parsed {
        Ok(Status::Complete(bytes)) => read_request(&request, &received[bytes..]),
        Err(error) if !is_one_line(within_limit) => {
            refused(HttpReply::bad_request(what_is_wrong(error)), received)
        }
        _ if received.len() > MAX_HEAD_BYTES => refused(HttpReply::head_too_large(), received),
        _ => Head::Incomplete,
    }
}

/// Whether this is what a person may have typed. It is not refused before it goes on: under inetd the silence after it
/// is a question.
fn is_one_line(received: &[u8]) -> bool {
    let line = received.strip_suffix(b"\n").unwrap_or(received);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    !line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t')
}

fn what_is_wrong(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a header name that is not a token, no colon, or a folded line",
        httparse::Error::HeaderValue => "a control character in a header",
        httparse::Error::Version => "only HTTP/1.0 and HTTP/1.1 are spoken here",
        _ => "not \"METHOD /path HTTP/1.1\" and header lines",
    }
}

fn read_request(request: &httparse::Request, after_head: &[u8]) -> Head {
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let reply = |reply| Head::Refused(Refusal::new(reply, method == "HEAD"));
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return reply(HttpReply::bad_request("the request target is not visible ASCII"));
    }
    let media = accept::preferred(values(request.headers, "accept"));
    let server_state = server_state::read(values(request.headers, server_state::NAME)).map(Box::new);
    let patience = read_patience(values(request.headers, PATIENCE));
    let (method, target) = (method.to_owned(), target.to_owned());
    let head = RequestHead { method, target, media, server_state, patience };
    match announced_body(request.headers) {
        Ok(Body::Short(length)) if length == 0 || head.has_known_method() => {
            if after_head.len() < length {
                Head::Incomplete
            } else {
                Head::Complete(head)
            }
        }
        Ok(Body::Short(_) | Body::Other) => reply(HttpReply::content_too_large()),
        Err(what) => reply(HttpReply::bad_request(what)),
    }
}

/// What cannot be understood is passed over, as if it were not there.
fn read_patience<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<Duration> {
    let value = values.next().filter(|value| value.iter().all(u8::is_ascii_digit))?;
    let ms = std::str::from_utf8(value).ok()?.parse::<u32>().ok()?;
    (ms > 0 && values.next().is_none()).then(|| Duration::from_millis(ms.into()))
}

/// What fields say about a body.
enum Body {
    /// So many bytes, at most [`MAX_BODY_BYTES`]; without a body 0.
    Short(usize),
    /// One that is not read, whatever its length is.
    Other,
}

/// Which body the fields announce. None where two readers could disagree about that, or about who is asked.
fn announced_body(fields: &[Field]) -> Result<Body, &'static str> {
    if values(fields, "host").count() > 1 {
        return Err("more than one Host header");
    }
    let mut lengths = values(fields, "content-length");
    let length = lengths.next().unwrap_or(b"0");
    if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
        return Err("Content-Length is not a number");
    }
    if lengths.clone().any(|other| other != length) {
        return Err("two different Content-Length headers");
    }
    // One length is a length; two, though the same, are how requests are smuggled. Who expects waits for an interim reply
    // that nobody gives here.
    let is_plain = lengths.next().is_none() && values(fields, "expect").next().is_none();
    let has_encoding = values(fields, "transfer-encoding").next().is_some();
    Ok(match short_length(length) {
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
fn values<'a>(fields: &'a [Field<'a>], name: &'static str) -> impl Iterator<Item = &'a [u8]> + Clone {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

#[cfg(test)]
mod tests;
