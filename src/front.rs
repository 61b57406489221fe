//! The ways of running: as a server of its own, under xinetd, and once for an answer or a switch.

mod check;
mod cluster;
mod doctor;
mod drain;
mod holding;
mod nagios;
mod one_shot;
mod reload;
mod signals;
mod standalone;
mod xinetd;

pub use check::run as run_check;
pub use cluster::{HOW_TO_ASK, run as run_cluster};
pub use doctor::run as run_doctor;
pub use drain::wait::run as run_drain_and_wait;
pub use drain::{drain, undrain};
pub use holding::{hold, hold_port};
pub use nagios::unknown as unknown_to_nagios;
pub use standalone::{refuse_unspeakable, run as run_standalone};
pub use xinetd::{HOW_TO_RUN, run as run_xinetd};
