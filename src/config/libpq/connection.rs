//! How PostgreSQL is reached: libpq's connection parameters after every default has been applied.
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;

use super::passfile::{self, Login, PassfileProblem};
use super::secret::Secret;

/// Where the instance's socket is looked for when no host is given: Debian's and Red Hat's directory, its old
/// name, and PostgreSQL's own default.
pub const SOCKET_DIRECTORIES: [&str; 3] = ["/run/postgresql", "/var/run/postgresql", SHARED_DIRECTORY];

/// Where every user can put a socket: while PostgreSQL is down, also one that says it is PostgreSQL's. Unless the
/// administrator has named the directory, the socket's owner has to be somebody who runs a server.
const SHARED_DIRECTORY: &str = "/tmp";

/// Whom PostgreSQL's packages run the server as.
const SERVER_USER: &str = "postgres";

/// Not the role's name as in libpq: a role made for the agent seldom has a database of its name.
pub(super) const DEFAULT_DATABASE: &str = "postgres";
pub(super) const DEFAULT_PORT: u16 = 5432;
pub(super) const DEFAULT_APPLICATION_NAME: &str = "pgsqlchk";

/// Where the instance listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// Nothing was said: the first existing socket of [`SOCKET_DIRECTORIES`], searched at every connect.
    DefaultSocket,
    /// The directory that holds `.s.PGSQL.<port>`.
    UnixDirectory(PathBuf),
    /// TCP. At least one of the two is given.
    Tcp {
        /// The name to look up, and to match in the passfile (libpq's `host`).
        host: Option<String>,
        /// The address to connect to without a look-up (libpq's `hostaddr`, or a `host` that is numeric).
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
    /// Whether keepalive probes are sent at all; default yes.
    pub enabled: bool,
    /// Idle time before the first probe.
    pub idle: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
    /// Lost probes before the connection counts as dead.
    pub count: Option<u32>,
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
    /// Command-line options for the backend (libpq's `options`).
    pub options: Option<String>,
    /// Limit for connecting, in whole seconds; the check's own deadline holds beside it. Default none.
    pub connect_timeout: Option<Duration>,
    /// TCP keepalive.
    pub keepalives: Keepalives,
    /// How long sent data may stay unacknowledged on TCP. Default: the system's.
    pub tcp_user_timeout: Option<Duration>,
    /// How it is encrypted, over TCP.
    #[cfg(feature = "tls")]
    pub encryption: super::encryption::Encryption,
}

impl ConnectionSettings {
    /// What holds where nothing was said, not even by the environment.
    pub fn unsaid() -> ConnectionSettings {
        ConnectionSettings {
            endpoint: Endpoint::DefaultSocket,
            port: DEFAULT_PORT,
            user: String::new(),
            database: DEFAULT_DATABASE.into(),
            password: PasswordSource::None,
            application_name: DEFAULT_APPLICATION_NAME.into(),
            options: None,
            connect_timeout: None,
            keepalives: Keepalives { enabled: true, idle: None, interval: None, count: None },
            tcp_user_timeout: None,
            #[cfg(feature = "tls")]
            encryption: super::encryption::Encryption::unsaid(),
        }
    }

    /// Whether TLS may be spoken with whoever answers.
    #[cfg(feature = "tls")]
    pub fn wants_tls(&self) -> bool {
        matches!(self.endpoint, Endpoint::Tcp { .. }) && self.encryption.is_wanted()
    }

    /// Whether TLS may be spoken with whoever answers: never, in this build.
    #[cfg(not(feature = "tls"))]
    pub fn wants_tls(&self) -> bool {
        false
    }

    /// The directory of the Unix socket to connect to now; `None` over TCP. Call it at every connect: the
    /// instance may have started since, and then its socket may be in another of the usual directories.
    pub fn locate(&self) -> Option<PathBuf> {
        match &self.endpoint {
            Endpoint::DefaultSocket => {
                Some(self.first_with_socket(&SOCKET_DIRECTORIES, SHARED_DIRECTORY, runs_servers))
            }
            Endpoint::UnixDirectory(directory) => Some(directory.clone()),
            Endpoint::Tcp { .. } => None,
        }
    }

    /// The lowest other port of which there is a socket where this one is looked for, and which may be believed; `None` over
    /// TCP.
    pub fn another_port(&self) -> Option<u16> {
        let found = |directory: &Path| {
            let entries = fs::read_dir(directory).ok()?;
            let ports = entries.filter_map(|entry| {
                let entry = entry.ok()?;
                let port = entry.file_name().to_str()?.strip_prefix(".s.PGSQL.")?.parse().ok()?;
                let is_socket =
                    entry.file_type().ok()?.is_socket() && runs_servers(entry.metadata().ok()?.uid());
                (is_socket && port != self.port).then_some(port)
            });
            ports.min()
        };
        match &self.endpoint {
            Endpoint::DefaultSocket => {
                SOCKET_DIRECTORIES.iter().find_map(|directory| found(Path::new(directory)))
            }
            Endpoint::UnixDirectory(directory) => found(directory),
            Endpoint::Tcp { .. } => None,
        }
    }

    /// A socket that was passed over for its owner, with the owner's id; `None` where one was found, or none is there.
    pub fn stranger(&self) -> Option<(PathBuf, u32)> {
        let shared = Path::new(SHARED_DIRECTORY).join(self.socket_name());
        let is_searched = self.endpoint == Endpoint::DefaultSocket;
        let found = is_searched.then(|| self.socket_path()).flatten()?;
        let owner = (!found.exists()).then(|| shared.symlink_metadata().ok()).flatten()?.uid();
        (!runs_servers(owner)).then_some((shared, owner))
    }

    /// The socket's file, `<directory>/.s.PGSQL.<port>`, as of now; `None` over TCP.
    pub fn socket_path(&self) -> Option<PathBuf> {
        Some(self.locate()?.join(self.socket_name()))
    }

    /// The password to log in with. The passfile is read at every call, so a rotated password is picked up
    /// without a restart. A problem is worth one warning; the login then goes on without a password.
    pub fn look_up_password(&self) -> Result<Option<Secret>, PassfileProblem> {
        let path = match &self.password {
            PasswordSource::Given(secret) => return Ok(Some(secret.clone())),
            PasswordSource::Passfile(path) => path,
            PasswordSource::None => return Ok(None),
        };
        let hosts = self.passfile_hosts();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let port = self.port.to_string();
        passfile::look_up(
            path,
            &Login { hosts: &hosts, port: &port, database: &self.database, user: &self.user },
        )
    }

    /// Which host fields of the passfile mean this instance. libpq lets `localhost` stand for its default socket
    /// directory; here there are three of those, and each can also be written out.
    fn passfile_hosts(&self) -> Vec<String> {
        match (&self.endpoint, self.locate()) {
            (Endpoint::Tcp { host: Some(host), .. }, _) => vec![host.clone()],
            (Endpoint::Tcp { host: None, address }, _) => address.iter().map(IpAddr::to_string).collect(),
            (Endpoint::DefaultSocket | Endpoint::UnixDirectory(_), directory) => {
                let directory = directory.unwrap_or_default();
                let is_default = SOCKET_DIRECTORIES.iter().any(|default| directory == Path::new(default));
                let localhost = is_default.then(|| "localhost".to_owned());
                localhost.into_iter().chain([directory.display().to_string()]).collect()
            }
        }
    }

    /// In the directory that is `shared`, a link to somewhere else is none, and `is_trusted` has the last word on the
    /// owner.
    fn first_with_socket(
        &self,
        directories: &[&str],
        shared: &str,
        is_trusted: impl Fn(u32) -> bool,
    ) -> PathBuf {
        let name = self.socket_name();
        let has_socket = |directory: &&&str| {
            let path = Path::new(directory).join(&name);
            let is_shared = **directory == shared;
            let metadata = if is_shared { path.symlink_metadata() } else { path.metadata() };
            metadata.is_ok_and(|metadata| {
                metadata.file_type().is_socket() && (!is_shared || is_trusted(metadata.uid()))
            })
        };
        let found = directories.iter().find(has_socket);
        PathBuf::from(found.or(directories.first()).copied().unwrap_or_default())
    }

    fn socket_name(&self) -> String {
        format!(".s.PGSQL.{}", self.port)
    }
}

/// Root, this process's own user, and `postgres` where /etc/passwd has it.
fn runs_servers(user: u32) -> bool {
    let is_server_user = |line: &str| {
        let mut fields = line.split(':');
        fields.next() == Some(SERVER_USER) && fields.nth(1).is_some_and(|id| id.parse() == Ok(user))
    };
    user == 0
        || user == geteuid().as_raw()
        || fs::read_to_string("/etc/passwd").is_ok_and(|users| users.lines().any(is_server_user))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn settings(endpoint: Endpoint) -> ConnectionSettings {
        ConnectionSettings {
            endpoint,
            port: 5433,
            user: "ops".into(),
            password: PasswordSource::Given(Secret::new(b"s3cret".to_vec())),
            ..ConnectionSettings::unsaid()
        }
    }

    #[test]
    fn the_password_is_never_shown() {
        let shown = format!("{:?}", settings(Endpoint::DefaultSocket));
        assert!(shown.contains("Given(***)") && !shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn the_socket_search_is_repeated_at_every_call() {
        let root = std::env::temp_dir().join(format!("pgsqlchk-search-{}", std::process::id()));
        let directories = ["a", "b", "c"].map(|name| root.join(name));
        directories.iter().for_each(|directory| std::fs::create_dir_all(directory).unwrap());
        let names = directories.each_ref().map(|directory| directory.to_str().unwrap());
        let settings = settings(Endpoint::DefaultSocket);

        let first_with_socket = |directories| settings.first_with_socket(directories, "/nowhere", |_| false);
        assert_eq!(first_with_socket(&names), directories[0], "the first one when there is none");
        std::fs::write(directories[1].join(".s.PGSQL.5433"), "").unwrap();
        assert_eq!(first_with_socket(&names), directories[0], "a plain file is no socket");
        let _wrong_port = UnixListener::bind(directories[1].join(".s.PGSQL.5432")).unwrap();
        assert_eq!(first_with_socket(&names), directories[0], "another instance's socket");
        let _last = UnixListener::bind(directories[2].join(".s.PGSQL.5433")).unwrap();
        assert_eq!(first_with_socket(&names), directories[2]);
        let _first = UnixListener::bind(directories[0].join(".s.PGSQL.5433")).unwrap();
        assert_eq!(first_with_socket(&names), directories[0]);
        std::fs::remove_dir_all(root).unwrap();
    }

    /// While PostgreSQL is down, any user could put a socket of his own into /tmp and play the primary.
    #[test]
    fn in_a_shared_directory_only_the_socket_of_somebody_who_runs_servers_is_found() {
        let root = std::env::temp_dir().join(format!("pgsqlchk-shared-{}", std::process::id()));
        let directories = ["own", "shared"].map(|name| root.join(name));
        directories.iter().for_each(|directory| std::fs::create_dir_all(directory).unwrap());
        let names = directories.each_ref().map(|directory| directory.to_str().unwrap());
        let settings = settings(Endpoint::DefaultSocket);
        let find = |is_trusted| settings.first_with_socket(&names, names[1], |_| is_trusted);
        let socket = directories[1].join(".s.PGSQL.5433");

        let listener = UnixListener::bind(&socket).unwrap();
        assert_eq!((find(false), find(true)), (directories[0].clone(), directories[1].clone()));
        std::fs::rename(&socket, root.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(root.join("elsewhere"), &socket).unwrap();
        assert_eq!(find(true), directories[0], "a link leads to whatever its maker likes");
        let _own = UnixListener::bind(directories[0].join(".s.PGSQL.5433")).unwrap();
        assert_eq!(find(false), directories[0], "elsewhere nobody asks");
        drop(listener);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn root_and_this_user_run_servers_and_a_stranger_does_not() {
        assert!(runs_servers(0) && runs_servers(geteuid().as_raw()));
        assert!(!runs_servers(u32::MAX - 7));
    }

    #[test]
    fn a_directory_that_was_named_is_not_searched_for() {
        let unix = settings(Endpoint::UnixDirectory("/nowhere".into()));
        assert_eq!(unix.socket_path(), Some("/nowhere/.s.PGSQL.5433".into()));
        let tcp = settings(Endpoint::Tcp { host: None, address: Some([127, 0, 0, 1].into()) });
        assert_eq!((tcp.locate(), tcp.socket_path()), (None, None));
    }

    #[test]
    fn passfile_hosts_follow_libpq() {
        let tcp = |host: Option<&str>, address: Option<&str>| Endpoint::Tcp {
            host: host.map(str::to_owned),
            address: address.map(|address| address.parse().unwrap()),
        };
        for (endpoint, hosts) in [
            (Endpoint::UnixDirectory("/run/postgresql".into()), &["localhost", "/run/postgresql"][..]),
            (Endpoint::UnixDirectory("/tmp".into()), &["localhost", "/tmp"]),
            (Endpoint::UnixDirectory("/srv/pg".into()), &["/srv/pg"]),
            (tcp(Some("db.example"), Some("192.0.2.1")), &["db.example"]),
            (tcp(None, Some("::1")), &["::1"]),
        ] {
            assert_eq!(settings(endpoint).passfile_hosts(), hosts);
        }
        assert_eq!(settings(Endpoint::DefaultSocket).passfile_hosts()[0], "localhost");
    }
}
