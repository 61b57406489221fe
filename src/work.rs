//! Whether a client can work here, which no role tells: what clients go through answers (`--pooler`), and a commit comes back
//! (`--write-probe`). Both are asked on threads of their own, when a request needs it (`crate::circle`).

mod pooler;
mod write;

pub use pooler::{PoolerSettings, Seat as PoolerSeat, start as start_poolers};
pub use write::{Seat as WriteSeat, WriteSettings, start as start_writer};
