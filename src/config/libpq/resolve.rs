//! Brings the connection parameters together: given ones, then the service's, then the environment's, then
//! the defaults (libpq's `conninfo_add_defaults`), and turns them into [`ConnectionSettings`].
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::connection::{
    ConnectionSettings, DEFAULT_APPLICATION_NAME, DEFAULT_DATABASE, DEFAULT_PORT, Endpoint, Keepalives,
    PasswordSource,
};
use super::environment::Environment;
use super::keywords::{KEYWORDS, Keyword, ONE_INSTANCE, Rule};
use super::secret::Secret;
use super::{conninfo, service};
use crate::spelling::quote;

/// What fits into `sockaddr_un` (unix(7)), the final NUL apart.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// A connection string that has been read, with the place where it stood.
#[derive(Clone, PartialEq)]
pub struct Given {
    parameters: Vec<(&'static Keyword, String)>,
    place: String,
}

/// A connection string may hold a password.
impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given(***)")
    }
}

impl Given {
    /// Reads a connection string; `place` is `--dsn` or `<path>:<line>: dsn`.
    pub fn parse(text: &str, place: String) -> Result<Given, String> {
        match conninfo::parse(text) {
            Ok(parameters) => Ok(Given { parameters, place }),
            Err(why) => Err(format!("{place}: {why}")),
        }
    }
}

/// One parameter and where it came from.
pub(super) struct Parameter {
    keyword: &'static Keyword,
    pub(super) value: String,
    /// How errors name it: `--dsn: port`, `pg_service.conf:3: port`, `PGPORT`.
    origin: String,
    /// Whether errors may show the value: not out of a connection string, where a wrongly quoted password can
    /// end up in any parameter.
    shown: bool,
}

impl Parameter {
    /// Of a value that cannot be.
    pub(super) fn error(&self, why: &str) -> String {
        match self.shown {
            true => format!("{}: {} {why}", self.origin, quote(&self.value)),
            false => format!("{}: the value {why}", self.origin),
        }
    }

    /// Of one that can be, and is not followed here.
    pub(super) fn refused(&self, why: &str) -> String {
        format!("{}: {why}", self.origin)
    }

    /// Applies the keyword's rule.
    fn check(&self) -> Result<(), String> {
        let value = self.value.as_str();
        match self.keyword.rule {
            Rule::Used | Rule::Ignored => Ok(()),
            Rule::OneOf { fine, .. } | Rule::Only { fine, .. } if fine.contains(&value) => Ok(()),
            Rule::OneOf { refused, why, .. } if refused.contains(&value) => match why {
                Some(why) => Err(format!("{}={value}: {why}", self.origin)),
                None => Ok(()),
            },
            Rule::OneOf { fine, refused, .. } => {
                Err(self.error(&format!("is not one of {}", [fine, refused].concat().join(", "))))
            }
            Rule::Only { why, .. } => Err(self.refused(why)),
            Rule::Not { refused, why } if refused == value => Err(format!("{}={value}: {why}", self.origin)),
            Rule::Not { .. } => Ok(()),
        }
    }

    /// A number in libpq's reading: white space around it and a sign are allowed.
    fn integer(&self) -> Result<i32, String> {
        let digits = self
            .value
            .trim_matches(|character: char| character.is_ascii_whitespace() || character == '\u{b}');
        digits.parse().map_err(|_| self.error("is not a whole number"))
    }
}

/// The parameters by keyword.
pub(super) struct Parameters(BTreeMap<&'static str, Parameter>);

impl Parameters {
    /// Where the parameter has not been given yet, takes this one.
    fn offer(&mut self, parameter: Parameter) {
        self.0.entry(parameter.keyword.name).or_insert(parameter);
    }

    pub(super) fn given(&self, keyword: &str) -> Option<&Parameter> {
        self.0.get(keyword)
    }

    /// For parameters where an empty value means the default.
    pub(super) fn non_empty(&self, keyword: &str) -> Option<&Parameter> {
        self.given(keyword).filter(|parameter| !parameter.value.is_empty())
    }

    /// The same, for one that libpq would take a list of.
    fn single(&self, keyword: &str) -> Result<Option<&Parameter>, String> {
        match self.non_empty(keyword) {
            Some(several) if several.value.contains(',') => {
                Err(several.error(&format!("is a list: {ONE_INSTANCE}")))
            }
            other => Ok(other),
        }
    }

    pub(super) fn text(&self, keyword: &str) -> Option<String> {
        self.non_empty(keyword).map(|parameter| parameter.value.clone())
    }

    /// A number of which zero and less mean the default.
    fn positive(&self, keyword: &str) -> Result<Option<u32>, String> {
        let number = self.given(keyword).map(Parameter::integer).transpose()?;
        Ok(number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0))
    }

    fn seconds(&self, keyword: &str) -> Result<Option<Duration>, String> {
        Ok(self.positive(keyword)?.map(|seconds| Duration::from_secs(seconds.into())))
    }
}

/// Applies the service, the environment and the defaults to what was given.
pub fn resolve(given: Option<Given>, environment: &Environment) -> Result<ConnectionSettings, String> {
    let parameters = collect(given, environment)?;
    parameters.0.values().try_for_each(Parameter::check)?;
    let port = match parameters.single("port")? {
        Some(port) => port
            .integer()
            .ok()
            .and_then(|number| u16::try_from(number).ok())
            .filter(|number| *number > 0)
            .ok_or_else(|| port.error("is not a port (1 to 65535)"))?,
        None => DEFAULT_PORT,
    };
    let user = match parameters.text("user").or_else(environment.user) {
        Some(user) => user,
        None => {
            return Err("the operating system has no name for this user: set user= in --dsn or PGUSER".into());
        }
    };
    // As in libpq, an empty application_name is one, and hides the fallback.
    let application_name = parameters.given("application_name").map(|name| name.value.clone());
    let application_name = application_name.or_else(|| parameters.text("fallback_application_name"));
    Ok(ConnectionSettings {
        endpoint: endpoint(&parameters, port)?,
        port,
        user,
        database: parameters.text("dbname").unwrap_or_else(|| DEFAULT_DATABASE.into()),
        password: password(&parameters, environment),
        application_name: application_name.unwrap_or_else(|| DEFAULT_APPLICATION_NAME.into()),
        options: parameters.text("options"),
        connect_timeout: parameters.seconds("connect_timeout")?,
        keepalives: Keepalives {
            enabled: parameters.given("keepalives").map(Parameter::integer).transpose()? != Some(0),
            idle: parameters.seconds("keepalives_idle")?,
            interval: parameters.seconds("keepalives_interval")?,
            count: parameters.positive("keepalives_count")?,
        },
        tcp_user_timeout: parameters.positive("tcp_user_timeout")?.map(|ms| Duration::from_millis(ms.into())),
        #[cfg(feature = "tls")]
        encryption: super::encryption::Encryption::of(&parameters, environment)?,
    })
}

/// Parameters whose values hold nothing that is secret.
const HARMLESS: [&str; 17] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "dbname",
    "passfile",
    "service",
    "servicefile",
    "connect_timeout",
    "application_name",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslcrl",
    "channel_binding",
];

/// Each parameter that counts with its place, for people: `PGPORT = 5433`. The others' values are `***`.
pub fn told(given: Option<Given>, environment: &Environment) -> Result<Vec<String>, String> {
    let parameters = collect(given, environment)?;
    let in_words = |parameter: &Parameter| {
        let is_harmless = HARMLESS.contains(&parameter.keyword.name) && !parameter.value.contains('@');
        let value = if is_harmless { quote(&parameter.value) } else { "***".into() };
        format!("{} = {value}", parameter.origin)
    };
    Ok(parameters.0.values().map(in_words).collect())
}

fn collect(given: Option<Given>, environment: &Environment) -> Result<Parameters, String> {
    let mut parameters = Parameters(BTreeMap::new());
    if let Some(Given { parameters: given, place }) = given {
        // The last one of a kind counts, and `offer` keeps the first.
        for (keyword, value) in given.into_iter().rev() {
            parameters.offer(Parameter {
                keyword,
                value,
                origin: format!("{place}: {}", keyword.name),
                shown: false,
            });
        }
    }
    let mut variables = BTreeMap::new();
    for keyword in KEYWORDS {
        let Some(name) = keyword.variable else { continue };
        if let Some(value) = environment.variable(name)? {
            let parameter =
                Parameter { keyword, value: value.to_owned(), origin: name.to_owned(), shown: true };
            variables.insert(keyword.name, parameter);
        }
    }
    // The service outranks the variables, so those that name it are looked at first.
    let either = |keyword: &str| parameters.given(keyword).or(variables.get(keyword));
    if let Some(service) = either("service") {
        let file = either("servicefile").map(|file| file.value.as_str());
        let entries = service::look_up(&service.value, file, environment)
            .map_err(|why| format!("{}: {why}", service.origin))?;
        for service::Entry { keyword, value, place } in entries {
            let origin = format!("{place}: {}", keyword.name);
            parameters.offer(Parameter { keyword, value, origin, shown: true });
        }
    }
    variables.into_values().for_each(|variable| parameters.offer(variable));
    Ok(parameters)
}

fn endpoint(parameters: &Parameters, port: u16) -> Result<Endpoint, String> {
    let host = parameters.single("host")?;
    if let Some(hostaddr) = parameters.single("hostaddr")? {
        let address: IpAddr = hostaddr.value.parse().map_err(|_| hostaddr.error("is not an IP address"))?;
        // libpq connects to the address whatever the host is; a directory can then only be a left-over.
        let host = host.filter(|host| !host.value.starts_with('/')).map(|host| host.value.clone());
        return Ok(Endpoint::Tcp { host, address: Some(address) });
    }
    match host {
        None => Ok(Endpoint::DefaultSocket),
        Some(host) if host.value.starts_with('/') => {
            let path = format!("{}/.s.PGSQL.{port}", host.value);
            if path.len() > MAX_SOCKET_PATH_BYTES {
                let why = format!("makes the socket's path longer than {MAX_SOCKET_PATH_BYTES} bytes");
                return Err(host.error(&why));
            }
            Ok(Endpoint::UnixDirectory(PathBuf::from(&host.value)))
        }
        Some(host) if host.value.starts_with('@') => {
            Err(host.error("is an abstract socket, which this agent cannot reach: name a socket directory"))
        }
        // libpq would look it up, and we would log it as a name that does not resolve.
        Some(host) if host.value.contains('@') => {
            Err(host.error("contains \"@\", which no host name does (in a password it is written %40)"))
        }
        Some(host) => Ok(Endpoint::Tcp { host: Some(host.value.clone()), address: host.value.parse().ok() }),
    }
}

fn password(parameters: &Parameters, environment: &Environment) -> PasswordSource {
    if let Some(password) = parameters.text("password") {
        return PasswordSource::Given(Secret::new(password.into_bytes()));
    }
    let passfile = parameters.text("passfile").map(PathBuf::from);
    match passfile.or_else(|| Some(environment.home.as_ref()?.join(".pgpass"))) {
        Some(path) => PasswordSource::Passfile(path),
        None => PasswordSource::None,
    }
}

#[cfg(test)]
mod tests;
