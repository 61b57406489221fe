//! `/cluster` for people: every node a row, who is the primary at a glance, and what is wrong in words.

use std::fmt::Write;
use std::time::SystemTime;

use super::cluster::class;
use super::moment::Moment;
use super::page::{CSS, REFRESH_S};
use super::words::{bytes, duration, escape};
use crate::instance::Role;
use crate::verdict::{Condition, Node, Survey};

const TABLE_CSS: &str = include_str!("cluster_page/cluster.css");

/// The page, without its last line feed.
pub(super) fn html(survey: &Survey, now: SystemTime) -> String {
    let headline = headline(survey);
    let page = format!(
        include_str!("cluster_page/cluster.html"),
        refresh = REFRESH_S,
        title = escape(&headline),
        css = CSS,
        table_css = TABLE_CSS,
        condition = class(survey.condition),
        headline = escape(&headline),
        meaning = survey.condition.meaning(),
        since = summary(survey),
        rows = survey.nodes.iter().map(row).collect::<String>(),
        footer = footer(now),
    );
    page.trim_end().to_owned()
}

/// The primary's name, or what is wrong.
fn headline(survey: &Survey) -> String {
    let mut primaries = survey.nodes.iter().filter(|node| node.role == Some(Role::Primary));
    match survey.condition {
        Condition::OnePrimary => primaries.next().map_or_else(|| "One primary".into(), name),
        Condition::NoPrimary => "No primary".into(),
        Condition::TwoPrimaries => "Two primaries".into(),
        Condition::SupersededPrimary => "Superseded".into(),
    }
}

fn summary(survey: &Survey) -> String {
    let reached = survey.nodes.iter().filter(|node| node.is_reached).count();
    format!("{reached} of {} nodes answer", survey.nodes.len())
}

fn name(node: &Node) -> String {
    match (&node.name, &node.address) {
        (Some(name), _) => name.clone(),
        (None, Some(address)) => address.to_string(),
        (None, None) => "this node".into(),
    }
}

fn row(node: &Node) -> String {
    let class = match node.role {
        _ if !node.is_reached || node.is_foreign == Some(true) => "down",
        Some(role) if node.reason.is_none() => role.word(),
        Some(_) | None if node.draining == Some(true) => "draining",
        Some(_) | None => "down",
    };
    let address = match (&node.address, node.is_self) {
        (Some(address), true) => format!("{address}, this node"),
        (Some(address), false) => address.to_string(),
        (None, _) => "this node".into(),
    };
    let cells = [
        ("Role", role(node)),
        ("", words(node)),
        ("Timeline", node.timeline.map(|timeline| timeline.to_string()).unwrap_or_default()),
        ("Position", node.lsn.map(|lsn| lsn.to_string()).unwrap_or_default()),
        ("Lag", node.lag_bytes.map(bytes).unwrap_or_default()),
        ("Sync", node.sync_state.clone().unwrap_or_default()),
    ];
    let mut html = format!("<tr class=\"{class}\"><th scope=\"row\">{}", escape(&name(node)));
    let _ = write!(html, "<small>{}</small></th>", escape(&address));
    for (label, text) in cells {
        let _ = write!(html, "<td data-label=\"{label}\">{}</td>", escape(&text));
    }
    html.push_str("</tr>\n");
    html
}

fn role(node: &Node) -> String {
    match node.role {
        _ if !node.is_reached => "silent".into(),
        Some(role) => role.word().into(),
        None => "down".into(),
    }
}

fn words(node: &Node) -> String {
    let silent = node.age.filter(|_| !node.is_reached);
    let words = [
        silent.map(|age| format!("answered {} ago", duration(age.as_secs_f64().floor()))),
        (node.is_foreign == Some(true)).then(|| "another cluster".into()),
        node.reason.clone(),
        (node.draining == Some(true) && node.reason.as_deref() != Some("draining"))
            .then(|| "draining".into()),
    ];
    words.into_iter().flatten().collect::<Vec<String>>().join(", ")
}

fn footer(now: SystemTime) -> String {
    let looked = Moment::of(now).map(|now| format!("Looked at {} UTC. ", now.clock()));
    let looked = looked.unwrap_or_default();
    format!("<p>{looked}Looks again every {REFRESH_S} seconds. pgsqlchk {}</p>", env!("CARGO_PKG_VERSION"))
}
