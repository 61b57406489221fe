//! Observing the local instance: where it is, whether its postmaster answers, and what role it says it has.
//!
//! Everything here may block for as long as the server or the network pleases, unless it says otherwise;
//! whoever needs an answer in time waits in [`crate::monitor`] instead.

mod address;
mod doubt;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod knock;
mod lag;
mod lsn;
mod observation;
mod probe;
mod query;
mod recovery;
mod session;

pub use failure::Failure;
pub use lag::{BytesBasis, Lag, LagBytes, LagTime, LagUnknown, TimeBasis};
pub use lsn::Lsn;
pub use observation::{
    Drain, Needs, Observation, Receiver, ReceiverDetails, Replication, Role, Server, Sighting,
};
pub use probe::{ProbeSettings, Prober, Stage, StageCell};
pub use recovery::{Recovery, ReplayDelay, Sources};
