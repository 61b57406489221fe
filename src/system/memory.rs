//! A bound for the memory of the whole process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most data the process may have. All options at their largest stay below; beyond it is only what a server sends
/// without end, for the `postgres` crate keeps whatever comes, and a message may have 2 GiB. The process aborts then,
/// and whoever started it starts it again: better than that the kernel ends PostgreSQL for want of memory.
pub const MAX_DATA_BYTES: u64 = 1024 * 1024 * 1024;

/// Sets the bound, unless there is a tighter one; where the system refuses, it had its own say already.
pub fn limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Data);
    if current.is_none_or(|current| current > MAX_DATA_BYTES) {
        let _ = setrlimit(Resource::Data, Rlimit { current: Some(MAX_DATA_BYTES), maximum });
    }
}
