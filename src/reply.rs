//! How a verdict is said. Pure.

mod http;

pub use http::HttpReply;
