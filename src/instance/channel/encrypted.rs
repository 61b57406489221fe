//! In the clear or over TLS, in the order in which libpq tries both (`select_next_encryption_method` in fe-connect.c): `allow`
//! speaks TLS where the server refuses a session in the clear, `prefer` does without where TLS fails or a session over TLS
//! is refused. On a Unix socket nobody speaks it.

use std::net::IpAddr;
use std::time::Duration;

use postgres::config::{ChannelBinding, SslMode, SslNegotiation};
use postgres::{Client, Config, Error};

use super::super::address::Address;
use super::super::startup::TimeLimits;
use crate::config::{Choice, ConnectionSettings, Encryption, SslMode as Mode};
use crate::tls::postgresql::Connector;

/// How one session is opened.
pub(crate) struct Channel<'a> {
    /// `None` on a Unix socket.
    network: Option<Network<'a>>,
}

/// A way on which TLS may be spoken.
struct Network<'a> {
    encryption: &'a Encryption,
    address: IpAddr,
    limit: Duration,
}

impl Channel<'_> {
    pub(crate) fn to<'a>(
        settings: &'a ConnectionSettings,
        address: &Address,
        limits: TimeLimits,
    ) -> Channel<'a> {
        let network = match address {
            Address::Unix { .. } => None,
            Address::Tcp(address) => Some(Network {
                encryption: &settings.encryption,
                address: address.ip(),
                limit: limits.connect,
            }),
        };
        Channel { network }
    }

    /// Opens it.
    pub(crate) fn open(&self, config: &Config) -> Result<Client, Error> {
        let Some(network) = &self.network else { return in_the_clear(config) };
        let mut config = config.clone();
        config.channel_binding(match network.encryption.channel_binding {
            Choice::Disable => ChannelBinding::Disable,
            Choice::Prefer => ChannelBinding::Prefer,
            Choice::Require => ChannelBinding::Require,
        });
        network.open(&config)
    }
}

impl Network<'_> {
    fn open(&self, config: &Config) -> Result<Client, Error> {
        match self.encryption.mode {
            Mode::Disable => in_the_clear(config),
            Mode::Allow => match in_the_clear(config) {
                Err(error) if is_refused(&error) => self.over_tls(config, SslMode::Require).0,
                result => result,
            },
            Mode::Prefer => match self.over_tls(config, SslMode::Prefer) {
                (Err(error), true) if is_refused(&error) || is_tls(&error) => {
                    log::debug!("once more, without TLS: {error}");
                    match in_the_clear(config) {
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

    /// And whether it came to TLS.
    fn over_tls(&self, config: &Config, mode: SslMode) -> (Result<Client, Error>, bool) {
        let connector = Connector::new(self.encryption, self.address, self.limit);
        let mut config = config.clone();
        config.ssl_mode(mode);
        // The driver speaks TLS with a named host only; whose name it is, is our own affair.
        config.host(self.encryption.host.as_deref().unwrap_or("server"));
        if self.encryption.is_direct {
            config.ssl_negotiation(SslNegotiation::Direct);
        }
        let result = config.connect(connector.clone());
        (result, connector.has_begun())
    }
}

/// The same type as over TLS, for the driver is compiled once for each.
fn in_the_clear(config: &Config) -> Result<Client, Error> {
    config.connect(Connector::none())
}

/// By pg_hba.conf, for one; the same over the other channel may not be.
fn is_refused(error: &Error) -> bool {
    error.code().is_some_and(|code| code.code().starts_with("28"))
}

/// It has not come to a login.
fn is_tls(error: &Error) -> bool {
    super::trouble(error).is_some()
}
