//! `/status`: everything that was observed.

use crate::instance::Observation;

pub(super) const JSON: &str = "application/json";

/// The document.
pub(super) fn json(observation: &Observation) -> String {
    let quoted = |word: Option<&str>| word.map_or_else(|| "null".to_owned(), |word| format!("\"{word}\""));
    let role = observation.sighting().map(|sighting| sighting.role.word());
    let reason = observation.failure().map(|failure| failure.reason.word());
    format!("{{\"role\": {}, \"reason\": {}}}", quoted(role), quoted(reason))
}
