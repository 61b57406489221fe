//! `/cluster`: this node and all its peers. docs/peers.md has a table of the fields; a test holds it against them.

use std::time::SystemTime;

use serde::Serialize;

use super::moment::Moment;
use crate::verdict::{Condition, Node, Survey};

/// The document. Every field is always there, in this order.
#[derive(Serialize)]
struct Document<'a> {
    condition: &'static str,
    nodes: Vec<NodeFields<'a>>,
    time: Option<Moment>,
    agent_version: &'static str,
}

#[derive(Serialize)]
struct NodeFields<'a> {
    name: Option<&'a str>,
    address: Option<&'a str>,
    #[serde(rename = "self")]
    is_self: bool,
    reached: bool,
    foreign: Option<bool>,
    age_seconds: Option<f64>,
    role: Option<&'static str>,
    reason: Option<&'a str>,
    draining: Option<bool>,
    timeline: Option<u32>,
    lsn: Option<String>,
    lag_bytes: Option<u64>,
    sync_state: Option<&'a str>,
}

impl NodeFields<'_> {
    fn new(node: &Node) -> NodeFields<'_> {
        NodeFields {
            name: node.name.as_deref(),
            address: node.address.as_deref(),
            is_self: node.is_self,
            reached: node.is_reached,
            foreign: node.is_foreign,
            age_seconds: node.age.map(|age| age.as_secs_f64()),
            role: node.role.map(|role| role.word()),
            reason: node.reason.as_deref(),
            draining: node.draining,
            timeline: node.timeline,
            lsn: node.lsn.map(|lsn| lsn.to_string()),
            lag_bytes: node.lag_bytes,
            sync_state: node.sync_state.as_deref(),
        }
    }
}

/// Indented, for it is read by people, too.
pub(super) fn json(survey: &Survey, now: SystemTime) -> String {
    let document = Document {
        condition: survey.condition.word(),
        nodes: survey.nodes.iter().map(NodeFields::new).collect(),
        time: Moment::of(now),
        agent_version: env!("CARGO_PKG_VERSION"),
    };
    // Strings, numbers and fields with names of ours: nothing here can fail.
    serde_json::to_string_pretty(&document).unwrap_or_else(|_| "null".into())
}

/// The class that chooses the colour.
pub(super) const fn class(condition: Condition) -> &'static str {
    match condition {
        Condition::OnePrimary => "primary",
        Condition::NoPrimary => "draining",
        Condition::TwoPrimaries | Condition::SupersededPrimary => "down",
    }
}
