//! What the agent's role may not see, said once.

use std::sync::Once;

use crate::instance::{Observation, Replication};
use crate::spelling;

/// Somebody needed a standby's lag, and its WAL receiver is there, but hides its details: one line per process that
/// says what to grant, and what that buys.
pub(super) fn notice(outcome: &Observation, user: &str) {
    static WARNED: Once = Once::new();
    let replication = outcome.sighting().and_then(|sighting| sighting.replication.as_ref());
    if replication.is_some_and(Replication::hides_details) {
        WARNED.call_once(|| {
            let role = spelling::identifier(user);
            log::warn!(
                target: "pgsqlchk",
                "the lag is measured to what was received, not to the end of the sender's WAL, and a WAL receiver \
                 that hangs is not noticed: role {role} may not see it. On the primary: GRANT pg_monitor TO {role};"
            );
        });
    }
}
