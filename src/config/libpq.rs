//! How PostgreSQL is reached, by libpq's conventions: connection strings and URIs, variables, passfile, service files
//! (PostgreSQL manual, sections 34.1.1 and 34.15 to 34.17).

mod connection;
pub(super) mod conninfo;
#[cfg(feature = "tls")]
mod encryption;
pub(super) mod environment;
mod keywords;
pub(super) mod passfile;
mod resolve;
mod secret;
pub(super) mod service;
pub(super) mod uri;

pub use connection::{ConnectionSettings, Endpoint, Keepalives, PasswordSource, SOCKET_DIRECTORIES};
pub use conninfo::value_of;
#[cfg(feature = "tls")]
pub use encryption::{Authorities, Choice, Encryption, SslMode};
pub(super) use environment::Environment;
pub(crate) use environment::cause;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) use keywords::Keyword;
pub use keywords::is_libpq_keyword;
pub use passfile::PassfileProblem;
pub(super) use resolve::{Given, resolve, told};
pub use secret::Secret;
