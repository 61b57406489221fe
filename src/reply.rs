//! How a verdict, or all that was observed, is said. Pure.

mod agent;
mod cluster;
mod cluster_page;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod http;
mod metrics;
mod moment;
mod node;
mod page;
mod status;
mod words;

pub use agent::AgentReply;
pub use http::{HttpReply, MAX_DOCUMENT_BYTES, MAX_REPLY_BYTES};

use std::time::SystemTime;

use crate::balancers::Said;
use crate::instance::Observation;
use crate::monitor::Chronicle;
use crate::peers::News;
use crate::system::own_name::OwnName;
use crate::tally::Figures;
use crate::verdict::{Path, Survey, Target, judge};
use status::Document;

/// In which form `/status` and `/cluster` are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// For programs, and for everybody who says nothing.
    Json,
    /// For people.
    Html,
}

impl Media {
    /// The media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Media::Json => "application/json",
            Media::Html => "text/html; charset=utf-8",
        }
    }
}

/// What the documents say besides what was observed. It is asked for only where it is needed.
pub struct Background<'a> {
    /// The form of `/status` and `/cluster`.
    pub media: Media,
    /// For `/status`, `/node` and `/cluster`.
    pub own_name: &'a OwnName,
    /// What peers said; nobody's where none were asked.
    pub news: &'a News,
    /// For `/status` and `/node`.
    pub remember: &'a dyn Fn() -> Chronicle,
    /// For `/metrics`.
    pub figures: &'a dyn Fn() -> Figures,
    /// What HAProxy says of this server; for `/status` and `/metrics`.
    pub balancers: &'a dyn Fn() -> Vec<Said>,
}

/// The HTTP reply to a target that the instance was looked at for.
pub fn http_reply(target: Target, observation: &Observation, background: &Background<'_>) -> HttpReply {
    match target.path {
        Path::Status => {
            let chronicle = (background.remember)();
            let mut document = Document::new(target, observation, &chronicle, background.own_name);
            document.tell_of(&(background.balancers)());
            let text = match background.media {
                Media::Json => document.json(),
                Media::Html => page::html(&document, target.limits, &chronicle, background.news),
            };
            HttpReply::document(background.media.content_type(), text)
        }
        Path::Cluster => {
            let survey = Survey::new(target, observation, background.news, background.own_name);
            let now = SystemTime::now();
            let text = match background.media {
                Media::Json => cluster::json(&survey, now),
                Media::Html => cluster_page::html(&survey, now),
            };
            HttpReply::document(background.media.content_type(), text)
        }
        // Of one form: no person asks for it.
        Path::Node => {
            let document = Document::new(target, observation, &(background.remember)(), background.own_name);
            HttpReply::document(Media::Json.content_type(), node::json(&document, observation))
        }
        Path::Metrics => {
            let survey = (!background.news.peers.is_empty())
                .then(|| Survey::new(target, observation, background.news, background.own_name));
            let said = (background.balancers)();
            let text = metrics::text(observation, survey.as_ref(), &said, &(background.figures)());
            HttpReply::document(metrics::TEXT, text)
        }
        Path::Contract
        | Path::Primary
        | Path::ReadWrite
        | Path::Standby
        | Path::ReadOnly
        | Path::Synchronous
        | Path::Asynchronous
        | Path::Quorum
        | Path::ReadOnlySync
        | Path::ReadOnlyQuorum
        | Path::StandbyLeader
        | Path::Health
        | Path::Readiness
        | Path::Liveness => HttpReply::of_verdict(target, judge(target, observation)),
    }
}
