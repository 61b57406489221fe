//! Observing the local instance: where it is, whether its postmaster answers, whether it lets new clients in, what role it
//! says it has, and whether it commits.
//!
//! Everything here may block for as long as the server or the network pleases, unless it says otherwise;
//! whoever needs an answer in time waits in [`crate::monitor`] instead.

mod address;
pub mod advice;
mod channel;
mod clients;
mod doubt;
mod evidence;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod identity;
mod inspection;
mod knock;
mod lag;
mod login;
mod lsn;
mod observation;
mod pooler;
mod prepared;
mod probe;
mod query;
mod recovery;
mod session;
mod settings;
mod stage;
mod standbys;
mod startup;
mod timeline;
mod upstream;
mod writer;

pub use clients::ClientCounter;
pub use evidence::{Against, Evidence, Pooler, PrimaryPosition, SyncState, WriteProbe};
pub use failure::Failure;
pub use identity::Identity;
pub use inspection::{Inspected, inspect};
#[cfg(feature = "tls")]
pub(crate) use knock::SSL_REQUEST;
pub use lag::{BytesBasis, Lag, LagBytes, LagTime, LagUnknown, TimeBasis};
pub use login::LoginRefused;
pub use lsn::Lsn;
pub use observation::{
    Drain, Needs, Observation, Receiver, ReceiverDetails, Replication, Role, Server, Sighting,
};
pub use pooler::PoolerKnocker;
pub use probe::{Prober, Retired};
pub use recovery::{Recovery, ReplayDelay, Sources};
pub use settings::ProbeSettings;
pub use stage::{Stage, StageCell};
pub use standbys::{AttachedStandby, MAX_NAME_BYTES, MAX_STANDBYS};
pub use writer::{NoCommit, Writer};
