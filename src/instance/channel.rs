//! What a session with PostgreSQL goes over.

#[cfg(feature = "tls")]
mod encrypted;
#[cfg(not(feature = "tls"))]
mod plain;

#[cfg(feature = "tls")]
pub(super) use encrypted::Channel;
#[cfg(not(feature = "tls"))]
pub(super) use plain::Channel;

use postgres::Error;
use postgres::error::SqlState;

/// Why there is no session.
pub(super) enum NotOpened {
    /// What the driver says.
    Driver(Error),
    /// It is there, and the parameters do not want it so.
    #[cfg(feature = "tls")]
    Unwanted(String),
}

impl NotOpened {
    /// What the server has answered with.
    pub(super) fn code(&self) -> Option<&SqlState> {
        match self {
            NotOpened::Driver(error) => error.code(),
            #[cfg(feature = "tls")]
            NotOpened::Unwanted(_) => None,
        }
    }
}

impl From<Error> for NotOpened {
    fn from(error: Error) -> NotOpened {
        NotOpened::Driver(error)
    }
}

/// What went wrong with TLS, if that is what went wrong.
#[cfg(feature = "tls")]
pub(super) fn trouble(error: &Error) -> Option<String> {
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
    None
}

/// In this build nothing can.
#[cfg(not(feature = "tls"))]
pub(super) fn trouble(_: &Error) -> Option<String> {
    None
}
