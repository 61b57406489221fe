//! The same for people: one page without anything from elsewhere, which refreshes itself.

mod plot;

use std::fmt::Write;

use super::moment::Moment;
use super::status::{Document, LagFields, TransitionFields};
use super::words::{bytes, duration, escape};
use crate::instance::WriteProbe;
use crate::monitor::Chronicle;
use crate::peers::News;
use crate::verdict::{Limits, Verdict};

pub(super) const CSS: &str = include_str!("page/page.css");

/// Between two looks of a browser.
pub(super) const REFRESH_S: u32 = 5;

/// The page, without its last line feed. `limits`: how far the standby may lag.
pub(super) fn html(document: &Document, limits: Limits, chronicle: &Chronicle, news: &News) -> String {
    let headline = headline(document);
    let title = match document.reason {
        Some(reason) => format!("{headline}: {reason} · pgsqlchk"),
        None => format!("{headline} · pgsqlchk"),
    };
    let page = format!(
        include_str!("page/page.html"),
        refresh = REFRESH_S,
        title = title,
        css = CSS,
        condition = condition(document),
        server = server(document),
        headline = headline,
        reason = reason(document),
        since = since(document),
        lag = lag(document, limits, chronicle),
        facts = facts(document),
        haproxy = haproxy(document),
        peers = peers(news),
        changes = changes(document),
        footer = footer(document),
    );
    page.trim_end().to_owned()
}

/// The class that chooses the colour: what `/` says, and "down" for all that is not well.
fn condition(document: &Document) -> &'static str {
    match (document.verdict, document.role) {
        (Verdict::Holds(role), _) => role.word(),
        (Verdict::Draining, Some(_)) => "draining",
        (Verdict::Draining, None) | (Verdict::No(_) | Verdict::Down(_), _) => "down",
    }
}

fn headline(document: &Document) -> String {
    document.role.map_or_else(|| "Down".into(), capitalized)
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

fn server(document: &Document) -> String {
    match &document.server_version {
        Some(version) => format!("PostgreSQL {}", escape(version)),
        None => "PostgreSQL".into(),
    }
}

fn reason(document: &Document) -> String {
    let mut html = String::new();
    // A server that is down and drains, too.
    let draining = (document.draining == Some(true)).then_some("draining");
    let words = document.reason.map(|reason| reason.word());
    let also = draining.filter(|word| Some(*word) != words);
    let shown: Vec<&str> = words.into_iter().chain(also).collect();
    if !shown.is_empty() {
        let _ = writeln!(html, "<p class=\"reason\">{}</p>", shown.join(", "));
    }
    if let Some(reason) = document.reason {
        let _ = writeln!(html, "<p class=\"meaning\">{}</p>", escape(&reason.meaning().replace('`', "")));
    }
    html
}

fn since(document: &Document) -> String {
    match (document.since, document.time) {
        (Some(since), Some(now)) => {
            let held = duration(now.seconds_since(since).floor());
            // Not for the reason, which may be younger.
            let role = document.role.filter(|_| document.reason.is_some());
            let role = role.map(|role| format!("{role} ")).unwrap_or_default();
            format!("{role}for {held}, since {} UTC", time_element(since))
        }
        (None, Some(now)) => format!("at {} UTC", time_element(now)),
        (_, None) => String::new(),
    }
}

fn lag(document: &Document, limits: Limits, chronicle: &Chronicle) -> String {
    let is_standby = document.role == Some("standby");
    let plot = plot::svg(&chronicle.lag, limits.bytes);
    if !is_standby && plot.is_none() {
        return String::new();
    }
    let figures = if is_standby { lag_figures(&document.lag) } else { String::new() };
    format!("<section><h2>Replication lag</h2>\n{figures}{}</section>\n", plot.unwrap_or_default())
}

fn lag_figures(lag: &LagFields) -> String {
    let figure = |value: Option<String>, basis: Option<&str>| {
        let value = value.unwrap_or_else(|| "unknown".into());
        format!("<p><strong>{value}</strong><span>{}</span></p>", basis.map(basis_words).unwrap_or_default())
    };
    let in_bytes = figure(lag.bytes.map(bytes), lag.bytes_basis.or(lag.unknown));
    let in_time = figure(lag.seconds.map(duration), lag.seconds_basis.or(lag.unknown));
    // Nothing is known: once is enough.
    let in_time = if lag.bytes.is_none() && lag.seconds.is_none() { String::new() } else { in_time };
    format!("<div class=\"figures\">{in_bytes}{in_time}</div>\n")
}

/// What stands below a figure.
fn basis_words(word: &str) -> &str {
    match word {
        "sender" => "behind the sender's WAL",
        "received" => "behind what was received",
        "primary" => "behind where the primary writes",
        "caught-up" => "everything is replayed",
        "last-commit" => "since the last replayed commit",
        "no-wal-receiver" => "there is no WAL receiver",
        "wal-receiver-silent" => "the WAL receiver hears nothing",
        "wal-receiver-not-streaming" => "the WAL receiver streams nothing",
        "ahead-of-sender" => "it has more than its sender",
        "other-timeline" => "it is on another timeline than the primary",
        "nothing-replayed" => "nothing was replayed since the start",
        other => other,
    }
}

fn facts(document: &Document) -> String {
    let receiver = &document.receiver;
    let choose = |is: Option<bool>, yes: &str, no: &str| is.map(|is| if is { yes } else { no }.to_owned());
    let is_primary = document.role == Some("primary");
    let sender = receiver.sender_host.as_deref().map(|host| match receiver.sender_port {
        Some(port) => format!("{host}, port {port}"),
        None => host.to_owned(),
    });
    let state = match (receiver.exists, &receiver.state) {
        (_, Some(state)) => Some(state.clone()),
        (Some(true), None) => Some("exists; the rest takes GRANT pg_monitor".into()),
        (Some(false), None) => Some("none".into()),
        (None, None) => None,
    };
    let started = document.server_started.zip(document.time).map(|(started, now)| {
        let day = started.date();
        let clock = started.clock();
        format!("{day}, {clock} UTC, {} ago", duration(now.seconds_since(started).floor()))
    });
    let logins = document
        .login
        .refused
        .zip(document.login.since)
        .map(|(refused, since)| format!("refused since {} UTC: {refused}", since.day_and_clock()));
    let facts = [
        ("Writes", choose(document.read_only.filter(|_| is_primary), "refused: read-only", "accepted")),
        (
            "Restore",
            document.restoring.filter(|is_restore| *is_restore).map(|_| "to a recovery target".into()),
        ),
        ("Replay", replay(document)),
        ("WAL receiver", state),
        ("Sender", sender),
        ("Slot", receiver.slot.clone()),
        ("Last message", receiver.last_message_seconds.map(|seconds| format!("{} ago", duration(seconds)))),
        ("Sender's WAL end", document.lsn.sender_end.clone()),
        ("Received", document.lsn.received.clone()),
        ("Replayed", document.lsn.replayed.clone()),
        ("Commits", commits(document)),
        ("WAL position", document.lsn.current.clone()),
        ("Standbys", document.standbys.as_ref().map(|standbys| standbys.len().to_string())),
        ("Timeline", document.timeline.map(|timeline| timeline.to_string())),
        ("System id", document.system_identifier.clone()),
        ("Started", started),
        ("Logins", logins),
        ("Draining", choose(document.draining, "yes", "no")),
    ];
    let mut html = String::from("<section><h2>Observed</h2>\n<dl>\n");
    for (name, value) in facts.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        let _ = writeln!(html, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(value));
    }
    for pooler in document.poolers.iter().flatten() {
        let state = match pooler.up {
            Some(true) => "answers",
            Some(false) => "does not answer",
            None => "unknown",
        };
        let _ = writeln!(html, "<div><dt>Pooler {}</dt><dd>{state}</dd></div>", escape(&pooler.address));
    }
    html.push_str("</dl></section>\n");
    html
}

/// Whether they come back.
fn commits(document: &Document) -> Option<String> {
    let write = document.write.as_ref()?;
    let seconds = write.seconds().map(duration);
    Some(match (write, seconds) {
        (WriteProbe::Committed(_), Some(seconds)) => format!("come back after {seconds}"),
        (WriteProbe::Stalled { .. }, Some(seconds)) => format!("one hangs since {seconds}"),
        (WriteProbe::Stalled { .. }, None) => "not confirmed".into(),
        (WriteProbe::Committed(_) | WriteProbe::Failed { .. }, _) => "fail".into(),
    })
}

/// Who checks it, and what is still here of each.
fn haproxy(document: &Document) -> String {
    if document.haproxy.is_empty() {
        return String::new();
    }
    let mut html = String::from(
        "<section><h2>HAProxy</h2>\n<table>\n<tr><th>Of</th><th>Server</th><th>State</th><th>Sessions</th><th>Said</th></tr>\n",
    );
    for said in &document.haproxy {
        let texts = [&said.node, &said.pool, &said.server, &said.state];
        let [node, pool, server, state] = texts.map(|text| escape(text));
        let address = said.address.as_deref().map(|address| format!("<small>{}</small>", escape(address)));
        let address = address.unwrap_or_default();
        let queue = if said.queue > 0 { format!(", {} queued", said.queue) } else { String::new() };
        let (sessions, all, age) = (said.sessions, said.pool_sessions, duration(said.age_ms as f64 / 1000.0));
        let _ = writeln!(
            html,
            "<tr><td>{node}{address}</td><td>{pool}/{server}</td><td>{state}</td>\
             <td>{sessions} of {all}{queue}</td><td>{age} ago</td></tr>"
        );
    }
    html.push_str("</table></section>\n");
    html
}

/// What others say of themselves, in short; the whole is on `/cluster`.
fn peers(news: &News) -> String {
    let mut html = String::new();
    for peer in news.peers.iter().filter(|peer| !peer.is_self) {
        let said = match peer.fresh() {
            Some(said) => {
                let role = said.role.map_or("down", |role| role.word());
                let timeline = said.timeline.map(|timeline| format!(", timeline {timeline}"));
                let drains = if said.draining == Some(true) { ", draining" } else { "" };
                format!("{role}{}{drains}", timeline.unwrap_or_default())
            }
            None => "silent".into(),
        };
        let _ = writeln!(html, "<div><dt>{}</dt><dd>{said}</dd></div>", escape(&peer.described()));
    }
    if html.is_empty() {
        return html;
    }
    format!("<section><h2><a href=\"/cluster\">Peers</a></h2>\n<dl>\n{html}</dl></section>\n")
}

/// Whether it goes on.
fn replay(document: &Document) -> Option<String> {
    let is_paused = document.replay_paused?;
    let delay = match document.replay_delay_seconds {
        Some(seconds) => format!("delayed by {}", duration(seconds)),
        None => "delayed".into(),
    };
    Some(match (is_paused, document.is_replay_delayed) {
        (true, true) => format!("paused, {delay}"),
        (true, false) => "paused".into(),
        (false, true) => delay,
        (false, false) => "running".into(),
    })
}

/// The time line: the newest first, each with how long it lasted.
fn changes(document: &Document) -> String {
    if document.transitions.is_empty() {
        return String::new();
    }
    let mut html = String::from("<section><h2>Changes</h2>\n<ol class=\"events\">\n");
    // What ended the condition that is listed next.
    let mut ended = document.time;
    for transition in &document.transitions {
        let held = if transition.is_drain {
            None
        } else {
            let held = ended.zip(transition.time).map(|(ended, begun)| ended.seconds_since(begun));
            ended = transition.time;
            held
        };
        html.push_str(&change(transition, held));
    }
    html.push_str("</ol></section>\n");
    html
}

fn change(transition: &TransitionFields, held: Option<f64>) -> String {
    let class = match transition.to {
        "primary" => "primary",
        "standby" => "standby",
        "draining" | "not-draining" => "draining drain",
        _ => "down",
    };
    let time = transition.time.map(time_element).unwrap_or_default();
    let name = match transition.to {
        "not-draining" => "Draining no more".into(),
        word => capitalized(word),
    };
    let why = transition.reason.map(|reason| format!("<span class=\"why\">{reason}</span>, "));
    let why = why.unwrap_or_default();
    let held = held.map(|seconds| format!("<p class=\"held\">{why}{}</p>", duration(seconds)));
    let held = held.unwrap_or_default();
    format!("<li class=\"{class}\"><div class=\"row\"><b>{name}</b>{time}</div>{held}</li>\n")
}

fn time_element(time: Moment) -> String {
    format!("<time datetime=\"{}\">{}</time>", time.rfc_3339(), time.day_and_clock())
}

fn footer(document: &Document) -> String {
    let took = document.probe_seconds.map(|seconds| format!(", which took {}", duration(seconds)));
    let looked = document.time.map(|time| {
        let clock = time.clock();
        format!("Looked at {clock} UTC{}. ", took.unwrap_or_default())
    });
    let looked = looked.unwrap_or_default();
    format!("<p>{looked}Looks again every {REFRESH_S} seconds. pgsqlchk {}</p>", document.agent_version)
}

#[cfg(test)]
mod tests;
