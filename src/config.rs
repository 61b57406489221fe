//! The validated configuration: defaults, overridden by the file, overridden by the command line; values are
//! parsed here once, into types with units, and errors name the place they came from.
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::{self, Arguments, Exit};
use crate::instance::ProbeSettings;
use crate::verdict::{Limits, Path as TargetPath, Target};

mod allow;
mod connection;
mod conninfo;
mod environment;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod keywords;
pub mod options;
mod passfile;
mod resolve;
mod service;
pub mod spelling;
mod units;
mod uri;

pub use allow::Allow;
pub use connection::{ConnectionSettings, Endpoint, Keepalives, PasswordSource, SOCKET_DIRECTORIES, Secret};
pub use passfile::PassfileProblem;

use environment::{Environment, cause};
use options::{DEFAULT_FILE, DefaultValue, Name, OPTIONS, OptionInfo, quote};
use resolve::Given;

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

/// Everything the agent was told, validated.
#[derive(Debug, Clone)]
pub struct Config {
    /// How the agent runs.
    pub mode: Mode,
    /// HTTP addresses to listen on; empty: the default, `[::]:23267` or `0.0.0.0:23267` where IPv6 is off.
    pub listen: Vec<SocketAddr>,
    /// Where HAProxy's agent-check is answered; default nowhere.
    pub agent_listen: Option<SocketAddr>,
    /// How PostgreSQL is reached.
    pub connection: ConnectionSettings,
    /// Deadline of one check, connecting included; 10 ms to 60 s, default 2 s.
    pub timeout: Duration,
    /// How long one knock at the postmaster is good for; zero: it never knocks. 10 ms to 1 h, default 1 s.
    pub knock_interval: Duration,
    /// How old the session may get before a fresh login replaces it; zero: as old as it pleases. 500 ms to 1 h, default
    /// 2 s.
    pub login_interval: Duration,
    /// Threads of the fixed pool that answers; 1 to 64, default 4.
    pub workers: usize,
    /// Clients served at once; 1 to 10000, default 128.
    pub max_connections: usize,
    /// Who may ask; default everyone.
    pub allow: Allow,
    /// How far a standby may lag; default any distance.
    pub limits: Limits,
    /// What xinetd mode speaks on its socket; default HTTP.
    pub protocol: Protocol,
    /// While this file exists, the node drains; default `/run/pgsqlchk/drain`.
    pub drain_file: PathBuf,
    /// Xinetd mode on a listening socket: how long without a request before it exits; 1 s to 1 d, default 60 s.
    pub idle_exit: Duration,
    /// The least severe messages that are logged; default info.
    pub log_level: log::LevelFilter,
    /// Where the log goes; default stderr, syslog in xinetd mode.
    pub log_target: LogTarget,
    /// What check mode asks; default `/`.
    pub target: Target,
}

impl Config {
    /// Builds the configuration from `arguments` (program name first), the configuration file and the
    /// environment. `Err` is also how `--help` and `--version` end.
    pub fn load(arguments: impl Iterator<Item = OsString>) -> Result<Config, Exit> {
        build(cli::parse(arguments)?, &Environment::system()).map_err(Exit::bad_usage)
    }

    /// What a look at the instance needs.
    pub fn probe_settings(&self) -> ProbeSettings {
        ProbeSettings {
            connection: self.connection.clone(),
            timeout: self.timeout,
            knock_interval: self.knock_interval,
            login_interval: self.login_interval,
            drain_file: self.drain_file.clone(),
        }
    }
}

/// Where a value was given.
#[derive(Debug, Clone)]
enum Origin {
    Default,
    File { path: String, line: usize },
    CommandLine,
}

/// A value with the place where it was given.
struct Setting {
    name: Name,
    value: String,
    origin: Origin,
}

impl Setting {
    /// Parses the value; the error shows it, so this is not for values that hold a password.
    fn read<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, String> {
        parse(&self.value).map_err(|why| match self.origin {
            Origin::CommandLine => format!("{self} {}: {why}", quote(&self.value)),
            Origin::Default | Origin::File { .. } => format!("{self} = {}: {why}", quote(&self.value)),
        })
    }
}

/// The place, as errors begin: `--timeout`, `pgsqlchk.conf:12: timeout`.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Default => write!(f, "default of {}", self.name),
            Origin::File { path, line } => write!(f, "{path}:{line}: {}", self.name),
            Origin::CommandLine => write!(f, "--{}", self.name),
        }
    }
}

/// What the layers have said so far.
struct Draft {
    mode: Mode,
    listen: Vec<SocketAddr>,
    agent_listen: Option<SocketAddr>,
    dsn: Option<Given>,
    timeout: Duration,
    knock_interval: Duration,
    login_interval: Duration,
    workers: usize,
    max_connections: usize,
    allow: Allow,
    limits: Limits,
    protocol: Protocol,
    drain_file: PathBuf,
    idle_exit: Duration,
    log_level: log::LevelFilter,
    log_target: Option<LogTarget>,
    target: Target,
}

impl Draft {
    /// Lays `settings` over what is there. Every value is parsed, also one that a later layer overrides: a bad
    /// line in the file is better found now than on the day the option is taken off the command line.
    fn apply(&mut self, settings: &[Setting]) -> Result<(), String> {
        // A list of a later layer replaces the earlier one.
        if settings.iter().any(|setting| setting.name == Name::Listen) {
            self.listen.clear();
        }
        if settings.iter().any(|setting| setting.name == Name::Allow) {
            self.allow = Allow::default();
        }
        settings.iter().try_for_each(|setting| self.apply_one(setting))
    }

    fn apply_one(&mut self, setting: &Setting) -> Result<(), String> {
        match setting.name {
            Name::Mode => self.mode = setting.read(units::mode)?,
            Name::Listen => {
                let address = setting.read(|value| {
                    let address = units::listen(value)?;
                    // Port 0 is a different free port every time.
                    match address.port() != 0 && self.listen.contains(&address) {
                        true => Err("the address is given twice".into()),
                        false => Ok(address),
                    }
                })?;
                self.listen.push(address);
            }
            Name::AgentListen => self.agent_listen = Some(setting.read(units::listen)?),
            Name::Dsn => self.dsn = Some(Given::parse(&setting.value, setting.to_string())?),
            Name::Timeout => {
                self.timeout = setting.read(|value| units::duration(value, units::TIMEOUT, false))?
            }
            Name::KnockInterval => {
                self.knock_interval =
                    setting.read(|value| units::duration(value, units::KNOCK_INTERVAL, true))?;
            }
            Name::LoginInterval => {
                self.login_interval =
                    setting.read(|value| units::duration(value, units::LOGIN_INTERVAL, true))?;
            }
            Name::Workers => self.workers = setting.read(|value| units::number(value, units::WORKERS))?,
            Name::MaxConnections => {
                self.max_connections = setting.read(|value| units::number(value, units::MAX_CONNECTIONS))?;
            }
            Name::Allow => setting.read(|value| self.allow.add(value))?,
            Name::MaxLag => self.limits.bytes = Some(setting.read(spelling::size)?),
            Name::MaxLagTime => self.limits.time = Some(setting.read(spelling::duration)?),
            Name::Protocol => self.protocol = setting.read(units::protocol)?,
            Name::DrainFile => self.drain_file = setting.read(units::absolute_path)?,
            Name::IdleExit => {
                self.idle_exit = setting.read(|value| units::duration(value, units::IDLE_EXIT, false))?;
            }
            Name::LogLevel => self.log_level = setting.read(units::log_level)?,
            Name::LogTarget => self.log_target = Some(setting.read(units::log_target)?),
            Name::Target => self.target = setting.read(units::target)?,
            // They end the program or choose the file; the layers never hold them.
            Name::Config | Name::Version | Name::Help => {}
        }
        Ok(())
    }
}

/// The error is one line that a terminal can show, whatever stood in files and paths.
fn build(arguments: Arguments, environment: &Environment) -> Result<Config, String> {
    assemble(arguments, environment).map_err(|why| options::printable(&why))
}

fn assemble(arguments: Arguments, environment: &Environment) -> Result<Config, String> {
    let mut draft = Draft {
        mode: Mode::Standalone,
        listen: Vec::new(),
        agent_listen: None,
        dsn: None,
        timeout: Duration::ZERO,
        knock_interval: Duration::ZERO,
        login_interval: Duration::ZERO,
        workers: 0,
        max_connections: 0,
        allow: Allow::default(),
        limits: Limits::default(),
        protocol: Protocol::Http,
        drain_file: PathBuf::new(),
        idle_exit: Duration::ZERO,
        log_level: log::LevelFilter::Info,
        log_target: None,
        target: Target::plain(TargetPath::Contract),
    };
    draft.apply(&defaults())?;
    draft.apply(&from_file(arguments.config.as_deref(), environment)?)?;
    let typed = arguments.settings.into_iter();
    let typed = typed.map(|(name, value)| Setting { name, value, origin: Origin::CommandLine });
    draft.apply(&typed.collect::<Vec<_>>())?;
    // Port 0 is a different free port every time.
    if let Some(address) = draft.agent_listen.filter(|address| address.port() != 0)
        && draft.listen.contains(&address)
    {
        return Err(format!("agent-listen and listen are both {address}: each needs an address of its own"));
    }
    Ok(Config {
        mode: draft.mode,
        listen: draft.listen,
        agent_listen: draft.agent_listen,
        connection: resolve::resolve(draft.dsn, environment)?,
        timeout: draft.timeout,
        knock_interval: draft.knock_interval,
        login_interval: draft.login_interval,
        workers: draft.workers,
        max_connections: draft.max_connections,
        allow: draft.allow,
        limits: draft.limits,
        protocol: draft.protocol,
        drain_file: draft.drain_file,
        idle_exit: draft.idle_exit,
        log_level: draft.log_level,
        // In xinetd mode stderr is the client's socket.
        log_target: draft.log_target.unwrap_or(match draft.mode {
            Mode::Standalone | Mode::Check | Mode::Drain | Mode::Undrain => LogTarget::Stderr,
            Mode::Xinetd => LogTarget::Syslog,
        }),
        target: draft.target,
    })
}

/// The defaults that the help shows.
fn defaults() -> Vec<Setting> {
    let default = |option: &OptionInfo| match option.default {
        DefaultValue::Value(value) => {
            Some(Setting { name: option.name, value: value.to_owned(), origin: Origin::Default })
        }
        DefaultValue::Described(_) | DefaultValue::Nothing => None,
    };
    OPTIONS.iter().filter_map(default).collect()
}

/// The settings of the configuration file; the default one may be absent.
fn from_file(named: Option<&str>, environment: &Environment) -> Result<Vec<Setting>, String> {
    let path = named.unwrap_or(DEFAULT_FILE);
    let text = match (environment.read)(Path::new(path)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(format!("cannot read the configuration file {path}: {}", cause(&error))),
    };
    let lines = file::parse(&text).map_err(|why| format!("{path}:{why}"))?;
    let origin = |line| Origin::File { path: path.to_owned(), line };
    let setting =
        |line: file::Line| Setting { name: line.name, value: line.value, origin: origin(line.number) };
    Ok(lines.into_iter().map(setting).collect())
}

#[cfg(test)]
mod tests;
