//! What a cluster is told: postgresql.conf, pg_hba.conf, its certificate, and a function of the test's own.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Child;
use std::sync::PoisonError;

use super::certificates::Issued;
use super::cluster::Cluster;
use super::postgresql::{ServerUser, run};
use super::process::{Signal, signal};
use super::{eventually, secs};

/// What every cluster has: fast to start and small, reachable over loopback and a socket in its own folder.
const BASE: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("wal_level", "replica"),
    ("wal_keep_size", "64MB"),
    ("max_connections", "30"),
    ("shared_buffers", "16MB"),
    ("autovacuum", "off"),
    ("log_line_prefix", "%m [%p] %a "),
];

impl Cluster {
    /// Changes postgresql.conf; a running server has read it when this returns.
    #[track_caller]
    pub fn configure(&self, settings: &[(&str, &str)]) {
        for (name, value) in settings {
            let mut own = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
            own.retain(|(known, _)| known != name);
            own.push(((*name).to_owned(), (*value).to_owned()));
        }
        self.write_settings();
        self.reload();
    }

    /// Replaces what pg_basebackup -R and ALTER SYSTEM wrote; for a server that does not run.
    pub fn write_auto_settings(&self, settings: &[(&str, &str)]) {
        let line = |(name, value): &(&str, &str)| format!("{name} = '{}'\n", value.replace('\'', "''"));
        self.write_file("postgresql.auto.conf", &settings.iter().map(line).collect::<String>());
    }

    /// Replaces pg_hba.conf; a running server has read it when this returns.
    #[track_caller]
    pub fn write_hba(&self, content: &str) {
        self.write_file("pg_hba.conf", content);
        self.reload();
    }

    /// Puts a certificate of its own into the data directory, for `ssl = on`.
    pub fn make_certificate(&self) {
        make_certificate(&self.data(), &self.user);
    }

    /// Shows clients this certificate from now on; a running server has read it when this returns.
    #[track_caller]
    pub fn show(&self, issued: &Issued) {
        for (from, name) in [(&issued.certificate, "server.crt"), (&issued.key, "server.key")] {
            let to = self.data().join(name);
            fs::copy(from, &to).unwrap_or_else(|error| panic!("cannot write {}: {error}", to.display()));
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("set the file's mode");
            self.user.give(&to);
        }
        self.reload();
    }

    /// Puts a function in the place of pg_is_in_recovery(): `body` is PL/pgSQL statements, the role stands
    /// in the variable `role`. The old one is renamed first, for PostgreSQL calls a built-in function by its
    /// number without a look at the catalog.
    pub fn replace_pg_is_in_recovery(&self, body: &str) {
        self.psql(&format!(
            "SET allow_system_table_mods = on;
             ALTER FUNCTION pg_catalog.pg_is_in_recovery() RENAME TO pg_is_in_recovery_itself;
             CREATE FUNCTION pg_catalog.pg_is_in_recovery() RETURNS boolean LANGUAGE plpgsql AS
             $$ DECLARE role boolean := pg_is_in_recovery_itself(); BEGIN {body}; RETURN role; END $$"
        ));
    }

    /// Writes postgresql.conf anew: what every cluster has, its place, its own settings.
    pub(super) fn write_settings(&self) {
        let place = [
            ("port".to_owned(), self.port().to_string()),
            ("unix_socket_directories".to_owned(), self.socket_dir().display().to_string()),
        ];
        let base = BASE.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let own = self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut content = String::new();
        for (name, value) in base.chain(place).chain(own) {
            writeln!(content, "{name} = '{}'", value.replace('\'', "''")).expect("write to a String");
        }
        self.write_file("postgresql.conf", &content);
    }

    fn write_file(&self, name: &str, content: &str) {
        let path = self.data().join(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        self.user.give(&path);
    }

    /// The postmaster logs the signal, reads its files and only then accepts again: whoever connects after the
    /// log line meets the new settings.
    #[track_caller]
    fn reload(&self) {
        let Some(pid) = self.postmaster().as_ref().map(Child::id) else { return };
        let reloads = |log: &str| log.matches("received SIGHUP").count();
        let before = reloads(&self.log());
        signal(pid, Signal::HUP);
        eventually(secs(10), "PostgreSQL reads its configuration again", || reloads(&self.log()) > before);
    }
}

/// Puts a self-signed certificate and its key where a server of this user looks for them.
pub fn make_certificate(data: &Path, user: &ServerUser) {
    let (certificate, key) = (data.join("server.crt"), data.join("server.key"));
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["req", "-new", "-x509", "-nodes", "-days", "1", "-subj", "/CN=localhost", "-newkey", "ec"]);
    openssl.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-out"]).arg(&certificate);
    run(openssl.arg("-keyout").arg(&key));
    [certificate, key].iter().for_each(|path| user.give(path));
}
