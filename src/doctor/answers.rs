//! From the port itself: what HAProxy gets now.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use super::{Finding, begin};
use crate::agent_over_http::{Answer, CLOSED, LATE, NOBODY, Said, Status, get};
use crate::config::Config;
use crate::gate::listener::DEFAULT_PORT;
use crate::verdict::Path;

/// What HAProxy's pools ask.
const PATHS: [&str; 3] = ["/", "/primary", "/replica"];

/// What came from the local port.
pub struct Heard {
    address: SocketAddr,
    answers: Vec<(&'static str, Result<Answer, String>)>,
    status: Option<Status>,
}

impl Heard {
    /// By what name this node's agent knows itself.
    pub fn agent(&self) -> Option<&str> {
        self.status.as_ref()?.agent.as_deref()
    }
}

/// Where the local agent can be asked.
pub fn local_address(config: &Config) -> SocketAddr {
    let listen = config.listen.first().copied();
    let listen = listen.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT)));
    match listen.ip() {
        // Where only IPv6 is served, the listener was told so, and 127.0.0.1 is refused: then ::1 is asked.
        ip if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listen.port()),
        _ => listen,
    }
}

/// Asks all paths at the same time.
pub fn look(address: SocketAddr, deadline: Instant) -> Heard {
    let ask = |address: SocketAddr| {
        let asked = PATHS.map(|path| (path, begin(move || get(address.into(), path, deadline))));
        let status = begin(move || get(address.into(), "/status", deadline));
        let late = || Err(LATE.to_owned());
        let answers: Vec<_> =
            asked.into_iter().map(|(path, work)| (path, work.end(deadline).unwrap_or_else(late))).collect();
        let status = status.end(deadline).and_then(Result::ok);
        let status = status.and_then(|answer| serde_json::from_slice(&answer.body).ok());
        Heard { address, answers, status }
    };
    let heard = ask(address);
    let is_refused = heard.answers.iter().all(|(_, answer)| answer.as_ref().is_err_and(|why| why == NOBODY));
    match address.ip() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) if is_refused => {
            let heard = ask(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()));
            if heard.answers.iter().any(|(_, answer)| answer.is_ok()) {
                heard
            } else {
                Heard { address, ..heard }
            }
        }
        _ => heard,
    }
}

/// What it means.
pub fn judge(config: &Config, heard: &Heard) -> Vec<Finding> {
    let place = |path: &str| format!("http://{}{path}", heard.address);
    // One line is enough where nobody answers at all.
    if let Some(why) = heard.answers.iter().all(|(_, answer)| answer.is_err()).then(|| &heard.answers[0].1) {
        let why = why.as_ref().err().map_or("", String::as_str);
        return vec![Finding::problem(
            format_args!("answers: {}: {why}", place("/")),
            format_args!("{}", advise(why)),
        )];
    }
    let line = |path: &str| {
        let answer = heard.answers.iter().find(|(asked, _)| *asked == path);
        answer
            .and_then(|(_, answer)| answer.as_ref().ok())
            .map(|answer| (answer.status, answer.reason.as_str()))
    };
    let (root, primary, replica) = (line("/"), line("/primary"), line("/replica"));
    let has_role = matches!(root, Some((200 | 206, _)))
        // Under /primary's rules a standby does not hold on `/`.
        || config.root_path != Path::Contract && [primary, replica].iter().any(|it| it.is_some_and(|(code, _)| code == 200));
    if let Some((503, reason)) = root.filter(|_| root == primary && root == replica) {
        let what = format!("answers: {} says 503 {reason}, and so do /primary and /replica", place("/"));
        return vec![Finding::problem(
            format_args!("{what}: HAProxy takes this node for down"),
            format_args!("{}", explain(reason, "/")),
        )];
    }
    let mut findings = Vec::new();
    for (path, answer) in &heard.answers {
        let place = place(path);
        let said = match answer {
            Ok(answer) => answer,
            Err(why) => {
                findings.push(Finding::problem(
                    format_args!("answers: {place}: {why}"),
                    format_args!("{}", advise(why)),
                ));
                continue;
            }
        };
        let what = format!("answers: {place} says {}", said.line());
        let is_role_on_all_paths =
            root.is_some() && root == primary && root == replica && root.is_some_and(|(code, _)| code < 300);
        findings.push(match (*path, said.status) {
            ("/replica", 200 | 206) if is_role_on_all_paths => Finding::problem(
                format_args!("{what}, as all paths do: this is not pgsqlchk"),
                format_args!("find out who answers: sudo ss -ltnp; the old script? see docs/moving.md"),
            ),
            (_, 200 | 206) => Finding::ok(format_args!("{what}")),
            (_, 404) => Finding::warning(
                format_args!("{what}: HAProxy sends it no new sessions"),
                format_args!("sudo pgsqlchk undrain"),
            ),
            // The other role's path, as it should be.
            ("/primary", 503) if has_role && said.reason == "in-recovery" => {
                Finding::ok(format_args!("{what}"))
            }
            ("/replica", 503) if has_role && said.reason == "not-in-recovery" => {
                Finding::ok(format_args!("{what}"))
            }
            ("/", 503) if has_role => Finding::ok(format_args!("{what}")),
            _ => Finding::problem(
                format_args!("{what}: HAProxy takes this node for down there"),
                format_args!("{}", explain(&said.reason, path)),
            ),
        });
    }
    findings.extend(heard.status.iter().flat_map(balancers));
    findings
}

/// Who has asked lately and sends his state with it. What each makes of the node is his business: a standby is down in the
/// pool of primaries.
fn balancers(status: &Status) -> Vec<Finding> {
    let said = status.haproxy.as_deref().unwrap_or_default();
    if said.is_empty() {
        return vec![Finding::ok(format_args!(
            "answers: no HAProxy has said lately how it sees this node (http-check send-state)"
        ))];
    }
    let line = |said: &Said| {
        let Said { node, pool, server, state, sessions, address, age_ms, .. } = said;
        let address = address.as_deref().unwrap_or("a Unix socket");
        let age_s = age_ms / 1000;
        Finding::ok(format_args!(
            "answers: HAProxy {node} ({address}) has {pool}/{server} {state}, sessions: {sessions}, {age_s} s ago"
        ))
    };
    said.iter().map(line).collect()
}

fn explain(reason: &str, path: &str) -> String {
    format!(
        "see what {reason} means, and what to do: docs/answers.md#reasons; pgsqlchk check --target {path}"
    )
}

fn advise(why: &str) -> &'static str {
    match why {
        NOBODY => "systemctl start pgsqlchk; journalctl -u pgsqlchk -n 20 says why it does not run",
        CLOSED => "allow = 127.0.0.1 in pgsqlchk.conf (only_from in xinetd's file), then restart it",
        "no HTTP" => "another program holds the port: sudo ss -ltnp",
        _ => {
            "look at its state: ps -o pid,stat,wchan:20,args -C pgsqlchk; thaw it with kill -CONT PID, or systemctl restart pgsqlchk"
        }
    }
}
