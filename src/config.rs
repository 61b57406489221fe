//! The validated configuration: values are parsed here once, into types with units, and errors name the place they came
//! from.
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use crate::cli::{Arguments, Exit};
use crate::spelling;
use crate::tls::{Door, PeerTls};
use crate::verdict::{Limits, Path, Standing, Tag, Target};

mod allow;
mod examination;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod host_port;
mod layers;
mod libpq;
mod named_instance;
pub mod options;
mod peer;
mod pooler;
pub(crate) mod suggestion;
pub(crate) mod table;
#[cfg(feature = "tls")]
mod tls_port;
mod units;

pub use crate::cli::Wait;
pub use allow::Allow;
pub use examination::{Examined, examine};
pub use host_port::HostPort;
#[cfg(feature = "tls")]
pub use libpq::{Authorities, Choice, Encryption, SslMode};
pub use libpq::{
    ConnectionSettings, Endpoint, Keepalives, PassfileProblem, PasswordSource, SOCKET_DIRECTORIES, Secret,
    is_libpq_keyword, value_of,
};

pub use peer::{MAX_PEERS, PeerAddress};
pub use pooler::{MAX_POOLERS, PoolerAddress};

#[cfg(feature = "tls")]
pub(crate) use libpq::cause as cause_of_io;
use libpq::{Environment, Given};
use table::option_table;

/// How the agent runs (`--mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Listens itself until it is told to stop.
    Standalone,
    /// Serves the socket that is its standard input, as inetd, xinetd and systemd hand it over.
    Xinetd,
    /// Looks once, says what it saw, and exits.
    Check,
    /// Creates the drain file, and exits.
    Drain,
    /// Removes the drain file, and exits.
    Undrain,
    /// Asks all peers once, says what they are, and exits.
    Cluster,
    /// Looks at everything that can be wrong, says what to do about it, and exits.
    Doctor,
}

impl Mode {
    /// The words of all modes: values of `--mode`, and actions on the command line.
    pub const WORDS: [&str; 7] = ["standalone", "xinetd", "check", "drain", "undrain", "cluster", "doctor"];
}

/// What is spoken on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP.
    Http,
    /// HAProxy's agent-check: one line in, one line out.
    Agent,
}

/// Where the log goes (`--log-target`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error.
    Stderr,
    /// The local syslog, `/dev/log`.
    Syslog,
    /// Nowhere.
    None,
}

/// In which words `pgsqlchk check` answers (`--format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One line for people and scripts, with the exit codes of `pg_isready`'s kind.
    Text,
    /// As the guidelines of monitoring plugins have it.
    Nagios,
}

macro_rules! make_options {
    ($(
        $(#[doc = $doc:literal])+
        $visibility:vis $field:ident: $type:ty = $unset:expr, { word: $word:literal, $($entry:tt)* }
    )+) => {
        /// What the options say, each by itself.
        #[derive(Debug, Clone)]
        pub struct Options {
            $($(#[doc = $doc])+ $visibility $field: $type,)+
        }

        impl Options {
            /// Nobody has said anything yet, not even the defaults.
            fn unset() -> Options {
                Options { $($field: $unset,)+ }
            }

            /// Each option's word, and whether it says another thing there.
            fn differ_from(&self, other: &Options) -> Vec<(&'static str, bool)> {
                vec![$(($word, self.$field != other.$field),)+]
            }
        }
    };
}
option_table!(make_options);

impl Options {
    /// Under which rules requests are read.
    pub fn standing(&self) -> Standing {
        Standing {
            limits: Limits { bytes: self.max_lag, time: self.max_lag_time },
            root: self.root_path,
            tags: self.tag.clone(),
        }
    }
}

/// Everything the agent was told, validated. Its options are read as if they were fields of its own.
#[derive(Debug, Clone)]
pub struct Config {
    options: Options,
    /// What it was built from, beside files and environment.
    arguments: Arguments,
    /// How PostgreSQL is reached. In drain and undrain mode what holds where nothing was said, unless somebody waits: nobody
    /// else connects.
    pub connection: ConnectionSettings,
    /// Why `connection` could not be made out; in drain mode only, which goes on without.
    pub connection_problem: Option<String>,
    /// Whether `pgsqlchk drain` waits, and how long.
    pub wait: Option<Wait>,
    /// What `pgsqlchk check` asks.
    pub asked: Target,
    /// How peers are asked over TLS; `None` where none is, or nobody asks.
    pub peer_tls: Option<PeerTls>,
    /// What HTTPS clients are met with, where the agent is to run.
    pub tls: Option<Door>,
}

impl Deref for Config {
    type Target = Options;

    fn deref(&self) -> &Options {
        &self.options
    }
}

impl Config {
    /// Builds the configuration from what was typed, the configuration file and the environment.
    pub fn load(arguments: Arguments) -> Result<Config, Exit> {
        // Root drains, and the agent logs in.
        let environment = match arguments.wait {
            Some(_) => Environment::of_agent(),
            None => Environment::system(),
        };
        build(arguments, &environment).map_err(Exit::bad_usage)
    }

    /// Reads files and environment once more, with the same arguments.
    pub fn load_again(&self) -> Result<Config, Exit> {
        Config::load(self.arguments.clone())
    }

    /// The words of the options that say another thing than in `before`, in the order of the help. What PostgreSQL's own
    /// variables and files say of the connection counts as `dsn`, and what certificates say as the file they are in.
    pub fn changes_since(&self, before: &Config) -> Vec<&'static str> {
        let is_elsewhere = self.connection != before.connection;
        // Other certificates may stand in the same files.
        let mut files = match (&self.tls, &before.tls) {
            (Some(now), Some(before)) => now.changes_since(before),
            (Some(_) | None, _) => Vec::new(),
        };
        if let (Some(now), Some(before)) = (&self.peer_tls, &before.peer_tls) {
            files.extend(now.changes_since(before));
        }
        let changed = self.options.differ_from(&before.options).into_iter();
        changed
            .filter_map(|(word, differs)| {
                (differs || (word == "dsn" && is_elsewhere) || files.contains(&word)).then_some(word)
            })
            .collect()
    }

    /// Where the log goes; default stderr, which in xinetd mode is the client's socket: there the syslog.
    pub fn log_target(&self) -> LogTarget {
        self.log_target.unwrap_or(match self.mode {
            Mode::Standalone | Mode::Check | Mode::Drain | Mode::Undrain | Mode::Cluster | Mode::Doctor => {
                LogTarget::Stderr
            }
            Mode::Xinetd => LogTarget::Syslog,
        })
    }
}

/// The configuration file that was named, by `--config` or `--instance`, or else the default one. A name that no instance can
/// have names none.
pub fn file_named_by(arguments: &Arguments) -> String {
    let of_instance = arguments.instance.as_deref().and_then(|name| named_instance::files(name).ok());
    let named = of_instance.map(|files| files.config).or_else(|| arguments.config.clone());
    named.unwrap_or_else(|| options::DEFAULT_FILE.to_owned())
}

/// The error is one line that a terminal can show, whatever stood in files and paths.
fn build(arguments: Arguments, environment: &Environment) -> Result<Config, String> {
    assemble(arguments, environment).map_err(|why| spelling::printable(&why))
}

fn assemble(arguments: Arguments, environment: &Environment) -> Result<Config, String> {
    let (mut options, asks_haproxy, wait) = (Options::unset(), arguments.haproxy, arguments.wait);
    let typed = arguments.clone();
    layers::apply_all(&mut options, arguments, environment)?;
    if asks_haproxy && options.mode != Mode::Doctor {
        return Err("--haproxy is said to pgsqlchk doctor only".into());
    }
    // Port 0 is a different free port every time.
    if let Some(address) = options.agent_listen.filter(|address| address.port() != 0)
        && options.listen.contains(&address)
    {
        return Err(format!("agent-listen and listen are both {address}: each needs an address of its own"));
    }
    if options.min_peers > options.peer.len() {
        let (wanted, named) = (options.min_peers, options.peer.len());
        return Err(format!(
            "min-peers is {wanted}, and peer names only {named}: no primary could ever be verified"
        ));
    }
    #[cfg(feature = "tls")]
    let tls = tls_port::read(&options)?;
    #[cfg(not(feature = "tls"))]
    let tls = None;
    // Only now is it known what `/` stands for.
    let asked = units::target(&options.target, &options.standing())
        .map_err(|why| format!("target {}: {why}", spelling::quote(&options.target)))?;
    if wait.is_some() && options.mode != Mode::Drain {
        return Err("--wait goes with pgsqlchk drain alone".into());
    }
    let (connection, connection_problem) = match (options.mode, wait) {
        // Whoever presses the switch need not be able to read what the agent reads.
        (Mode::Drain | Mode::Undrain, None) => (ConnectionSettings::unsaid(), None),
        (Mode::Drain | Mode::Undrain, Some(_)) => match libpq::resolve(options.dsn.take(), environment) {
            Ok(connection) => (connection, None),
            Err(why) => (ConnectionSettings::unsaid(), Some(spelling::printable(&why))),
        },
        (Mode::Standalone | Mode::Xinetd | Mode::Check | Mode::Cluster | Mode::Doctor, _) => {
            (libpq::resolve(options.dsn.take(), environment)?, None)
        }
    };
    let peer_tls = match options.mode {
        Mode::Drain | Mode::Undrain => None,
        Mode::Standalone | Mode::Xinetd | Mode::Check | Mode::Cluster | Mode::Doctor => {
            PeerTls::for_options(&options)?
        }
    };
    Ok(Config { options, arguments: typed, connection, connection_problem, wait, asked, peer_tls, tls })
}

#[cfg(test)]
mod tests;
