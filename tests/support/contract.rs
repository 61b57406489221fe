//! Whether what came back is a reply of the agent, compared whole: from the `H` of the status line to the end of
//! the connection.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::wire::{End, Received, head, reply, talk};
use super::{Agent, Cluster};

/// An agent beside a primary, shared by the tests that run at the same time; a test keeps its `Arc` to the end.
pub struct Site {
    // Declared first: the agent goes before its server does.
    /// The agent.
    pub agent: Agent,
    _primary: Cluster,
}

/// Starts it, unless another test has.
pub fn site() -> Arc<Site> {
    static SHARED: Mutex<Weak<Site>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(site) = shared.upgrade() {
        return site;
    }
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    let site = Arc::new(Site { agent, _primary: primary });
    *shared = Arc::downgrade(&site);
    site
}

/// The body that belongs to a status line of an answer.
fn body_of(status: &str) -> Option<&'static str> {
    match status {
        "200 Primary" => Some("Primary\n"),
        "200 Alive" => Some("Alive\n"),
        "503 not-in-recovery" => Some("No: not-in-recovery\n"),
        _ => None,
    }
}

/// What is wrong with `received` as the whole reply with this status line, if anything.
pub fn flaw(status: &str, request: &[u8], received: &Received) -> Option<String> {
    let text = received.text();
    if received.end != End::Fin {
        return Some(format!("ended by {:?} after {text:?}", received.end));
    }
    let without_body = request.starts_with(b"HEAD ");
    let body = match (body_of(status), text.split_once("\r\n\r\n")) {
        (Some(body), _) => body.to_owned(),
        // The wording of a refusal is free, its form is not.
        (None, _) if without_body => return flaw_of_bodiless_refusal(status, &text),
        (None, Some((_, body))) if is_refusal(status, body) => body.to_owned(),
        (None, _) => return Some(format!("not the reply {status:?} with one line of text: {text:?}")),
    };
    let expected = if without_body { head(status, &body) } else { reply(status, &body) };
    (text != expected).then(|| format!("expected {expected:?}\n     got {text:?}"))
}

/// Whether a body is `<phrase>: <what was wrong>`, one printable line.
fn is_refusal(status: &str, body: &str) -> bool {
    let Some((_code, phrase)) = status.split_once(' ') else { return false };
    let rest = body.strip_prefix(phrase).and_then(|rest| rest.strip_prefix(": "));
    rest.and_then(|rest| rest.strip_suffix('\n'))
        .is_some_and(|why| !why.is_empty() && why.chars().all(|c| c == ' ' || c.is_ascii_graphic()))
}

/// HEAD's refusal: the head of a reply whose body, never sent, has some length.
fn flaw_of_bodiless_refusal(status: &str, text: &str) -> Option<String> {
    let length: Option<usize> = text
        .split("\r\n")
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .and_then(|digits| digits.parse().ok());
    let expected = length.filter(|length| *length > 0).map(|length| head(status, &"x".repeat(length)));
    (expected.as_deref() != Some(text)).then(|| format!("not the head of a {status:?}: {text:?}"))
}

/// One request, the name of what is tried with it, and the status line it must get.
pub type Case<'a> = (&'a str, &'a [u8], &'a str);

/// Sends every request over a connection of its own and names those that got another reply.
#[track_caller]
pub fn assert_replies(cases: &[Case<'_>]) {
    let site = site();
    let flaws: Vec<String> = cases
        .iter()
        .filter_map(|(name, request, status)| {
            let received = talk(site.agent.addr(), request);
            flaw(status, request, &received).map(|flaw| format!("{name}: {flaw}"))
        })
        // Enough to see what is wrong, even where each one is a silence of ten seconds.
        .take(5)
        .collect();
    assert!(flaws.is_empty(), "wrong:\n{}", flaws.join("\n"));
}

/// Panics with what is wrong with a reply, if anything.
#[track_caller]
pub fn assert_reply(name: &str, status: &str, request: &[u8], received: &Received) {
    if let Some(flaw) = flaw(status, request, received) {
        panic!("{name}: {flaw}");
    }
}
