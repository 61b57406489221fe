//! In the clear or over TLS, in the order in which libpq tries both (`select_next_encryption_method` in fe-connect.c): `allow`
//! speaks TLS where the server refuses a session in the clear, `prefer` does without where TLS fails or a session over TLS
//! is refused. On a Unix socket nobody speaks it.

use std::net::IpAddr;
use std::time::Duration;

use postgres::config::{ChannelBinding, SslMode, SslNegotiation};
use postgres::error::SqlState;
use postgres::{Client, Config, Error};

use super::super::address::Address;
use super::super::startup::TimeLimits;
use super::NotOpened;
use crate::config::{Choice, ConnectionSettings, Encryption, SslMode as Mode};
use crate::tls::postgresql::Connector;

/// How much of the time for a login the server may take for TLS: who waits for the login is to hear that it was TLS.
const SHARE_OF_HANDSHAKE: f32 = 0.75;

/// How one session is opened.
pub(crate) struct Channel<'a> {
    encryption: &'a Encryption,
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
        let encryption = &settings.encryption;
        let network = match address {
            Address::Unix { .. } => None,
            Address::Tcp(address) => Some(Network {
                encryption,
                address: address.ip(),
                limit: limits.connect.mul_f32(SHARE_OF_HANDSHAKE),
            }),
        };
        Channel { encryption, network }
    }

    /// Opens it.
    pub(crate) fn open(&self, config: &Config) -> Result<Client, NotOpened> {
        let mut config = config.clone();
        config.channel_binding(match self.encryption.channel_binding {
            Choice::Disable => ChannelBinding::Disable,
            Choice::Prefer => ChannelBinding::Prefer,
            Choice::Require => ChannelBinding::Require,
        });
        let (client, connector) = match &self.network {
            Some(network) => network.open(&config),
            None => in_the_clear(&config),
        };
        let client = client?;
        // libpq, too, looks at this once it is let in (`check_expected_areq` in fe-auth.c).
        if self.encryption.certificate_mode == Choice::Require && !connector.has_shown_certificate() {
            let what = "the server has let us in without asking for a certificate, or we have none (sslcertmode=require)";
            return Err(NotOpened::Unwanted(what.into()));
        }
        Ok(client)
    }
}

/// What came of it, and how far TLS was.
type Attempt = (Result<Client, Error>, Connector);

impl Network<'_> {
    fn open(&self, config: &Config) -> Attempt {
        match self.encryption.mode {
            Mode::Disable => in_the_clear(config),
            Mode::Allow => match in_the_clear(config) {
                (Err(error), _) if is_refused(&error) => self.over_tls(config, false),
                attempt => attempt,
            },
            Mode::Prefer => match self.over_tls(config, true) {
                (Err(error), connector)
                    if connector.has_begun() && (is_refused(&error) || is_tls(&error)) =>
                {
                    log::debug!("once more, without TLS: {error}");
                    match in_the_clear(config) {
                        // That there was no TLS is why.
                        (Err(refused), _) if is_refused(&refused) && is_tls(&error) => {
                            (Err(error), connector)
                        }
                        attempt => attempt,
                    }
                }
                attempt => attempt,
            },
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => self.over_tls(config, false),
        }
    }

    fn over_tls(&self, config: &Config, may_do_without: bool) -> Attempt {
        let connector = Connector::new(self.encryption, self.address, self.limit, may_do_without);
        let mut config = config.clone();
        // Whether, and how, is the connector's affair.
        config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        // The driver speaks TLS with a named host only; whose name it is, is our own affair.
        config.host(self.encryption.host.as_deref().unwrap_or("server"));
        (config.connect(connector.clone()), connector)
    }
}

/// The same type as over TLS, for the driver is compiled once for each.
fn in_the_clear(config: &Config) -> Attempt {
    let connector = Connector::none();
    (config.connect(connector.clone()), connector)
}

/// Before it had let us in, as far as can be told: by pg_hba.conf, for one, or by a pooler, which has codes of its own. Over the
/// other channel it may not be.
fn is_refused(error: &Error) -> bool {
    error.code().is_some_and(|code| !AFTER_AUTHENTICATION.contains(code))
}

/// What a server says of a database or its settings when it knows who is there (`InitPostgres` in postinit.c): libpq asks no
/// second time.
const AFTER_AUTHENTICATION: [SqlState; 6] = [
    SqlState::UNDEFINED_DATABASE,
    SqlState::INSUFFICIENT_PRIVILEGE,
    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
    SqlState::UNDEFINED_OBJECT,
    SqlState::INVALID_PARAMETER_VALUE,
    SqlState::CANT_CHANGE_RUNTIME_PARAM,
];

/// It has not come to a login.
fn is_tls(error: &Error) -> bool {
    super::trouble(error).is_some()
}
