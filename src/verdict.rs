//! What is asked, and what an observation means for it. Pure: no I/O, no clock.

mod attached;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod judge;
mod origin;
mod others;
mod parameters;
mod path;
mod standing;
mod survey;
mod target;
mod weigh;

pub use judge::{Verdict, judge, judge_drain, weight_percent};
pub use origin::origin_form;
pub use path::Path;
pub use standing::{Standing, Tag};
pub use survey::{Condition, Node, Survey};
pub use target::{Limits, Mode, Otherwise, Target, TargetError};
pub use weigh::{foreign, weigh};
