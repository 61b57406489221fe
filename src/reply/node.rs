//! `/node`: what other agents ask of this one. What was not observed for this very request is null. docs/peers.md has a
//! table of the fields; a test holds it against them.

use serde::Serialize;

use super::moment::Moment;
use super::status::Document;
use crate::instance::{AttachedStandby, Observation, Role};
use crate::reason::Reason;

/// The document. Every field is always there, in this order.
#[derive(Serialize)]
struct Node<'a> {
    agent: &'a str,
    name: &'a str,
    agent_version: &'static str,
    role: Option<&'static str>,
    reason: Option<Reason>,
    draining: Option<bool>,
    system_identifier: Option<&'a str>,
    timeline: Option<u32>,
    lsn: Option<&'a str>,
    since: Option<Moment>,
    time: Option<Moment>,
    /// In seconds since 1970, as the server spells it: with the system identifier it tells instances apart.
    postmaster_started: Option<f64>,
    receives: Option<bool>,
    slot: Option<&'a str>,
    application_name: Option<&'a str>,
    standbys: Option<&'a [AttachedStandby]>,
    cascaded: Option<&'a [AttachedStandby]>,
}

/// On one line, for it is read by programs. `document` is what `/status` says of the same observation.
pub(super) fn json(document: &Document, observation: &Observation) -> String {
    let sighting = observation.sighting();
    let identity = sighting.and_then(|sighting| sighting.identity);
    let system_identifier = identity.map(|identity| identity.system_identifier.to_string());
    let lsn = match sighting.map(|sighting| sighting.role) {
        Some(Role::Primary) => &document.lsn.current,
        Some(Role::Standby) => &document.lsn.replayed,
        None => &None,
    };
    let node = Node {
        agent: &document.agent,
        name: &document.name,
        agent_version: document.agent_version,
        role: document.role,
        reason: document.reason,
        draining: document.draining,
        system_identifier: system_identifier.as_deref(),
        timeline: document.timeline,
        lsn: lsn.as_deref(),
        since: document.since,
        time: document.time,
        postmaster_started: identity.map(|identity| identity.postmaster_started_unix_s),
        receives: document.receiver.exists,
        slot: document.receiver.slot.as_deref(),
        application_name: document.receiver.application_name.as_deref(),
        standbys: document.standbys.as_deref(),
        cascaded: document.cascaded.as_deref(),
    };
    // Strings, numbers and fields with names of ours: nothing here can fail.
    serde_json::to_string(&node).unwrap_or_else(|_| "null".into())
}
