//! Who asks: the fronts take requests in and carry replies out.

mod accept;
mod check;
mod client;
mod dialect;
mod dispatch;
mod drain;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod gate;
mod head;
mod lane;
mod line;
mod listener;
mod one_shot;
mod places;
mod pool;
mod proxy_header;
mod roster;
mod service;
mod standalone;
mod stop_signal;
mod watchdog;
mod xinetd;

pub use check::run as run_check;
pub use drain::{drain, undrain};
pub use standalone::run as run_standalone;
pub use xinetd::{HOW_TO_RUN, run as run_xinetd};
