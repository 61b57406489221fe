//! What comes over the wire: from bytes to a question, and which words are spoken there. Pure.

pub(crate) mod accept;
pub(crate) mod dialect;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(crate) mod head;
pub(crate) mod line;
pub(crate) mod proxy_header;
pub(crate) mod server_state;
