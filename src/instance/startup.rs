//! What a login brings with it: where to, as whom, and the settings of the session.

use std::time::Duration;

use postgres::config::SslMode;
use postgres::error::SqlState;
use postgres::{Client, Config};

use super::address::Address;
use super::channel::{Channel, NotOpened};
use super::query;
use crate::config::{ConnectionSettings, Secret};

/// What the server is asked to do about a session over TCP whose client may be gone: a path that swallowed the end of
/// the connection, or cut it at the client's side only, would leave the session in the server until the system's
/// keepalive finds it, two hours later, and every failure of the path one more. 11 s now, also where nothing is sent.
const KEEPALIVE_IN_SERVER: &str =
    " -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3";

/// The same at the agent's end, where the administrator does not say otherwise. A server whose host vanishes, or whose
/// address moves away, once it has acknowledged a question leaves nothing to be sent again: who waits for the answer would
/// hang until the system's keepalive finds it, two hours later, and only a few may hang at a time.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_COUNT: u32 = 3;

/// From this version on a server can end sessions that are idle (`idle_session_timeout`), as ours is between two checks.
const KNOWS_IDLE_SESSION_TIMEOUT: u32 = 14_00_00;

/// How long a session may take for its beginning, and each of its questions.
#[derive(Clone, Copy)]
pub(super) struct TimeLimits {
    /// For the TCP connection alone: the driver bounds nothing else of a login.
    pub(super) connect: Duration,
    /// The server keeps to it, as `statement_timeout`.
    pub(super) statement: Duration,
}

/// What earlier logins taught about whoever answers them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Learned {
    /// A pooler that refuses settings at the login: it is not asked to take any again.
    takes_no_settings: bool,
    /// `server_version_num`.
    pub(super) version: Option<u32>,
}

/// The settings of a session that is the agent's own, after those of the administrator: nobody else gets it, so they may
/// last as long as it does. That it is told apart by one of them (see [`query::LOGIN`]) is how a pooler is noticed that
/// throws all of them away. Writing is forbidden for each query, not here: `default_transaction_read_only` is what
/// `/read-write` reads.
pub(super) fn own_settings(
    given: Option<&str>,
    address: &Address,
    limits: TimeLimits,
    version: Option<u32>,
) -> String {
    let keepalive = match address {
        Address::Unix { .. } => "",
        Address::Tcp(_) => KEEPALIVE_IN_SERVER,
    };
    let idle = match version {
        Some(version) if version >= KNOWS_IDLE_SESSION_TIMEOUT => " -c idle_session_timeout=0",
        // An older server refuses a login with a name it does not know.
        Some(_) | None => "",
    };
    format!(
        "{} -c {}=1 -c default_transaction_isolation=read\\ committed -c statement_timeout={}{keepalive}{idle}",
        given.unwrap_or_default(),
        query::OWN_SESSION,
        limit_ms(limits.statement),
    )
}

/// For a session of the agent's own whose limit changes while it lasts.
pub(super) fn limit_statements(limit: Duration) -> String {
    format!("SET statement_timeout = {}", limit_ms(limit))
}

/// Serializable transactions are an error on a standby, and `default_transaction_isolation` may ask for them.
pub(super) fn prelude_for_a_shared_session(statement_limit: Duration) -> String {
    format!(
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY; SET LOCAL statement_timeout = {}; ",
        limit_ms(statement_limit)
    )
}

/// Zero would mean "for ever".
fn limit_ms(limit: Duration) -> u128 {
    limit.as_millis().max(1)
}

/// Logs in with settings of one's own where they are taken, else without.
pub(super) fn log_in(
    channel: &Channel,
    plain: &Config,
    own: &str,
    learned: &mut Learned,
) -> Result<Client, NotOpened> {
    if !learned.takes_no_settings {
        let mut config = plain.clone();
        config.options(own);
        match channel.open(&config) {
            // "unsupported startup parameter": PgBouncer.
            Err(error) if error.code() == Some(&SqlState::PROTOCOL_VIOLATION) => {
                learned.takes_no_settings = true;
            }
            result => return result,
        }
    }
    channel.open(plain)
}

pub(super) fn login_config(
    settings: &ConnectionSettings,
    address: &Address,
    password: Option<Secret>,
    limits: TimeLimits,
) -> Config {
    // Zero would mean "for ever".
    let connect_limit = limits.connect.max(Duration::from_millis(1));
    let mut config = Config::new();
    match address {
        Address::Unix { directory, .. } => config.host_path(directory),
        Address::Tcp(address) => config.hostaddr(address.ip()),
    };
    config
        .port(settings.port)
        .user(&settings.user)
        .dbname(&settings.database)
        .application_name(&settings.application_name)
        // Unless the channel says otherwise.
        .ssl_mode(SslMode::Disable)
        .connect_timeout(settings.connect_timeout.map_or(connect_limit, |limit| limit.min(connect_limit)))
        // Lets the thread of an abandoned session end where the network swallows everything.
        .tcp_user_timeout(settings.tcp_user_timeout.unwrap_or(limits.statement))
        .keepalives(settings.keepalives.enabled)
        .keepalives_idle(settings.keepalives.idle.unwrap_or(KEEPALIVE_IDLE))
        .keepalives_interval(settings.keepalives.interval.unwrap_or(KEEPALIVE_INTERVAL))
        .keepalives_retries(settings.keepalives.count.unwrap_or(KEEPALIVE_COUNT))
        .notice_callback(|notice| log::debug!("notice from the server: {}", notice.message()));
    if let Some(options) = &settings.options {
        config.options(options);
    }
    if let Some(password) = password {
        config.password(password.reveal());
    }
    config
}
