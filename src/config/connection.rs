//! How PostgreSQL is reached: libpq's connection parameters after every default has been applied.
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A password. `Debug` shows `***`, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The password itself, for the login and nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where the instance listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// Nothing was said: the first existing socket of the usual directories, searched at every connect.
    DefaultSocket,
    /// The directory that holds `.s.PGSQL.<port>`.
    UnixDirectory(PathBuf),
    /// TCP: `address` saves the look-up of `host`; at least one of them is given.
    Tcp {
        /// The name to look up and to match in the passfile (libpq's `host`).
        host: Option<String>,
        /// The numeric address to connect to (libpq's `hostaddr`).
        address: Option<IpAddr>,
    },
}

/// Where the password comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// It was given (`password=`, PGPASSWORD).
    Given(Secret),
    /// This passfile is searched at every login.
    Passfile(PathBuf),
    /// There is none: no password was given and no home directory that could hold a passfile is known.
    None,
}

/// TCP keepalive (libpq's `keepalives*`); `None`: the system's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keepalives {
    /// Whether keepalive probes are sent at all.
    pub enabled: bool,
    /// Idle time before the first probe.
    pub idle: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
    /// Lost probes before the connection counts as dead.
    pub count: Option<u32>,
}

/// A passfile that had to be ignored; its `Display` is one line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassfileProblem(String);

impl fmt::Display for PassfileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How to connect and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// Where the instance listens.
    pub endpoint: Endpoint,
    /// TCP port, also the number in the socket's file name; default 5432.
    pub port: u16,
    /// The role; default: the name of the operating system's user.
    pub user: String,
    /// Default `postgres`, not the role's name as in libpq: the agent needs any database that surely exists.
    pub database: String,
    /// Where the password comes from.
    pub password: PasswordSource,
    /// Default `pgsqlchk`.
    pub application_name: String,
    /// Command-line options for the backend.
    pub options: Option<String>,
    /// Limit for connecting; the check's own deadline holds beside it. Default none.
    pub connect_timeout: Option<Duration>,
    /// TCP keepalive.
    pub keepalives: Keepalives,
    /// How long sent data may stay unacknowledged on TCP. Default: the system's.
    pub tcp_user_timeout: Option<Duration>,
}

impl ConnectionSettings {
    /// The directory of the Unix socket to connect to now; `None` over TCP. Call it at every connect: the
    /// instance may have started since, and then its socket may be in another of the usual directories.
    pub fn locate(&self) -> Option<PathBuf> {
        None
    }

    /// The socket's file, `<directory>/.s.PGSQL.<port>`, as of now; `None` over TCP.
    pub fn socket_path(&self) -> Option<PathBuf> {
        Some(self.locate()?.join(format!(".s.PGSQL.{}", self.port)))
    }

    /// The password to log in with. The passfile is read at every call, so a rotated password is picked up
    /// without a restart. A problem is worth one warning; the login then goes on without a password.
    pub fn look_up_password(&self) -> Result<Option<Secret>, PassfileProblem> {
        Ok(None)
    }
}
