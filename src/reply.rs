//! How a verdict, or all that was observed, is said. Pure.

mod agent;
mod http;
mod metrics;
mod status;

pub use agent::AgentReply;
pub use http::HttpReply;

use crate::instance::Observation;
use crate::tally::Figures;
use crate::verdict::{Path, Target, judge};

/// The HTTP reply to a target that the instance was looked at for. `figures` is asked for `/metrics` only.
pub fn http_reply(target: Target, observation: &Observation, figures: impl FnOnce() -> Figures) -> HttpReply {
    match target.path {
        Path::Status => HttpReply::document(status::JSON, status::json(observation)),
        Path::Metrics => HttpReply::document(metrics::TEXT, metrics::text(observation, &figures())),
        Path::Contract
        | Path::Primary
        | Path::ReadWrite
        | Path::Standby
        | Path::ReadOnly
        | Path::Health
        | Path::Liveness => HttpReply::of_verdict(target, judge(target, observation)),
    }
}
