//! `pgsqlchk cluster`: this node and all its peers as a table, and an exit code.

use std::fmt::Write;
use std::time::Instant;

use super::one_shot;
use crate::config::Config;
use crate::system::own_name::OwnName;
use crate::verdict::{Condition, Node, Path, Survey, Target};

/// What to do where nobody is named.
pub const HOW_TO_ASK: &str = "pgsqlchk cluster needs at least one --peer, here or in the configuration file";

const HEADINGS: [&str; 9] =
    ["NODE", "ADDRESS", "ROLE", "TIMELINE", "POSITION", "LAG BYTES", "SYNC", "AGE", "REASON"];

/// The table for stdout, without its last line feed, and the exit code: 0 where one node is the primary and all were
/// reached, 1 for anything else, 2 where nobody could be asked.
pub fn run(config: Config) -> (String, u8) {
    let target = Target::plain(Path::Cluster).limited_by(config.standing().limits);
    let needs = target.needs_beside_peers().unwrap_or_default();
    let (observation, news) = one_shot::survey(&config, target, needs, Instant::now());
    let survey = Survey::new(target, &observation, &news, OwnName::get());
    let has_asked_anybody =
        observation.sighting().is_some() || survey.nodes.iter().any(|node| !node.is_self && node.is_reached);
    let code = match survey.condition {
        _ if !has_asked_anybody => 2,
        Condition::OnePrimary if survey.is_whole() => 0,
        _ => 1,
    };
    (table(&survey), code)
}

fn table(survey: &Survey) -> String {
    let rows: Vec<[String; HEADINGS.len()]> = survey.nodes.iter().map(cells).collect();
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([HEADINGS[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let mut text = format!("{}\n", survey.condition.word());
    for row in std::iter::once(HEADINGS.map(str::to_owned)).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}

fn cells(node: &Node) -> [String; HEADINGS.len()] {
    let or_dash = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".into());
    let role = match node.role {
        _ if !node.is_reached => "silent",
        Some(role) => role.word(),
        None => "down",
    };
    let notes = [
        node.reason.clone(),
        (node.draining == Some(true) && node.reason.as_deref() != Some("draining"))
            .then(|| "draining".into()),
        (node.is_foreign == Some(true)).then(|| "foreign".into()),
        node.is_self.then(|| "(this node)".into()),
    ];
    let notes: Vec<String> = notes.into_iter().flatten().collect();
    [
        or_dash(node.name.clone()),
        or_dash(node.address.as_deref().map(str::to_owned)),
        role.to_owned(),
        or_dash(node.timeline.map(|timeline| timeline.to_string())),
        or_dash(node.lsn.map(|lsn| lsn.to_string())),
        or_dash(node.lag_bytes.map(|bytes| bytes.to_string())),
        or_dash(node.sync_state.clone()),
        or_dash(node.age.map(|age| format!("{:.1} s", age.as_secs_f64()))),
        or_dash(Some(notes.join(" "))),
    ]
}
