//! Who asks: the fronts take requests in and carry replies out.

mod client;
mod dispatch;
mod gate;
mod head;
mod lane;
mod listener;
mod pool;
mod service;
mod standalone;
mod stop_signal;

pub use standalone::run as run_standalone;
