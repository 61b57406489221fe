//! Observing the local instance: where it is, whether its postmaster answers, and what role it says it has.
//!
//! Everything here may block for as long as the server or the network pleases, unless it says otherwise;
//! whoever needs an answer in time waits in [`crate::monitor`] instead.

mod address;
mod failure;
mod knock;
mod observation;
mod probe;
mod session;

pub use failure::Failure;
pub use observation::{Needs, Observation, Role, Sighting};
pub use probe::{Prober, Stage, StageCell};
