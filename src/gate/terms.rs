//! What the administrator has said of clients and their requests. A reload replaces it as a whole.

use std::sync::Arc;
use std::time::Duration;

use super::witnesses::Witnesses;
use crate::config::{Allow, Config};
use crate::tls::Door;
use crate::verdict::Standing;

/// What holds until the next reload.
pub(crate) struct Terms {
    /// What the gate itself goes by.
    pub(crate) door: Arc<DoorTerms>,
    /// The deadline of a request.
    pub(crate) timeout: Duration,
    /// Those who are asked beside the instance.
    pub(crate) witnesses: Arc<Witnesses>,
}

/// What the gate goes by. It sleeps with them, so nothing is here that should end with a reload.
pub(crate) struct DoorTerms {
    /// Who may ask.
    pub(crate) allow: Allow,
    /// Clients served at once.
    pub(crate) max_connections: usize,
    /// Under which rules requests are read.
    pub(crate) standing: Standing,
    /// What clients are met with that have to speak TLS.
    pub(crate) tls: Option<Door>,
}

impl Terms {
    /// What the configuration says; of its clients only so many fit.
    pub(crate) fn of(config: &Config, max_connections: usize, witnesses: Arc<Witnesses>) -> Terms {
        let (allow, standing) = (config.allow.clone(), config.standing());
        let door = Arc::new(DoorTerms { allow, max_connections, standing, tls: config.tls.clone() });
        Terms { door, timeout: config.timeout, witnesses }
    }
}
