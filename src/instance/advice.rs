//! What to type on the usual first day.
//!
//! PostgreSQL has one SQLSTATE for several refusals, so its messages are told apart, in English. A server that
//! speaks another language gets the advice that fits them all.

use std::fmt::Write;
use std::net::IpAddr;

use super::Failure;
use crate::config::{ConnectionSettings, Endpoint, PasswordSource, SOCKET_DIRECTORIES};
use crate::reason::Reason;
use crate::spelling;

/// One line, or `None` where there is nothing to type. `os_user` is who runs this process, if that is known.
pub fn advice(failure: &Failure, settings: &ConnectionSettings, os_user: Option<&str>) -> Option<String> {
    let advisor = Advisor { settings, os_user, cause: &failure.cause };
    match failure.reason {
        Reason::ConnectionRefused => Some(advisor.start_server()),
        Reason::PermissionDenied => Some(advisor.grant()),
        Reason::AuthenticationFailed => Some(advisor.let_in()),
        Reason::DatabaseMissing => Some(advisor.make_database()),
        Reason::TooManyClients => Some(advisor.make_room()),
        Reason::NameNotResolved | Reason::Unreachable | Reason::NotPostgresql => {
            Some("say where PostgreSQL is: --dsn 'host=/run/postgresql port=5432'".into())
        }
        Reason::NotAcceptingConnections => {
            Some("if it is a standby, set hot_standby = on and restart it; its log says more".into())
        }
        Reason::LoginFailed => Some(advisor.mend_login()),
        // The cause says what to do, as far as that can be said.
        Reason::TlsFailed => None,
        Reason::PostmasterNotAnswering
        | Reason::SessionTerminated
        | Reason::QueryCanceled
        | Reason::StartingUp
        | Reason::ShuttingDown
        | Reason::ConnectionLost
        | Reason::QueryFailed
        | Reason::DeadlinePassed
        | Reason::AgentOutOfResources
        | Reason::AgentStopping
        | Reason::BadConfiguration
        | Reason::InRecovery
        | Reason::NotInRecovery
        | Reason::ReadOnly
        | Reason::Restoring
        | Reason::NoWalReceiver
        | Reason::NotStreaming
        | Reason::ReplayPaused
        | Reason::ReplayDelayed
        | Reason::LagExceeded
        | Reason::LagUnknown
        | Reason::OtherSyncState
        | Reason::SyncStateUnknown
        | Reason::NotStandbyLeader
        | Reason::SenderUnknown
        | Reason::OtherTag
        | Reason::NoLoadBalance
        | Reason::Draining
        | Reason::DrainUnknown
        | Reason::Superseded
        | Reason::TwoPrimaries
        | Reason::Isolated
        | Reason::PoolerNotAnswering
        | Reason::WriteStalled
        | Reason::WriteFailed
        | Reason::BadRequest => None,
    }
}

/// What to type so that the agent's role sees all of the WAL receiver.
pub fn let_monitor(settings: &ConnectionSettings) -> String {
    let advisor = Advisor { settings, os_user: None, cause: "" };
    let grant = format!("GRANT pg_monitor TO {}", spelling::identifier(&settings.user));
    format!(
        "this role sees only what was received, not the end of the sender's WAL; on the primary: {}",
        advisor.as_superuser(&grant)
    )
}

/// A command that runs `sql` on this very server.
pub fn as_superuser(settings: &ConnectionSettings, sql: &str) -> String {
    Advisor { settings, os_user: None, cause: "" }.as_superuser(sql)
}

struct Advisor<'a> {
    settings: &'a ConnectionSettings,
    os_user: Option<&'a str>,
    cause: &'a str,
}

impl Advisor<'_> {
    /// The server may merely be down: another one is not proposed before it.
    fn start_server(&self) -> String {
        let place = match self.settings.another_port() {
            Some(port) => {
                let dsn = self.dsn_with(port);
                format!(
                    "if it is meant, a server listens on port {port} there: --dsn '{dsn}'; in the configuration file: \
                     dsn = {dsn}, which a running agent reads on systemctl reload pgsqlchk"
                )
            }
            None => {
                "say where it is: --dsn 'host=/run/postgresql port=5432'; pg_lsclusters and SHOW port know"
                    .into()
            }
        };
        format!("start PostgreSQL (systemctl start postgresql), or {place}")
    }

    /// The shortest that leads to this port, as the same user to the same database.
    fn dsn_with(&self, port: u16) -> String {
        let ConnectionSettings { endpoint, user, database, .. } = self.settings;
        let mut words = Vec::new();
        if let Endpoint::UnixDirectory(directory) = endpoint {
            words.push(format!("host={}", directory.display()));
        }
        words.push(format!("port={port}"));
        if self.os_user != Some(user.as_str()) {
            words.push(format!("user={user}"));
        }
        if database != "postgres" {
            words.push(format!("dbname={database}"));
        }
        words.join(" ")
    }

    fn grant(&self) -> String {
        let role = spelling::identifier(&self.settings.user);
        if self.cause.contains("for function") {
            let grant = format!("GRANT EXECUTE ON FUNCTION pg_is_in_recovery() TO {role}");
            return format!("on the primary: {}", self.as_superuser(&grant));
        }
        let grant =
            format!("GRANT CONNECT ON DATABASE {} TO {role}", spelling::identifier(&self.settings.database));
        if self.cause.contains("permission denied for") {
            return format!("on the primary: {}", self.as_superuser(&grant));
        }
        format!(
            "open the socket and its folder to this user (unix_socket_permissions = 0777), or on the primary: {}",
            self.as_superuser(&grant)
        )
    }

    fn let_in(&self) -> String {
        let role = spelling::identifier(&self.settings.user);
        let says = |text: &str| self.cause.contains(text);
        // Before everything else: the server would only be asked for what is there already.
        if let Err(problem) = self.settings.look_up_password() {
            let passfile = shell_word(&self.passfile());
            let what = match (problem.is_too_open(), problem.is_denied(), self.os_user) {
                (true, ..) => format!("chmod 600 {passfile}"),
                (false, true, Some(os_user)) => format!("sudo chown {} {passfile}", shell_word(os_user)),
                (false, ..) => "name another file in --dsn (passfile=...) or PGPASSFILE".into(),
            };
            return format!("{problem}; {what}");
        }
        if says("password missing") {
            self.give_password()
        } else if says("password authentication failed") {
            // The server says the same of a role that does not exist, so as not to tell strangers which do.
            let set = format!("\\password {role}");
            let (set, create) = (self.as_superuser(&set), self.create_role());
            let place = match self.settings.password {
                PasswordSource::Given(_) => "--dsn or PGPASSWORD".to_owned(),
                PasswordSource::Passfile(_) | PasswordSource::None => self.passfile(),
            };
            let renew = self.as_superuser(&format!("ALTER ROLE {role} VALID UNTIL 'infinity'"));
            format!(
                "set it anew, on the primary: {set} (no such role? {create}; expired, which PostgreSQL's log calls an \
                 expired password? {renew}); then correct it in {place}"
            )
        } else if says("is not permitted to log in") {
            format!("on the primary: {}", self.as_superuser(&format!("ALTER ROLE {role} LOGIN")))
        } else if says("does not exist") && self.os_user == Some("root") && self.settings.user == "root" {
            // Nobody means a role of that name: it is who happens to run this.
            "as the agent's user: sudo -u pgsqlchk pgsqlchk check; or name the role: --dsn user=NAME".into()
        } else if says("does not exist") {
            format!("create the role, on the primary: {}", self.create_role())
        } else if says("Peer authentication failed") {
            format!(
                "run it as the operating system's user {}, or map this one: {}",
                self.settings.user,
                self.map_user()
            )
        } else if says("Ident authentication failed") || says("pg_hba.conf") {
            self.add_to_hba()
        } else {
            format!(
                "it needs the role ({}), a line for it in pg_hba.conf ({}), and the password where that line \
                 wants one; PostgreSQL's log says which",
                self.create_role(),
                self.add_to_hba()
            )
        }
    }

    fn create_role(&self) -> String {
        format!("sudo -u postgres createuser{} {}", self.place(), shell_word(&self.settings.user))
    }

    fn give_password(&self) -> String {
        let ConnectionSettings { port, database, user, .. } = self.settings;
        let fields = [&self.passfile_host(), &port.to_string(), database, user];
        let fields: Vec<String> =
            fields.iter().map(|field| field.replace('\\', "\\\\").replace(':', "\\:")).collect();
        let line = shell_word(&format!("{}:PASSWORD", fields.join(":")));
        let advice = format!("(umask 077; echo {line} >>{})", shell_word(&self.passfile()));
        match self.is_local() {
            true => format!("{advice}; or without a password: {}", self.add_to_hba()),
            false => advice,
        }
    }

    /// Which line of pg_hba.conf lets this login in, and how it comes into force.
    fn add_to_hba(&self) -> String {
        let is_same = self.os_user.is_none_or(|os_user| os_user == self.settings.user);
        match (self.is_local(), is_same) {
            (true, true) => self.put_into_hba("local", "peer"),
            (true, false) => self.map_user(),
            (false, _) => {
                let client = self.client_address();
                let line = self.put_into_hba("host", &format!("{client} scram-sha-256"));
                format!(
                    "use the Unix socket: --dsn host=/run/postgresql; or, as this build does not speak TLS and so matches \
                     no hostssl line, {line}"
                )
            }
        }
    }

    fn map_user(&self) -> String {
        let ident =
            format!("agent {} {}", hba_word(self.os_user.unwrap_or("OSUSER")), hba_word(&self.settings.user));
        format!("put `{ident}` into pg_ident.conf and {}", self.put_into_hba("local", "peer map=agent"))
    }

    fn put_into_hba(&self, kind: &str, rest: &str) -> String {
        let (database, user) = (hba_word(&self.settings.database), hba_word(&self.settings.user));
        let reload = self.as_superuser("SELECT pg_reload_conf()");
        format!("put `{kind} {database} {user} {rest}` above the other lines of pg_hba.conf, then: {reload}")
    }

    fn mend_login(&self) -> String {
        if self.cause.contains("is not currently accepting connections") {
            let database = spelling::identifier(&self.settings.database);
            let alter = format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true");
            return format!(
                "name another database (--dsn dbname=NAME), or on the primary: {}",
                self.as_superuser(&alter)
            );
        }
        "every login to this database fails, not the agent's alone: a library that cannot be loaded \
         (session_preload_libraries, local_preload_libraries)? PostgreSQL's log says more"
            .into()
    }

    fn make_database(&self) -> String {
        let create =
            format!("sudo -u postgres createdb{} {}", self.place(), shell_word(&self.settings.database));
        match self.settings.database.as_str() {
            "postgres" => {
                format!("create it, on the primary: {create}; or name another one: --dsn dbname=NAME")
            }
            _ => format!(
                "name the one that is always there: --dsn dbname=postgres; or create it, on the primary: {create}"
            ),
        }
    }

    fn make_room(&self) -> String {
        let (role, database) =
            (spelling::identifier(&self.settings.user), spelling::identifier(&self.settings.database));
        if self.cause.contains("too many connections for role") {
            let alter = format!("ALTER ROLE {role} CONNECTION LIMIT -1");
            return format!("on the primary: {}", self.as_superuser(&alter));
        }
        if self.cause.contains("too many connections for database") {
            let alter = format!("ALTER DATABASE {database} CONNECTION LIMIT -1");
            return format!("on the primary: {}", self.as_superuser(&alter));
        }
        let who = self
            .as_superuser("SELECT usename, application_name, count(*) FROM pg_stat_activity GROUP BY 1, 2");
        format!(
            "see who has them: {who}; raise max_connections, or from PostgreSQL 16 on keep a place: \
             reserved_connections = 2 and GRANT pg_use_reserved_connections TO {role}"
        )
    }

    /// A command that runs `sql` on this very server.
    fn as_superuser(&self, sql: &str) -> String {
        format!("sudo -u postgres psql{} -c {}", self.place(), shell_word(sql))
    }

    /// The options by which PostgreSQL's own programs find this server; none where they find it by themselves.
    fn place(&self) -> String {
        let mut options = String::new();
        if let Endpoint::UnixDirectory(directory) = &self.settings.endpoint {
            let directory = directory.to_string_lossy();
            if !SOCKET_DIRECTORIES.contains(&directory.as_ref()) {
                let _ = write!(options, " -h {}", shell_word(&directory));
            }
        }
        if self.settings.port != 5432 {
            let _ = write!(options, " -p {}", self.settings.port);
        }
        options
    }

    fn is_local(&self) -> bool {
        match self.settings.endpoint {
            Endpoint::DefaultSocket | Endpoint::UnixDirectory(_) => true,
            Endpoint::Tcp { .. } => false,
        }
    }

    /// This host as the server sees it, which its message says (`... for host "192.0.2.7", user ...`).
    fn client_address(&self) -> String {
        let quoted = self.cause.split_once("for host \"").and_then(|(_, rest)| rest.split('"').next());
        match quoted.and_then(|text| text.parse().ok()) {
            Some(IpAddr::V4(address)) => format!("{address}/32"),
            Some(IpAddr::V6(address)) => format!("{address}/128"),
            None => "samehost".into(),
        }
    }

    fn passfile(&self) -> String {
        match &self.settings.password {
            PasswordSource::Passfile(path) => path.display().to_string(),
            PasswordSource::Given(_) | PasswordSource::None => "~/.pgpass".into(),
        }
    }

    /// The first field of a passfile's line that means this server.
    fn passfile_host(&self) -> String {
        match &self.settings.endpoint {
            Endpoint::Tcp { host: Some(host), .. } => host.clone(),
            Endpoint::Tcp { host: None, address: Some(address) } => address.to_string(),
            Endpoint::Tcp { host: None, address: None } | Endpoint::DefaultSocket => "localhost".into(),
            Endpoint::UnixDirectory(directory) => {
                let directory = directory.to_string_lossy();
                match SOCKET_DIRECTORIES.contains(&directory.as_ref()) {
                    true => "localhost".into(),
                    false => directory.into_owned(),
                }
            }
        }
    }
}

/// As a shell reads it.
fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:~=,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// As pg_hba.conf and pg_ident.conf read a name (PostgreSQL manual, section 21.1).
fn hba_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    match !word.is_empty() && word != "all" && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("\"{}\"", word.replace('"', "\"\"")),
    }
}

#[cfg(test)]
mod tests;
