//! `--mode xinetd`: serves the socket that inetd, xinetd or systemd (`Accept=yes`) has put on descriptor 0.
//!
//! A connected socket (`wait = no`) is answered once; a listening one (`wait = yes`) is served like standalone
//! serves its own, until nothing has been asked for `--idle-exit`.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{SocketType, getpeername};

use super::{one_shot, standalone};
use crate::config::{Config, Protocol};
use crate::gate::client::{Client, Next};
use crate::gate::listener;
use crate::gate::service::{alive, limit, reply_to};
use crate::instance::Failure;
use crate::instance::advice::advice;
use crate::monitor::Chronicle;
use crate::reply::{Background, HttpReply};
use crate::system::own_name::OwnName;
use crate::tally::Tally;
use crate::wire::dialect;
use crate::wire::head::RequestHead;

/// For a person with telnet: nothing more than an empty line for this long counts as `GET /`.
const SILENCE: Duration = Duration::from_secs(1);

/// What to do where descriptor 0 is something else.
pub const HOW_TO_RUN: &str = "--mode xinetd: standard input is not a stream socket: let xinetd, inetd or systemd \
     start it, or use --mode standalone";

/// Serves the socket, which is on no standard descriptor any more. An `Err` is one line for the log.
pub fn run(config: Config, socket: OwnedFd) -> Result<(), String> {
    if socket_type(&socket) != Ok(SocketType::STREAM) {
        return Err(HOW_TO_RUN.into());
    }
    if socket_acceptconn(&socket) == Ok(true) {
        let idle_exit = Some(config.idle_exit);
        let listener = listener::adopt(socket, config.protocol)?;
        return standalone::serve(config, vec![listener], idle_exit);
    }
    if !is_allowed(&config, &socket) {
        // Closed without a byte, as the gate does it.
        return Ok(());
    }
    let mut failure = None;
    let result = serve_client(&config, socket, &mut failure);
    // Now that the client has its answer: finding out what to type may take a moment.
    if let Some(failure) = failure {
        warn_of(&failure, &config);
    }
    result.map_err(|error| format!("cannot serve the client: {error}"))
}

/// One line for each check that finds nothing: who has forgotten the role, or another step, looks into the syslog. More than
/// that nobody can know here, for the process before has left no trace.
fn warn_of(failure: &Failure, config: &Config) {
    let os_user = whoami::username().ok();
    let advice = advice(failure, &config.connection, os_user.as_deref());
    let advice = advice.map(|what| format!("; {}", what.replace(char::is_control, " "))).unwrap_or_default();
    log::warn!(target: "pgsqlchk", "unavailable ({}): {}{advice}", failure.reason, failure.cause);
}

/// A client without an address, such as one of a Unix socket, is on this host, and `--allow` is about others.
fn is_allowed(config: &Config, socket: &OwnedFd) -> bool {
    let peer = getpeername(socket).ok().flatten().and_then(|peer| SocketAddr::try_from(peer).ok());
    peer.is_none_or(|peer| config.allow.permits(peer.ip()))
}

fn serve_client(config: &Config, socket: OwnedFd, failure: &mut Option<Failure>) -> Result<(), Errno> {
    ioctl_fionbio(&socket, true)?;
    let begun = Instant::now();
    let tally = Tally::new();
    tally.clients.enter();
    let silence_ends = begun + SILENCE;
    let mut client = Client::new(socket, config.protocol, begun);
    let mut next = client.on_ready(begun);
    loop {
        match next {
            Next::Wait => {}
            Next::Close => return Ok(()),
            Next::Ask(request) => {
                let reply = answer(config, &request, Instant::now(), &tally, failure);
                next = client.reply(reply.to_bytes(request.is_head()), Instant::now());
                continue;
            }
            Next::Refuse(refusal) => {
                next = client.reply(refusal.to_bytes(), Instant::now());
                continue;
            }
        }
        let may_be_silent = is_silence(&client);
        let silence = may_be_silent.then_some(silence_ends);
        let until = client.deadline().into_iter().chain(silence).min();
        let is_ready = wait(&client, until)?;
        let now = Instant::now();
        next = if is_ready {
            client.on_ready(now)
        } else if may_be_silent && now >= silence_ends {
            let reply = answer(config, &RequestHead::get("/"), now, &tally, failure);
            client.reply(reply.to_bytes(false), Instant::now())
        } else if client.deadline().is_some_and(|deadline| deadline <= now) {
            client.on_deadline(now)
        } else {
            Next::Wait
        };
    }
}

/// Whether the client is connected, should speak HTTP, has not asked, and has sent nothing but empty lines, or one line
/// that is no HTTP and names no path but `/`. (For an agent-check the client itself knows what silence means.)
fn is_silence(client: &Client) -> bool {
    let received = client.received();
    let is_empty = received.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
    client.protocol() == Protocol::Http && client.is_heading() && (is_empty || is_bare_line(received))
}

fn is_bare_line(received: &[u8]) -> bool {
    let line = received.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    line.is_some_and(|line| {
        let names_path = line.windows(2).any(|window| window[0] == b'/' && !window[1].is_ascii_whitespace());
        !line.contains(&b'\n') && !names_path
    })
}

fn wait(client: &Client, until: Option<Instant>) -> Result<bool, Errno> {
    let rest = until.map(|until| until.saturating_duration_since(Instant::now()));
    let timeout = rest.and_then(|rest| Timespec::try_from(rest).ok());
    match poll(&mut [PollFd::new(&client.socket, client.poll_flags())], timeout.as_ref()) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The request has arrived at `arrived`. Why the instance could not be seen is left in `failure`.
fn answer(
    config: &Config,
    request: &RequestHead,
    arrived: Instant,
    tally: &Tally,
    failure: &mut Option<Failure>,
) -> HttpReply {
    let protocol = config.protocol;
    let target = match dialect::what_is_asked(protocol, request, &config.standing()) {
        Ok(target) => target,
        Err(reply) => return reply,
    };
    match dialect::needs(protocol, target, !config.peer.is_empty()) {
        None => alive(protocol, target, tally),
        Some(needs) => {
            let deadline = arrived + limit(target, config.timeout, request.patience);
            let (observation, news) = one_shot::check(config, target, needs, arrived, deadline);
            *failure = observation.failure().cloned();
            tally.probes.record(&observation, observation.took.unwrap_or_else(|| arrived.elapsed()));
            let background = Background {
                media: request.media,
                own_name: OwnName::get(),
                news: &news,
                remember: &Chronicle::blank,
                figures: &|| tally.figures(),
                // Each check has a process of its own: none has heard of another.
                balancers: &Vec::new,
            };
            reply_to(protocol, target, &observation, &background, tally)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_bare_line;

    #[test]
    fn a_bare_line_is_one_line_and_no_http() {
        let table: &[(&[u8], bool)] = &[
            (b"\r\n", true),
            (b"\n", true),
            (b"hello\r\n", true),
            (b"GET /\r\n", true),
            (b"", false),
            (b"hel", false),
            (b"GET / HTTP/1.1\r\n", false),
            (b"\r\nGET", false),
            (b"a\nb\n", false),
        ];
        for (bytes, expected) in table {
            assert_eq!(is_bare_line(bytes), *expected, "{}", bytes.escape_ascii());
        }
    }
}
