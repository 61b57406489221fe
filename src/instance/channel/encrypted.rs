//! In the clear or over TLS, in the order in which libpq tries both (`select_next_encryption_method` in fe-connect.c): `allow`
//! speaks TLS where the server refuses a session in the clear, `prefer` does without where TLS fails or a session over TLS
//! is refused. On a Unix socket nobody speaks it.

use std::time::Duration;

use postgres::config::{ChannelBinding, SslMode, SslNegotiation};
use postgres::{Client, Config, Error};

use super::super::address::Address;
use super::super::startup::TimeLimits;
use crate::config::{Choice, ConnectionSettings, Encryption, SslMode as Mode};
use crate::tls::postgresql::Connector;

/// How one session is opened.
pub(crate) struct Channel {
    mode: Mode,
    /// `None` on a Unix socket.
    encryption: Option<(Encryption, std::net::IpAddr)>,
    limit: Duration,
}

impl Channel {
    pub(crate) fn to(settings: &ConnectionSettings, address: &Address, limits: TimeLimits) -> Channel {
        let encryption = match address {
            Address::Unix { .. } => None,
            Address::Tcp(address) => Some((settings.encryption.clone(), address.ip())),
        };
        let mode = encryption.as_ref().map_or(Mode::Disable, |(encryption, _)| encryption.mode);
        Channel { mode, encryption, limit: limits.connect }
    }

    /// Opens it.
    pub(crate) fn open(&self, config: &Config) -> Result<Client, Error> {
        match self.mode {
            Mode::Disable => self.in_the_clear(config),
            Mode::Allow => match self.in_the_clear(config) {
                Err(error) if is_refused(&error) => self.over_tls(config, SslMode::Require).0,
                result => result,
            },
            Mode::Prefer => match self.over_tls(config, SslMode::Prefer) {
                (Err(error), true) if is_refused(&error) || is_tls(&error) => {
                    log::debug!("once more, without TLS: {error}");
                    match self.in_the_clear(config) {
                        // That there was no TLS is why.
                        Err(refused) if is_refused(&refused) && is_tls(&error) => Err(error),
                        result => result,
                    }
                }
                (result, _) => result,
            },
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => self.over_tls(config, SslMode::Require).0,
        }
    }

    fn in_the_clear(&self, config: &Config) -> Result<Client, Error> {
        let mut config = config.clone();
        config.ssl_mode(SslMode::Disable).channel_binding(self.binding());
        // The same type as over TLS, for the driver is compiled once for each.
        config.connect(Connector::none())
    }

    /// And whether it came to TLS.
    fn over_tls(&self, config: &Config, mode: SslMode) -> (Result<Client, Error>, bool) {
        let Some((encryption, address)) = &self.encryption else { return (self.in_the_clear(config), false) };
        let connector = Connector::new(encryption, *address, self.limit);
        let mut config = config.clone();
        config.ssl_mode(mode).channel_binding(self.binding());
        // The driver speaks TLS with a named host only; whose name it is, is our own affair.
        config.host(encryption.host.as_deref().unwrap_or("server"));
        if encryption.is_direct {
            config.ssl_negotiation(SslNegotiation::Direct);
        }
        let result = config.connect(connector.clone());
        (result, connector.has_begun())
    }

    fn binding(&self) -> ChannelBinding {
        match self.encryption.as_ref().map(|(encryption, _)| encryption.channel_binding) {
            Some(Choice::Disable) => ChannelBinding::Disable,
            Some(Choice::Require) => ChannelBinding::Require,
            Some(Choice::Prefer) | None => ChannelBinding::Prefer,
        }
    }
}

/// By pg_hba.conf, for one; the same over the other channel may not be.
fn is_refused(error: &Error) -> bool {
    error.code().is_some_and(|code| code.code().starts_with("28"))
}

/// It has not come to a login.
fn is_tls(error: &Error) -> bool {
    super::trouble(error).is_some()
}
