//! TLS: what the flavour `pgsqlchk-tls` speaks towards PostgreSQL, HTTPS clients and peers, and what every other build says of
//! it. Here stands what all three have in common: the cryptography, and certificates and keys from their files.

// Pure, and so driven by whatever has the fuzzer's drivers.
#[cfg(any(feature = "tls", test, feature = "fuzzing"))]
pub mod certificate;
#[cfg(feature = "tls")]
mod door;
#[cfg(feature = "tls")]
pub mod files;
#[cfg(not(feature = "tls"))]
mod no_door;
#[cfg(feature = "tls")]
pub mod peers;
#[cfg(feature = "tls")]
pub mod postgresql;
#[cfg(feature = "tls")]
pub mod provider;
#[cfg(feature = "tls")]
pub mod verifier;

#[cfg(feature = "tls")]
pub use door::{Door, Files};
#[cfg(not(feature = "tls"))]
pub use no_door::Door;
#[cfg(feature = "tls")]
pub use peers::PeerTls;

/// How peers are asked over TLS: not at all.
#[cfg(not(feature = "tls"))]
#[derive(Clone, Debug, PartialEq)]
pub enum PeerTls {}

#[cfg(not(feature = "tls"))]
impl PeerTls {
    /// `https://` was refused before.
    pub fn for_options(_: &crate::config::Options) -> Result<Option<PeerTls>, String> {
        Ok(None)
    }

    /// Of what is not there nothing is called.
    pub fn changes_since(&self, _: &PeerTls) -> Vec<&'static str> {
        match *self {}
    }
}

/// What a build without TLS says of everything that asks for it.
pub const NOT_HERE: &str = "not in this build, install pgsqlchk-tls";

/// Refuses what asks for TLS in a build without it.
pub fn only_if_here() -> Result<(), String> {
    if cfg!(feature = "tls") { Ok(()) } else { Err(NOT_HERE.into()) }
}
