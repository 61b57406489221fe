//! What is asked, and what an observation means for it. Pure: no I/O, no clock.

mod judge;
mod target;

pub use judge::{Verdict, judge};
pub use target::{Target, TargetError, origin_form};
