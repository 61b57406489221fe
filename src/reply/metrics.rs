//! `/metrics`: what was observed, in Prometheus' text format 0.0.4.

use crate::instance::Observation;

pub(super) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The exposition, without its last line feed.
pub(super) fn text(observation: &Observation) -> String {
    let is_up = u8::from(observation.sighting().is_some());
    format!("# HELP pgsqlchk_up Whether PostgreSQL answered.\n# TYPE pgsqlchk_up gauge\npgsqlchk_up {is_up}")
}
