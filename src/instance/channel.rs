//! What a session with PostgreSQL goes over.

#[cfg(feature = "tls")]
mod encrypted;
#[cfg(not(feature = "tls"))]
mod plain;

#[cfg(feature = "tls")]
pub(super) use encrypted::Channel;
#[cfg(not(feature = "tls"))]
pub(super) use plain::Channel;

/// What went wrong with TLS, if that is what went wrong.
#[cfg(feature = "tls")]
pub(super) fn trouble(error: &postgres::Error) -> Option<String> {
    use std::error::Error;
    use std::io;

    use crate::tls::postgresql::TlsError;

    let mut next = error.source();
    while let Some(source) = next {
        let in_io = source.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let ours = source.downcast_ref::<TlsError>();
        let ours = ours.or_else(|| in_io.and_then(|inner| inner.downcast_ref::<TlsError>()));
        if let Some(TlsError(what)) = ours {
            return Some(what.clone());
        }
        next = source.source();
    }
    // The driver's own words, which have no type of their own.
    let text = error.to_string();
    text.starts_with("error performing TLS handshake").then(|| match error.source() {
        Some(cause) if cause.to_string() == "server does not support TLS" => {
            "the server does not speak TLS (ssl = off), and sslmode wants it".into()
        }
        Some(cause) => cause.to_string(),
        None => text,
    })
}

/// In this build nothing can.
#[cfg(not(feature = "tls"))]
pub(super) fn trouble(_: &postgres::Error) -> Option<String> {
    None
}
