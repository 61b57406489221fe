//! The real binary with good and bad configuration: whatever is wrong, a user sees one line that names what
//! and where, exit code 3, and nothing has been started.
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};

use support::folder::Folder;
use support::process::wait_for_exit;
use support::{Agent, agent, free_port, secs};

mod support;

const PASSWORD: &str = "s3cret";

/// One bad value for a setting and what is said about it.
struct Bad {
    name: &'static str,
    value: &'static str,
    why: &'static str,
}

const fn bad(name: &'static str, value: &'static str, why: &'static str) -> Bad {
    Bad { name, value, why }
}

const DURATION: &str = "a duration needs a unit (2s, 500ms)";
const ADDRESS: &str = "expected a numeric address and a port (0.0.0.0:23267, [::]:23267)";
const BLOCK: &str = "expected an address or a CIDR block (192.0.2.7, 192.0.2.0/24, 2001:db8::/32)";
const POOLER: &str = "expected HOST:PORT or the path of a socket";
const LAG: &str = "expected a size, a duration, or one of each (16MB, 10s, or 16MB,10s)";
const NO_TLS: &str = "not in this build, install pgsqlchk-tls (or use the Unix socket, or sslmode=prefer on a trusted network)";

const NOT_HERE: &str = "not in this build, install pgsqlchk-tls";

const BAD_VALUES: &[Bad] = &[
    bad("mode", "daemon", "expected standalone, xinetd, check, drain, undrain, cluster or doctor"),
    bad("mode", "", "expected standalone, xinetd, check, drain, undrain, cluster or doctor"),
    bad("listen", "localhost:23267", ADDRESS),
    bad("listen", "*:23267", ADDRESS),
    bad("listen", "23267", ADDRESS),
    bad("listen", "127.0.0.1", ADDRESS),
    bad("listen", "127.0.0.1:65536", ADDRESS),
    bad("listen", "::1:23267", ADDRESS),
    bad("listen", "", ADDRESS),
    bad("timeout", "2", DURATION),
    bad("timeout", "2sec", "unknown unit sec, expected us, ms, s, min, h or d"),
    bad("timeout", "soon", "expected a whole number and a unit (2s, 500ms)"),
    bad("timeout", "", "expected a whole number and a unit (2s, 500ms)"),
    bad("timeout", "0", "expected 10ms to 60s"),
    bad("timeout", "9ms", "expected 10ms to 60s"),
    bad("timeout", "2min", "expected 10ms to 60s"),
    bad("timeout", "99999999999999999999s", "the number is too large"),
    bad("knock-interval", "1", DURATION),
    bad("knock-interval", "-1s", "expected a whole number and a unit (2s, 500ms)"),
    bad("knock-interval", "1ms", "expected 0 or 10ms to 1h"),
    bad("knock-interval", "1d", "expected 0 or 10ms to 1h"),
    bad("login-interval", "1", DURATION),
    bad("login-interval", "499ms", "expected 0 or 500ms to 1h"),
    bad("login-interval", "2h", "expected 0 or 500ms to 1h"),
    bad("peer", "node1", "expected http://HOST:PORT or HOST:PORT"),
    bad(
        "peer",
        "https://node1:23267",
        "not in this build, install pgsqlchk-tls (or use http:// on a trusted network)",
    ),
    bad("peer", "node1:23267/node", "a peer has no path: it is asked for /node"),
    bad("peer-ca", "/etc/pgsqlchk/peers.crt", NOT_HERE),
    bad("tls-listen", "127.0.0.1:23269", NOT_HERE),
    bad("tls-cert", "/etc/pgsqlchk/tls.crt", NOT_HERE),
    bad("tls-key", "/etc/pgsqlchk/tls.key", NOT_HERE),
    bad("tls-client-ca", "/etc/pgsqlchk/clients.crt", NOT_HERE),
    bad("peer-interval", "1", DURATION),
    bad("peer-interval", "0", "expected 10ms to 1h"),
    bad("min-peers", "17", "expected a whole number from 0 to 16"),
    bad("write-probe", "999ms", "expected 1s to 1h, or off"),
    bad("write-probe", "61min", "expected 1s to 1h, or off"),
    bad("write-probe", "0", "expected 1s to 1h, or off"),
    bad("write-probe", "often", "expected a whole number and a unit (2s, 500ms), or off"),
    bad("pooler", "6432", POOLER),
    bad("pooler", "", POOLER),
    bad("pooler", "run/.s.PGSQL.6432", POOLER),
    bad(
        "pooler",
        "/run/postgresql/",
        "expected the socket itself, not its folder (/run/postgresql/.s.PGSQL.6432)",
    ),
    bad("format", "xml", "expected text or nagios"),
    bad("warning", "much", LAG),
    bad("warning", "16MB,16MB", LAG),
    bad("critical", "", LAG),
    bad("workers", "0", "expected a whole number from 1 to 64"),
    bad("workers", "65", "expected a whole number from 1 to 64"),
    bad("workers", "four", "expected a whole number from 1 to 64"),
    bad("workers", "", "expected a whole number from 1 to 64"),
    bad("max-connections", "0", "expected a whole number from 1 to 10000"),
    bad("max-connections", "10001", "expected a whole number from 1 to 10000"),
    bad("max-connections", "1e3", "expected a whole number from 1 to 10000"),
    bad("allow", "localhost", BLOCK),
    bad("allow", "192.0.2.0/33", BLOCK),
    bad("allow", "192.0.2.1:80", BLOCK),
    bad("allow", "", BLOCK),
    bad("agent-listen", "localhost:23268", ADDRESS),
    bad("agent-listen", "", ADDRESS),
    bad("max-lag", "16mb", "unknown unit mb, expected B, kB, MB, GB or TB"),
    bad("max-lag", "-1", "expected a number and a unit (16MB; B, kB, MB, GB, TB)"),
    bad("max-lag", "99999999TB", "the number is too large"),
    bad("max-lag-time", "10", DURATION),
    bad("max-lag-time", "10 seconds", "unknown unit seconds, expected us, ms, s, min, h or d"),
    bad("root-path", "/nowhere", "unknown path (/, /primary, /replica, ...)"),
    bad("root-path", "/replica?lag=1MB", "a path without parameters (--max-lag limits all of them)"),
    bad("root-path", "/status", "a document neither holds nor fails; ask for it over HTTP"),
    bad("tag", "north", "expected NAME=VALUE"),
    bad("tag", "d c=north", "a tag's name has letters, digits, _, - and . only"),
    bad("tag", "dc=", "a tag needs a value that can be seen"),
    bad("tag", "noloadbalance=yes", "noloadbalance is true or false"),
    bad("protocol", "smtp", "expected http or agent"),
    bad("drain-file", "drain", "expected an absolute path"),
    bad("drain-file", "", "expected an absolute path"),
    bad("drain-file", "/run/pgsqlchk/", "expected a file, without a slash at the end"),
    bad("idle-exit", "60", DURATION),
    bad("idle-exit", "0", "expected 1s to 24h"),
    bad("log-level", "loud", "expected error, warn, info or debug"),
    bad("log-level", "trace", "expected error, warn, info or debug"),
    bad("log-level", "", "expected error, warn, info or debug"),
    bad("log-target", "journal", "expected stderr, syslog or none"),
    bad("target", "/nowhere", "unknown path (/, /primary, /replica, ...)"),
    bad("target", "/replica?lag=1mb", "lag: unknown unit mb, expected B, kB, MB, GB or TB"),
    bad("target", "/primary?lag=1MB", "lag: /primary takes no parameters"),
    bad("target", "primary", "unknown path (/, /primary, /replica, ...)"),
    bad("target", "?", "expected a path (/, /primary, /replica, ...)"),
    bad("target", "", "expected a path (/, /primary, /replica, ...)"),
    bad("target", "/status", "a document neither holds nor fails; ask for it over HTTP"),
];

/// The same for connection strings, of which no value is shown.
const BAD_CONNECTION_STRINGS: &[(&str, &str)] = &[
    ("mydb", "missing \"=\" after the name of parameter 1 (values with spaces need single quotes)"),
    ("foo=1", "invalid connection option \"foo\""),
    ("host='x", "unterminated quoted string in parameter 1"),
    ("port=abc", "port: the value is not a port (1 to 65535)"),
    ("hostaddr=db", "hostaddr: the value is not an IP address"),
    ("host=a,b", "host: the value is a list: one agent watches one instance: name the one on this host"),
    ("connect_timeout=1s", "connect_timeout: the value is not a whole number"),
    (
        "sslmode=on",
        "sslmode: the value is not one of disable, allow, prefer, require, verify-ca, verify-full",
    ),
    ("sslmode=verify-full host=db", "sslmode=verify-full: NO_TLS"),
    ("postgres://db/?ssl=true", "sslmode=require: NO_TLS"),
    (
        "postgres://a,b/",
        "the URI names several hosts: one agent watches one instance: name the one on this host",
    ),
    ("postgres://db/%zz", "dbname: \"%\" needs two hexadecimal digits (\"%\" itself is %25)"),
    ("postgres://db/?port", "query parameter 1: missing \"=\""),
    (
        "target_session_attrs=read-write",
        "target_session_attrs=read-write: the agent reports the role whatever it is: leave the parameter out",
    ),
    (
        "password=s3cret x",
        "missing \"=\" after the name of parameter 2 (values with spaces need single quotes)",
    ),
    (
        "password=my s3=cret",
        "parameter 2 is not a connection option (not shown, it may be part of a password; values with spaces need \
         single quotes)",
    ),
    (
        "service=nowhere",
        "service: service \"nowhere\" was not found in HOME/.pg_service.conf or \
         HOME/sysconf/pg_service.conf",
    ),
];

/// A folder for one test's files, which is also the agent's home.
struct Home(Folder);

impl Home {
    fn new() -> Home {
        Home(Folder::new("configuration"))
    }

    fn path(&self) -> &str {
        self.0.path().to_str().expect("a path of ASCII")
    }

    fn write(&self, name: &str, content: &str) -> String {
        self.0.write(name, content).display().to_string()
    }

    fn agent(&self) -> Command {
        let mut command = agent::command();
        command.env("HOME", self.path()).env("PGSYSCONFDIR", self.0.path().join("sysconf"));
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }
}

/// What a finished run left behind.
struct Finished {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs to the end, which must come by itself.
#[track_caller]
fn finish(command: &mut Command) -> Finished {
    let shown = format!("{command:?}");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{shown}: {error}"));
    let ended = wait_for_exit(&mut child, secs(20));
    if ended.is_none() {
        child.kill().expect("kill the agent");
    }
    let output = child.wait_with_output().expect("collect the output");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ended.is_some(), "{shown} goes on: {}", text(&output.stderr));
    Finished { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// A command that must be refused with exactly this line.
#[track_caller]
fn assert_refused(command: &mut Command, line: &str) {
    let shown = format!("{command:?}");
    let run = finish(command);
    assert_eq!(run.stderr, format!("pgsqlchk: {line}\n"), "{shown}");
    assert_eq!(run.stdout, "", "{shown}");
    assert_eq!(run.code, Some(3), "{shown}");
}

fn help(home: &Home) -> String {
    let run = finish(home.agent().arg("--help"));
    assert_eq!((run.code, &*run.stderr), (Some(0), ""));
    run.stdout
}

#[test]
fn a_bad_value_on_the_command_line_is_refused() {
    let home = Home::new();
    for Bad { name, value, why } in BAD_VALUES {
        let line = format!("--{name} \"{value}\": {why}");
        let good = ["--config", "/dev/null"];
        assert_refused(home.agent().args(good).arg(format!("--{name}={value}")), &line);
        assert_refused(home.agent().args(good).arg(format!("--{name}")).arg(value), &line);
    }
    for (value, why) in BAD_CONNECTION_STRINGS {
        let why = why.replace("NO_TLS", NO_TLS).replace("HOME", home.path());
        assert_refused(home.agent().args(["--config=/dev/null", "--dsn", value]), &format!("--dsn: {why}"));
    }
}

#[test]
fn a_bad_line_in_the_file_is_refused() {
    let home = Home::new();
    let path = home.write("x.conf", "");
    let refused = |text: &str, line: &str| {
        home.write("x.conf", text);
        // The address would do, so that nothing but the file keeps the agent from starting.
        assert_refused(
            home.agent().args(["--config", &path, "--listen", "127.0.0.1:0"]),
            &format!("{path}:{line}"),
        );
    };
    for Bad { name, value, why } in BAD_VALUES {
        for text in [format!("# c\n\n{name} = {value}\n"), format!("\n\n\t{name}=\"{value}\" # c")] {
            refused(&text, &format!("3: {name} = \"{value}\": {why}"));
        }
    }
    for (value, why) in BAD_CONNECTION_STRINGS {
        let why = why.replace("NO_TLS", NO_TLS).replace("HOME", home.path());
        refused(&format!("workers = 2\ndsn = {value}\n"), &format!("2: dsn: {why}"));
    }
    for (text, line) in [
        ("foo = 1", "1: unknown option \"foo\""),
        ("max_lag = 16MB", "1: unknown option \"max_lag\"; did you mean max-lag?"),
        ("port = 5433", "1: unknown option \"port\"; it belongs into dsn (dsn = port=5433)"),
        ("Timeout = 1s", "1: unknown option \"Timeout\"; did you mean timeout?"),
        ("config = /x", "1: config stands on the command line only"),
        ("timeout 1s", "1: expected name = value"),
        ("[pgsqlchk]", "1: expected name = value"),
        ("timeout = 1s\ntimeout = 1s", "2: timeout is already set in line 1"),
        ("dsn = \"host=x", "1: dsn: the closing quote is missing"),
        (
            "listen = 127.0.0.1:1\nlisten = 127.0.0.1:1",
            "2: listen = \"127.0.0.1:1\": the address is given twice",
        ),
    ] {
        refused(text, line);
    }
}

#[test]
fn every_setting_has_a_bad_value_above() {
    let home = Home::new();
    let help = help(&home);
    let mut settings = help.lines().filter_map(|line| line.strip_prefix("  --")?.split(' ').next());
    assert_eq!(settings.clone().count(), 39, "{help}");
    let tested = |name: &str| BAD_VALUES.iter().any(|bad| bad.name == name);
    let others = ["dsn", "config", "instance", "haproxy", "wait", "version", "help"];
    let forgotten = settings.find(|name| !tested(name) && !others.contains(name));
    assert_eq!(forgotten, None);
}

#[test]
fn bad_usage_is_refused() {
    let home = Home::new();
    let argument = "an argument that is not an option; a value with spaces needs quotes";
    for (words, what) in [
        (&["--bogus"][..], "unknown option \"--bogus\""),
        (&["--bogus=s3cret"], "unknown option \"--bogus\""),
        (&["s3cret"], "the first word is none of standalone, xinetd, check, drain, undrain, cluster, doctor"),
        (&["check", "s3cret"], argument),
        (&["--dsn", "user=x", "password=s3cret"], argument),
        (&["-x"], argument),
        (&["--timeout"], "option --timeout needs a value"),
        (&["--timeout=1s", "--timeout=1s"], "option --timeout is given twice"),
        (
            &["--instance=a", "--config=/dev/null"],
            "--instance names a configuration file already, so there can be no --config",
        ),
        (&["--dsn", "password=s3cret", "--dsn", "password=s3cret"], "option --dsn is given twice"),
    ] {
        assert_refused(home.agent().args(words), &format!("{what} (try 'pgsqlchk --help')"));
    }
    let missing = "cannot read the configuration file /etc/pgsqlchk/there-is-none.conf: no such file";
    assert_refused(home.agent().args(["drain", "--instance=there-is-none"]), missing);
    let name =
        "a name has letters, digits, \"_\", \".\" and \"-\", and begins with none of the last two (15-main)";
    for bad in ["a/b", "../a", ".a", "-a", "a..b", "a b"] {
        let line = format!("--instance \"{bad}\": {name}");
        assert_refused(home.agent().args(["check", &format!("--instance={bad}")]), &line);
    }
    assert_refused(
        home.agent().args(["drain", "--wait=5"]),
        "--wait \"5\": a duration needs a unit (2s, 500ms) (try 'pgsqlchk --help')",
    );
    assert_refused(home.agent().args(["undrain", "--wait"]), "--wait goes with pgsqlchk drain alone");
    let twice = ["--config=/dev/null", "--listen=127.0.0.1:1", "--listen=127.0.0.1:1"];
    assert_refused(home.agent().args(twice), "--listen \"127.0.0.1:1\": the address is given twice");
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    let home = Home::new();
    let directory = home.path();
    let large = home.write("large", &"#".repeat(1024 * 1024 + 1));
    let binary = home.write("binary", "");
    fs::write(&binary, b"\n\ntimeout = \xff\n").unwrap();
    for (path, cause) in [
        ("/nonexistent/x.conf", "no such file"),
        ("two\nlines", "no such file"),
        (directory, "is a directory"),
        ("/dev/zero", "larger than 1 MiB"),
        (&large, "larger than 1 MiB"),
        (&binary, "line 3 is not UTF-8 text"),
    ] {
        let line = format!("cannot read the configuration file {}: {cause}", path.replace('\n', "\\n"));
        assert_refused(home.agent().args(["--config", path]), &line);
    }
    home.write("rel.conf", "timeout = 2");
    assert_refused(
        home.agent().arg("--config=rel.conf"),
        &format!("rel.conf:1: timeout = \"2\": {DURATION}"),
    );
}

#[test]
fn a_bad_variable_or_service_is_refused() {
    let home = Home::new();
    for (variable, value, line) in [
        ("PGPORT", "abc", "PGPORT: \"abc\" is not a port (1 to 65535)".to_owned()),
        ("PGPORT", "0", "PGPORT: \"0\" is not a port (1 to 65535)".into()),
        ("PGPORT", "a\nb", "PGPORT: \"a\\nb\" is not a port (1 to 65535)".into()),
        ("PGHOSTADDR", "db", "PGHOSTADDR: \"db\" is not an IP address".into()),
        (
            "PGHOST",
            "a,b",
            "PGHOST: \"a,b\" is a list: one agent watches one instance: name the one on this host".into(),
        ),
        ("PGCONNECT_TIMEOUT", "", "PGCONNECT_TIMEOUT: \"\" is not a whole number".into()),
        ("PGSSLMODE", "require", format!("PGSSLMODE=require: {NO_TLS}")),
        (
            "PGSSLMODE",
            "yes",
            "PGSSLMODE: \"yes\" is not one of disable, allow, prefer, require, verify-ca, verify-full".into(),
        ),
    ] {
        assert_refused(home.agent().arg("--config=/dev/null").env(variable, value), &line);
    }
    let services = home.write(".pg_service.conf", "[a]\nport=x\n[b]\npassword=s3cret\nfoo=1\n");
    for (service, line) in [
        ("a", format!("{services}:2: port: \"x\" is not a port (1 to 65535)")),
        ("b", format!("PGSERVICE: {services}:5: invalid connection option \"foo\"")),
        (
            "c",
            format!(
                "PGSERVICE: service \"c\" was not found in {services} or {}/sysconf/pg_service.conf",
                home.path()
            ),
        ),
    ] {
        assert_refused(home.agent().arg("--config=/dev/null").env("PGSERVICE", service), &line);
    }
}

#[test]
fn nothing_listens_when_the_configuration_is_bad() {
    let home = Home::new();
    let port = free_port();
    let listen = format!("--listen=127.0.0.1:{port}");
    let run = finish(home.agent().args(["--config=/dev/null", "--dsn=port=x", &listen]));
    assert_eq!(run.code, Some(3));
    assert!(!run.stderr.contains("listening on"), "{}", run.stderr);
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "something listens on {port}");
}

#[test]
fn version_and_help_go_to_stdout() {
    let home = Home::new();
    let run = finish(home.agent().arg("--version"));
    assert_eq!((run.code, &*run.stdout, &*run.stderr), (Some(0), "pgsqlchk 0.1.0\n", ""));
    assert!(help(&home).starts_with("Usage: pgsqlchk [OPTION]...\n"));
    // Neither looks at the rest of the configuration.
    let run = finish(home.agent().args(["--config=/nonexistent", "--timeout=x", "--help"]));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn a_reader_that_has_gone_away_is_no_error() {
    let home = Home::new();
    let mut child = home.agent().arg("--help").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}

/// The counterpart of the refusals: the same forms with good values start.
#[test]
fn a_good_configuration_starts() {
    let home = Home::new();
    let file = "# everything at once\nmode = standalone\nlisten = 127.0.0.1:0\ndsn = host=/nonexistent user='a b'\n\
                timeout = \"500ms\" # with a unit\nknock-interval = 0\nlogin-interval = 0\nworkers=2\nmax-connections = 16\n\
                allow = 127.0.0.0/8\nallow = ::1\nlog-level = 'info'\n";
    let file = home.write("good.conf", file);
    let agent = Agent::start_with(|command| {
        *command = home.agent();
        command.args(["--config", &file]);
    });
    assert_eq!(agent.get("/").line(), "503 connection-refused");
    let agent = Agent::start_with(|command| {
        *command = home.agent();
        command.env("PGSSLMODE", "disable").args([
            "--config=/dev/null",
            "--listen=127.0.0.1:0",
            "--listen",
            "127.0.0.1:0",
            "--timeout=1min",
            "--knock-interval=10ms",
            "--login-interval=500ms",
            "--dsn=postgres://u@%2Fnonexistent:5433/db?sslmode=prefer&client_encoding=UTF8",
        ]);
    });
    assert_eq!(agent.get("/").line(), "503 connection-refused");
}

/// Wherever a quote or an escape can be forgotten, a part of the password could end up in the error.
#[test]
fn a_refusal_never_shows_a_password() {
    let home = Home::new();
    home.write(".pg_service.conf", "[s]\npassword=s3cret\nport=x\n");
    for dsn in [
        "password=s3cret port=x",
        "password=s3cret sslmode=require",
        "password='s3cret",
        "password=my s3cret",
        "password=x s3cret=y",
        "postgres://u:s3cret@db:x/",
        "postgres://u:s3cret/y@db/",
        "postgres://u:x/s3cret@db/",
        "postgres://u:x@s3cret@db/",
        "postgres://u:s3cret%@db/",
        "postgres://db/?password=s3cret&foo=1",
        "service=s",
    ] {
        let file = home.write("bad.conf", &format!("dsn = {dsn}"));
        for arguments in [["--config=/dev/null", "--dsn", dsn], ["--config", &file, "--workers=1"]] {
            let run = finish(home.agent().args(arguments).env("PGPASSWORD", PASSWORD));
            assert_eq!(run.code, Some(3), "{dsn}");
            assert!(!run.stderr.contains(PASSWORD) && run.stdout.is_empty(), "{dsn}: {}", run.stderr);
        }
    }
}
