//! TLS towards PostgreSQL: whatever is laid down about it, the agent gets in where psql gets in, over the same channel, and is
//! refused where psql is refused. The server's own log says who came how.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use support::certificates::{Authority, EXPIRED, Issued, NOT_YET, VALID, Wish};
use support::cluster::psql_command;
use support::daemon::Daemon;
use support::folder::Folder;
use support::pgbouncer::{Pgbouncer, Pool, PoolMode};
use support::{Agent, Cluster, agent, eventually, free_port, millis, secs};

/// A server that says in its log who has come, and over what.
fn server(hba: &str) -> Cluster {
    let settings = [("ssl", "on"), ("log_connections", "on"), ("listen_addresses", "127.0.0.1")];
    let server = Cluster::stopped(&settings);
    server.make_certificate();
    server.start();
    server.write_hba(&format!("local all all trust\n{hba}\n"));
    server
}

/// What came of an attempt: over which channel it was let in, or `None`.
type Outcome = Option<String>;

/// Runs psql and the agent with the same parameters, the same home and the same variables.
struct Pair<'a> {
    server: &'a Cluster,
    home: &'a Folder,
    variables: &'a [(&'a str, &'a str)],
}

static ATTEMPTS: AtomicUsize = AtomicUsize::new(0);

impl Pair<'_> {
    /// Both outcomes are the same; gives it, with what the agent said.
    #[track_caller]
    fn agree(&self, parameters: &str) -> (Outcome, String) {
        let psql = self.attempt(
            |conninfo| {
                let mut psql = psql_command();
                psql.args(["-d", conninfo, "-c", "SELECT 1"]);
                psql
            },
            parameters,
        );
        let ours = self.attempt(
            |conninfo| {
                let mut command = agent::command();
                command.args(["check", "--timeout", "30s", "--config", "/dev/null", "--dsn", conninfo]);
                command
            },
            parameters,
        );
        assert_eq!(ours.0, psql.0, "{parameters}\npsql: {}\nagent: {}", psql.1, ours.1);
        ours
    }

    fn attempt(&self, command: impl Fn(&str) -> Command, parameters: &str) -> (Outcome, String) {
        let name = format!("attempt{}", ATTEMPTS.fetch_add(1, Ordering::Relaxed));
        let common = format!(
            "hostaddr=127.0.0.1 port={} user=postgres dbname=postgres application_name={name} {parameters}",
            self.server.port()
        );
        let mut command = command(&common);
        command.env("HOME", self.home.path()).envs(self.variables.iter().copied());
        let output = command.stdin(Stdio::null()).output().expect("run the program");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        // Those who were let in stand in the log before they hear of it.
        let log = self.server.log();
        let line = log.lines().find(|line| {
            line.contains("connection authorized") && line.contains(&format!("application_name={name}"))
        });
        let channel = line.map(|line| match line.split_once("SSL enabled (protocol=") {
            Some((_, rest)) => rest.split(',').next().unwrap_or_default().to_owned(),
            None => "in the clear".to_owned(),
        });
        (channel, said)
    }
}

const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

#[test]
fn every_mode_takes_every_certificate_as_psql_takes_it() {
    let server = server("host all all 127.0.0.1/32 trust");
    let (home, ours, theirs) = (Folder::new("home"), Authority::new("ours"), Authority::new("theirs"));
    let pair = Pair { server: &server, home: &home, variables: &[] };
    let local = Wish::local("db.example");
    let right = Wish { alternative_names: "DNS:db.example", ..local };
    let revoked = ours.issue(right);
    ours.revoke(&revoked);
    let list = ours.revocation_list();
    let mut seen = [0; 2];
    for (what, shown) in [
        ("right", ours.issue(right)),
        ("expired", ours.issue(Wish { validity: EXPIRED, ..right })),
        ("not valid yet", ours.issue(Wish { validity: NOT_YET, ..right })),
        ("of another name", ours.issue(Wish { name: "other", alternative_names: "DNS:other", ..local })),
        ("of nobody we know", theirs.issue(right)),
        ("revoked", revoked),
        ("with a common name only", ours.issue(Wish { alternative_names: "", ..local })),
        ("for an address only", ours.issue(Wish { alternative_names: "IP:127.0.0.1", ..local })),
        ("with a wildcard", ours.issue(Wish { name: "x", alternative_names: "DNS:*.example", ..local })),
        (
            "with a wildcard for more",
            ours.issue(Wish { name: "x", alternative_names: "DNS:*.b.example", ..local }),
        ),
    ] {
        server.show(&shown);
        for mode in MODES {
            for host in ["db.example", "127.0.0.1"] {
                for more in [
                    String::new(),
                    format!("sslrootcert={}", ours.certificate().display()),
                    format!("sslrootcert={} sslcrl={}", ours.certificate().display(), list.display()),
                ] {
                    let (outcome, _) = pair.agree(&format!("host={host} sslmode={mode} {more}"));
                    seen[usize::from(outcome.is_some())] += 1;
                    assert!(mode != "disable" || outcome.as_deref() == Some("in the clear"), "{what}");
                }
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 30), "both happen: {seen:?}");
    // No TLS at all.
    server.configure(&[("ssl", "off")]);
    for mode in MODES {
        let root = format!("sslrootcert={}", ours.certificate().display());
        pair.agree(&format!("host=db.example sslmode={mode} {root}"));
    }
}

#[test]
fn what_is_refused_names_the_certificate_and_until_when_it_was_valid() {
    let server = server("host all all 127.0.0.1/32 trust");
    let (home, ours) = (Folder::new("home"), Authority::new("ours"));
    let pair = Pair { server: &server, home: &home, variables: &[] };
    let (local, theirs) = (Wish::local("db.example"), Authority::new("theirs"));
    let revoked = ours.issue(local);
    ours.revoke(&revoked);
    let list = format!("sslcrl={}", ours.revocation_list().display());
    for (shown, more, words) in [
        (
            ours.issue(Wish { validity: EXPIRED, ..local }),
            "",
            "the certificate of \"db.example\" has expired: it was valid until 2020-02-01 00:00 UTC",
        ),
        (
            ours.issue(Wish { validity: NOT_YET, ..local }),
            "",
            "the certificate of \"db.example\" is not valid yet: it will be from 2048-01-01 00:00 UTC on",
        ),
        (theirs.issue(local), "", "the certificate of \"db.example\" comes from none of the authorities"),
        (revoked, &list, "the certificate of \"db.example\" was revoked"),
        (
            ours.issue(Wish { alternative_names: "DNS:other.example,IP:127.0.0.9", ..local }),
            "",
            "the certificate of \"db.example\" is for other.example, 127.0.0.9, and not for db.example",
        ),
    ] {
        server.show(&shown);
        let root = ours.certificate();
        let (outcome, said) =
            pair.agree(&format!("host=db.example sslmode=verify-full sslrootcert={} {more}", root.display()));
        assert_eq!(outcome, None);
        assert!(said.contains("tls-failed") && said.contains(words), "{words}: {said}");
    }
    server.configure(&[("ssl", "off")]);
    let (_, said) = pair.agree("sslmode=require");
    assert!(said.contains("tls-failed") && said.contains("does not speak TLS"), "{said}");
}

/// The PostgreSQL manual's quick way: one certificate that signs itself, on the server and in the client's root.crt.
#[test]
fn a_certificate_that_signs_itself_is_believed_where_it_is_the_root() {
    let server = server("host all all 127.0.0.1/32 trust");
    let home = Folder::new("home");
    let pair = Pair { server: &server, home: &home, variables: &[] };
    let root = home.path().join("self.crt");
    fs::copy(server.data().join("server.crt"), &root).expect("copy the certificate");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o644)).expect("set its mode");
    for mode in MODES {
        for host in ["localhost", "db.example"] {
            pair.agree(&format!("host={host} sslmode={mode} sslrootcert={}", root.display()));
        }
    }
    let (outcome, _) =
        pair.agree(&format!("host=localhost sslmode=verify-full sslrootcert={}", root.display()));
    assert_eq!(outcome.as_deref(), Some("TLSv1.3"));
}

/// Puts certificates behind each other.
fn together(home: &Folder, name: &str, parts: &[&Path]) -> PathBuf {
    let content = parts.iter().map(|part| fs::read_to_string(part).expect("a certificate"));
    home.write(name, &content.collect::<String>())
}

/// OpenSSL wants a chain to end in a certificate that issues itself, may issue others and has not expired.
#[test]
fn an_authority_is_believed_where_psql_believes_it() {
    let server = server("host all all 127.0.0.1/32 trust");
    let home = Folder::new("home");
    let pair = Pair { server: &server, home: &home, variables: &[] };
    let (ours, old) = (Authority::new("ours"), Authority::of("old", EXPIRED, "authority"));
    let (between, no_authority) = (ours.intermediate("between"), Authority::of("db.example", VALID, "leaf"));
    let early = Authority::of("early", NOT_YET, "authority");
    let wish = Wish::local("db.example");
    let (by_ours, by_between) = (ours.issue(wish), between.issue(wish));
    let chain = Issued {
        certificate: together(&home, "chain.crt", &[&by_between.certificate, &between.certificate()]),
        key: by_between.key.clone(),
    };
    // A name of its own: one of the same name would be taken for its own issuer.
    let by_none = no_authority.issue(Wish { name: "other", alternative_names: "DNS:db.example", ..wish });
    let (by_old, by_early) = (old.issue(wish), early.issue(wish));
    let expired = together(&home, "expired.crt", &[&old.certificate()]);
    old.issue_itself(VALID, "authority");
    let renewed = old.certificate();
    let itself = Issued { certificate: no_authority.certificate(), key: no_authority.key() };
    let past = Authority::of("db.example", EXPIRED, "leaf");
    let past = Issued { certificate: past.certificate(), key: past.key() };
    let (ours, between) = (ours.certificate(), between.certificate());
    let mut seen = [0; 2];
    for (what, shown, roots) in [
        ("issued by the root", &by_ours, vec![&ours]),
        ("itself in place of a root", &by_ours, vec![&by_ours.certificate]),
        ("itself beside the root", &by_ours, vec![&by_ours.certificate, &ours]),
        ("without its intermediate", &by_between, vec![&ours]),
        ("its intermediate in place of a root", &by_between, vec![&between]),
        ("its intermediate beside the root", &by_between, vec![&between, &ours]),
        ("with its intermediate", &chain, vec![&ours]),
        ("with its intermediate, which is no root", &chain, vec![&between]),
        ("with its intermediate, and nobody's root", &chain, vec![&renewed]),
        ("by a root that has expired", &by_old, vec![&expired]),
        ("by a root that has expired, beside another", &by_old, vec![&expired, &ours]),
        ("by a root that was renewed", &by_old, vec![&expired, &renewed]),
        ("by a root that was renewed, the new one first", &by_old, vec![&renewed, &expired]),
        ("by a root of the future", &by_early, vec![&early.certificate()]),
        ("by one that may not issue any", &by_none, vec![&itself.certificate]),
        ("a root that is nobody's authority", &itself, vec![&itself.certificate]),
        ("a root that has expired", &past, vec![&past.certificate]),
    ] {
        server.show(shown);
        let parts: Vec<&Path> = roots.iter().map(|path| path.as_path()).collect();
        let root = together(&home, "root.crt", &parts);
        for mode in ["prefer", "require", "verify-ca", "verify-full"] {
            let (outcome, said) =
                pair.agree(&format!("host=db.example sslmode={mode} sslrootcert={}", root.display()));
            assert!(outcome.is_some() || said.contains("tls-failed"), "{what}: {said}");
            seen[usize::from(outcome.is_some_and(|channel| channel.starts_with("TLS")))] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 20), "both happen: {seen:?}");
    server.show(&by_old);
    let (_, said) =
        pair.agree(&format!("host=localhost sslmode=verify-ca sslrootcert={}", expired.display()));
    let words =
        "an authority above the certificate of \"db.example\" has expired: it was valid until 2020-02-01";
    assert!(said.contains(words), "{said}");
}

#[test]
fn lists_of_what_was_revoked_count_where_psql_counts_them() {
    let server = server("host all all 127.0.0.1/32 trust");
    let home = Folder::new("home");
    let pair = Pair { server: &server, home: &home, variables: &[] };
    let ours = Authority::new("ours");
    let between = ours.intermediate("between");
    let wish = Wish::local("db.example");
    let (right, revoked, by_between) = (ours.issue(wish), ours.issue(wish), between.issue(wish));
    ours.revoke(&revoked);
    let chain = Issued {
        certificate: together(&home, "chain.crt", &[&by_between.certificate, &between.certificate()]),
        key: by_between.key,
    };
    let (of_ours, of_between) = (ours.revocation_list(), between.revocation_list());
    // As OpenSSL finds them: by the names of their issuers.
    let folder = |name: &str, lists: &[&PathBuf]| {
        let folder = home.path().join(name);
        fs::create_dir(&folder).expect("make a folder");
        for (number, list) in lists.iter().enumerate() {
            fs::copy(list, folder.join(format!("{number}.pem"))).expect("copy a list");
        }
        let rehashed = Command::new("openssl").arg("rehash").arg(&folder).status().expect("openssl rehash");
        assert!(rehashed.success());
        format!("sslcrldir={}", folder.display())
    };
    let both = together(&home, "both.crl", &[&of_ours, &of_between]);
    let mut seen = [0; 2];
    for lists in [
        folder("empty", &[]),
        folder("one", &[&of_ours]),
        folder("two", &[&of_ours, &of_between]),
        folder("another", &[&of_between]),
        format!("sslcrldir={}/nonexistent", home.path().display()),
        format!("sslcrl={}", of_ours.display()),
        format!("sslcrl={}", of_between.display()),
        format!("sslcrl={}", both.display()),
        format!("sslcrl={}/nonexistent", home.path().display()),
    ] {
        for shown in [&right, &revoked, &chain] {
            server.show(shown);
            let root = ours.certificate();
            let parameters = format!("sslmode=verify-full sslrootcert={} {lists}", root.display());
            let (outcome, _) = pair.agree(&format!("host=localhost {parameters}"));
            seen[usize::from(outcome.is_some())] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 5), "both happen: {seen:?}");
}

/// PgBouncer refuses in its own words, and with a code of its own.
#[test]
fn a_pooler_that_wants_tls_gets_it_where_it_gets_it_from_psql() {
    let cluster = Cluster::primary();
    let home = Folder::new("home");
    let tls = "client_tls_sslmode = require\nclient_tls_key_file = FOLDER/server.key\n\
               client_tls_cert_file = FOLDER/server.crt";
    let mut seen = [0; 2];
    for more in [tls, ""] {
        let pool = Pool { mode: PoolMode::Session, forced_user: None, size: 5, more };
        let pgbouncer = Pgbouncer::before(&cluster, pool);
        for mode in MODES {
            let dsn = format!("{} sslmode={mode}", pgbouncer.dsn("postgres"));
            let run = |mut command: Command| {
                command.env("HOME", home.path()).stdin(Stdio::null()).output().expect("run the program")
            };
            let mut psql = psql_command();
            psql.env_remove("PGOPTIONS").args(["-d", &dsn, "-c", "SELECT 1"]);
            let mut ours = agent::command();
            ours.args(["check", "--timeout", "30s", "--config", "/dev/null", "--dsn", &dsn]);
            let (psql, ours) = (run(psql), run(ours));
            assert_eq!(ours.status.success(), psql.status.success(), "{mode} {more}\n{psql:?}\n{ours:?}");
            seen[usize::from(psql.status.success())] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 2), "both happen: {seen:?}");
}

/// libpq of PostgreSQL 17 and later: what listens there may be anything that speaks TLS.
#[test]
fn direct_tls_without_a_word_about_the_protocol_is_refused() {
    let (ours, port) = (Authority::new("ours"), free_port());
    let shown = ours.issue(Wish::local("localhost"));
    let mut command = Command::new("openssl");
    command.args(["s_server", "-www", "-accept", &format!("127.0.0.1:{port}")]);
    command.arg("-cert").arg(&shown.certificate).arg("-key").arg(&shown.key);
    let mut server = Daemon::start(Folder::new("openssl"), command);
    server.wait_listening(port);
    let dsn = format!("host=127.0.0.1 port={port} user=u dbname=d sslmode=require sslnegotiation=direct");
    let mut ours = agent::command();
    ours.args(["check", "--config", "/dev/null", "--dsn", &dsn]).stdin(Stdio::null());
    let output = ours.output().expect("run the agent");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success(), "{said}");
    let words = "has not agreed on PostgreSQL's protocol";
    assert!(said.contains("tls-failed") && said.contains(words), "{said}");
}

#[test]
fn allow_and_prefer_try_the_other_channel_where_psql_does() {
    let (home, ours) = (Folder::new("home"), Authority::new("ours"));
    for hba in [
        "hostssl all all 127.0.0.1/32 trust",
        "hostnossl all all 127.0.0.1/32 trust",
        "hostssl all all 127.0.0.1/32 reject\nhostnossl all all 127.0.0.1/32 trust",
        "hostssl all all 127.0.0.1/32 trust\nhostnossl all all 127.0.0.1/32 reject",
        "host all all 127.0.0.1/32 reject",
    ] {
        let server = server(hba);
        let pair = Pair { server: &server, home: &home, variables: &[] };
        for mode in MODES {
            pair.agree(&format!("host=localhost sslmode={mode}"));
            // That does not match the server's certificate.
            let root = ours.certificate();
            pair.agree(&format!("host=localhost sslmode={mode} sslrootcert={}", root.display()));
        }
        // Said by nobody, and by the environment.
        pair.agree("host=localhost");
        let variables = [("PGSSLMODE", "require")];
        Pair { variables: &variables, ..pair }.agree("host=localhost");
    }
}

#[test]
fn our_own_certificate_is_shown_as_psql_shows_it() {
    let ours = Authority::new("ours");
    let home = Folder::new("home");
    let hba =
        "hostssl all all 127.0.0.1/32 trust clientcert=verify-ca\nhostnossl all all 127.0.0.1/32 reject";
    let server = server(hba);
    let trusted = server.data().join("clients.crt");
    fs::copy(ours.certificate(), &trusted).expect("copy the authority");
    server.configure(&[("ssl_ca_file", "clients.crt")]);
    server.show(&ours.issue(Wish::local("db.example")));
    let pair = Pair { server: &server, home: &home, variables: &[] };
    let theirs = Authority::new("theirs");
    let (right, wrong) = (ours.issue(Wish::local("agent")), theirs.issue(Wish::local("agent")));
    let given = |of: &Issued| format!("sslcert={} sslkey={}", of.certificate.display(), of.key.display());
    let set_mode = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set the key's mode");
    };
    set_mode(&right.key, 0o600);
    let circle = home.path().join("circle");
    std::os::unix::fs::symlink(&circle, &circle).expect("make a link");
    let (outcome, _) = pair.agree(&format!("host=db.example sslmode=require {}", given(&right)));
    assert_eq!(outcome.as_deref(), Some("TLSv1.3"));
    for mode in ["prefer", "require"] {
        for more in [
            String::new(),
            given(&wrong),
            format!("sslcert={} sslkey=/nonexistent", right.certificate.display()),
            "sslcert=/nonexistent sslkey=/nonexistent".to_owned(),
            format!("sslcert={} sslkey={}", right.certificate.display(), wrong.key.display()),
            format!("sslcert={0} sslkey={0}", right.certificate.display()),
            format!("sslcert={}", circle.display()),
        ] {
            let (outcome, said) = pair.agree(&format!("host=db.example sslmode={mode} {more}"));
            assert_eq!(outcome, None, "{more}: {said}");
        }
        for permissions in [0o640, 0o644, 0o660, 0o604] {
            set_mode(&right.key, permissions);
            pair.agree(&format!("host=db.example sslmode={mode} {}", given(&right)));
        }
        set_mode(&right.key, 0o600);
    }
    // In the home directory, where nobody says where.
    let folder = home.path().join(".postgresql");
    fs::create_dir(&folder).expect("make a folder");
    let put = |from: &PathBuf, name: &str| {
        fs::copy(from, folder.join(name)).expect("copy a file");
    };
    put(&right.certificate, "postgresql.crt");
    assert_eq!(pair.agree("host=db.example sslmode=require").0, None, "the key is missing");
    put(&right.key, "postgresql.key");
    set_mode(&folder.join("postgresql.key"), 0o600);
    assert!(pair.agree("host=db.example sslmode=require").0.is_some());
    assert_eq!(pair.agree("host=db.example sslmode=verify-full").0, None, "no root.crt");
    put(&ours.certificate(), "root.crt");
    assert_eq!(pair.agree("host=other.example sslmode=require").0.as_deref(), Some("TLSv1.3"));
    assert_eq!(pair.agree("host=other.example sslmode=verify-full").0, None);
    put(&theirs.certificate(), "root.crt");
    assert_eq!(pair.agree("host=db.example sslmode=require").0, None, "a root.crt that is there counts");
    let variables = [
        ("PGSSLMODE", "verify-ca".to_owned()),
        ("PGSSLROOTCERT", ours.certificate().display().to_string()),
        ("PGSSLCERT", right.certificate.display().to_string()),
        ("PGSSLKEY", right.key.display().to_string()),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let with_variables = Pair { variables: &variables, ..pair };
    assert!(with_variables.agree("host=db.example").0.is_some());
    ours.revoke(&right);
    put(&ours.revocation_list(), "root.crl");
    with_variables.agree("host=db.example");
}

#[test]
fn versions_and_channel_binding_are_kept_to() {
    let hba = "host all scram 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust";
    let server = server(hba);
    server.psql("SET password_encryption = 'scram-sha-256'; CREATE ROLE scram LOGIN PASSWORD 'x'");
    let home = Folder::new("home");
    let pair = Pair { server: &server, home: &home, variables: &[] };
    for limits in [
        "",
        "ssl_max_protocol_version=TLSv1.2",
        "ssl_min_protocol_version=tlsv1.3",
        "ssl_min_protocol_version=TLSv1 ssl_max_protocol_version=TLSv1.2",
    ] {
        assert!(pair.agree(&format!("host=localhost sslmode=require {limits}")).0.is_some());
    }
    server.configure(&[("ssl_max_protocol_version", "TLSv1.2")]);
    for limits in ["", "ssl_min_protocol_version=TLSv1.3", "ssl_max_protocol_version=TLSv1.2"] {
        pair.agree(&format!("host=localhost sslmode=require {limits}"));
        pair.agree(&format!("host=localhost sslmode=prefer {limits}"));
    }
    for refused in [
        "ssl_max_protocol_version=TLSv1.1",
        "ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
    ] {
        assert_eq!(pair.agree(&format!("host=localhost sslmode=require {refused}")).0, None);
    }
    for binding in ["disable", "prefer", "require"] {
        for mode in ["disable", "prefer", "require"] {
            for user in ["scram", "postgres"] {
                let login = format!("user={user} password=x sslmode={mode} channel_binding={binding}");
                pair.agree(&format!("host=localhost {login}"));
            }
        }
    }
    let (outcome, _) =
        pair.agree("host=localhost user=scram password=x sslmode=require channel_binding=require");
    assert_eq!(outcome.as_deref(), Some("TLSv1.2"));
}

fn watching(server: &Cluster, parameters: &str) -> Agent {
    let dsn =
        format!("host=localhost hostaddr=127.0.0.1 port={} user=postgres dbname=postgres", server.port());
    Agent::start(&["--dsn", &format!("{dsn} {parameters}")])
}

/// The knock asks for no TLS that it does not mean, and the session stays as it is between two logins.
#[test]
fn a_session_over_tls_is_used_again_and_the_knock_leaves_no_line() {
    let server = server("hostssl all all 127.0.0.1/32 trust");
    let agent = watching(&server, "sslmode=require");
    let agent_of_hour = Agent::start_with(|command| {
        let dsn =
            format!("host=127.0.0.1 port={} user=postgres dbname=postgres sslmode=require", server.port());
        command.args(["--dsn", &dsn, "--login-interval", "1h", "--knock-interval", "10ms"]);
    });
    assert_eq!(agent_of_hour.get("/primary").line(), "200 Primary");
    let own = || server.backend_pids("pgsqlchk");
    let before = server.psql(
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                              WHERE application_name = 'pgsqlchk' AND ssl",
    );
    assert_eq!(before, "1");
    let backends = own();
    for _ in 0..200 {
        assert_eq!(agent_of_hour.get("/primary").line(), "200 Primary");
    }
    assert_eq!(own(), backends);
    drop(agent_of_hour);
    // Logins, too.
    for _ in 0..30 {
        assert_eq!(agent.get("/primary").line(), "200 Primary");
        thread::sleep(millis(100));
    }
    let log = server.log();
    assert!(!log.contains("could not accept SSL connection") && !log.contains("unsupported"), "{log}");
}

#[test]
fn who_waits_for_the_clients_to_go_asks_over_tls_too() {
    let server = server("hostssl all all 127.0.0.1/32 trust");
    let folder = Folder::new("drain");
    let dsn = format!("host=127.0.0.1 port={} user=postgres dbname=postgres sslmode=require", server.port());
    let drain_file = folder.path().join("drain");
    let agent = Agent::start_with(|command| {
        command.args(["--dsn", &dsn, "--drain-file"]).arg(&drain_file);
    });
    let mut command = agent::command();
    command.args(["drain", "--config", "/dev/null", "--dsn", &dsn, "--wait=30s"]);
    command.args(["--listen", &agent.addr().to_string(), "--drain-file"]).arg(&drain_file);
    let output = command.stdin(Stdio::null()).output().expect("run the agent");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("PostgreSQL: 0 client sessions"), "{output:?}");
}

#[test]
fn a_certificate_that_is_renewed_counts_from_the_next_login_on() {
    let server = server("hostssl all all 127.0.0.1/32 trust");
    let (home, ours, theirs) = (Folder::new("home"), Authority::new("ours"), Authority::new("theirs"));
    server.show(&theirs.issue(Wish::local("localhost")));
    let root = home.path().join("root.crt");
    fs::copy(ours.certificate(), &root).expect("copy the authority");
    let agent = watching(&server, &format!("sslmode=verify-full sslrootcert={}", root.display()));
    assert_eq!(agent.get("/primary").line(), "503 tls-failed");
    server.show(&ours.issue(Wish::local("localhost")));
    eventually(secs(10), "it is believed", || agent.get("/primary").line() == "200 Primary");
    // New clients are not let in any more: nor is the agent, however well its old session does.
    server.show(&theirs.issue(Wish::local("localhost")));
    eventually(secs(10), "it is not believed", || agent.get("/primary").line() == "503 tls-failed");
    fs::copy(theirs.certificate(), &root).expect("copy the authority");
    eventually(secs(10), "it is believed again", || agent.get("/primary").line() == "200 Primary");
}

/// Answers who asks for TLS with this, and goes on as it pleases.
fn hostile(answer: &'static [u8], go_on: impl Fn(&mut dyn Write) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let go_on = std::sync::Arc::new(go_on);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let go_on = std::sync::Arc::clone(&go_on);
            thread::spawn(move || {
                let mut stream = stream;
                let mut request = [0; 8];
                while stream.read_exact(&mut request).is_ok() {
                    // GSSENCRequest ends with 0x30: no.
                    let wants_tls = request[7] == 0x2f;
                    if stream.write_all(if wants_tls { answer } else { b"N" }).is_err() {
                        return;
                    }
                    if wants_tls {
                        go_on(&mut stream);
                        return;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn a_server_that_never_ends_its_handshake_is_given_up_in_time_to_say_so() {
    let stalls = |_: &mut dyn Write| thread::sleep(secs(60));
    let drips = |stream: &mut dyn Write| {
        let _ = stream.write_all(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03");
        while stream.write_all(b"\x00").is_ok() {
            thread::sleep(millis(20));
        }
    };
    let sends_junk = |stream: &mut dyn Write| drop(stream.write_all(&[0x55; 4096]));
    for (what, place) in [
        ("does not say whether it speaks TLS", hostile(b"", stalls)),
        ("says neither yes nor no", hostile(b"?", stalls)),
        ("stalls", hostile(b"S", stalls)),
        ("drips", hostile(b"S", drips)),
        ("sends junk", hostile(b"S", sends_junk)),
        ("hangs up", hostile(b"S", |_| {})),
    ] {
        let dsn = format!("host=127.0.0.1 port={} user=u dbname=d sslmode=require", place.port());
        let agent = Agent::start(&["--dsn", &dsn, "--timeout", "500ms"]);
        let (mut most_threads, mut is_named) = (0, false);
        for _ in 0..12 {
            let reply = agent.get("/primary");
            assert!(reply.elapsed < millis(1000), "{what}: {:?}", reply.elapsed);
            is_named |= reply.line() == "503 tls-failed";
            // A login that began late for this request.
            let is_expected = ["503 tls-failed", "503 deadline-passed"].contains(&reply.line().as_str());
            assert!(is_expected, "{what}: {}", reply.line());
            most_threads = most_threads.max(agent.threads());
        }
        assert!(is_named, "{what}: {}", agent.log());
        assert!(most_threads < 30, "{what}: {most_threads} threads");
        // What hung has ended by itself.
        eventually(secs(10), "threads end", || agent.threads() <= 20);
    }
}
