use std::ffi::OsString;

use super::libpq::environment::tests::environment;
use super::*;

fn load(words: &[&str], files: &[(&str, &str)]) -> Result<Config, String> {
    let words = std::iter::once("pgsqlchk").chain(words.iter().copied()).map(OsString::from);
    build(crate::cli::parse(words).map_err(|exit| exit.text)?, &environment(&[], files))
}

#[test]
fn without_a_word_the_documented_defaults_hold() {
    let config = load(&[], &[]).unwrap();
    assert_eq!(config.mode, Mode::Standalone);
    assert_eq!(config.listen, []);
    assert_eq!(config.timeout, Duration::from_secs(2));
    assert_eq!(config.knock_interval, Duration::from_secs(1));
    assert_eq!((config.workers, config.max_connections), (4, 128));
    assert_eq!(config.allow, Allow::default());
    assert_eq!(config.log_level, log::LevelFilter::Info);
    assert_eq!(config.connection.endpoint, Endpoint::DefaultSocket);
}

#[test]
fn the_command_line_wins_over_the_file_and_the_file_over_the_defaults() {
    let text = "timeout = 5s\nworkers = 8\nlisten = 127.0.0.1:1\nlisten = 127.0.0.1:2\nallow = 192.0.2.0/24\n\
                dsn = host=/a port=1 user=u\n";
    let files = [("/etc/pgsqlchk/pgsqlchk.conf", text), ("/b.conf", "timeout = 7s")];
    let config = load(&["--workers=2", "--listen=127.0.0.1:3", "--dsn=port=9"], &files).unwrap();
    assert_eq!(config.timeout, Duration::from_secs(5));
    assert_eq!(config.workers, 2);
    assert_eq!(config.listen, ["127.0.0.1:3".parse().unwrap()], "a list is replaced");
    assert!(!config.allow.permits([203, 0, 113, 9].into()) && config.allow.permits([192, 0, 2, 9].into()));
    assert_eq!((config.connection.port, &*config.connection.user), (9, "ops"), "a connection string too");
    assert_eq!(load(&["--config", "/b.conf"], &files).unwrap().timeout, Duration::from_secs(7));
}

/// A service file that only the agent's user may read kept others from draining.
#[test]
fn the_switch_does_not_care_how_postgresql_is_reached() {
    let unreadable = &["--dsn=service=mine"][..];
    for mode in ["drain", "undrain"] {
        let config = load(&[&[mode], unreadable].concat(), &[]).unwrap();
        assert_eq!((config.connection.port, config.connection_problem), (5432, None), "{mode}");
    }
    let waits = load(&[&["drain", "--wait"], unreadable].concat(), &[]).unwrap();
    assert_eq!(waits.wait, Some(Wait::Unlimited));
    assert!(waits.connection_problem.is_some_and(|why| why.contains("mine")));
    assert!(load(&[&["check"], unreadable].concat(), &[]).is_err());
    for mode in ["undrain", "check", "standalone"] {
        assert_eq!(load(&[mode, "--wait"], &[]).unwrap_err(), "--wait goes with pgsqlchk drain alone");
    }
}

#[test]
fn a_named_file_must_exist() {
    let error = "cannot read the configuration file /none.conf: no such file";
    assert_eq!(load(&["--config=/none.conf"], &[]).unwrap_err(), error);
}

#[test]
fn a_named_instance_has_a_file_and_a_drain_file_of_its_own() {
    let files = [
        ("/etc/pgsqlchk/pgsqlchk.conf", "workers = 9"),
        ("/etc/pgsqlchk/15-main.conf", "timeout = 5s"),
        ("/etc/pgsqlchk/16-main.conf", "drain-file = /in/the/file"),
    ];
    let config = load(&["drain", "--instance", "15-main"], &files).unwrap();
    assert_eq!((config.timeout, config.workers), (Duration::from_secs(5), 4), "its own file, and no other");
    assert_eq!(config.drain_file, PathBuf::from("/run/pgsqlchk/15-main/drain"));
    let drain_file = |words: &[&str]| load(words, &files).unwrap().drain_file.clone();
    assert_eq!(drain_file(&["--instance=16-main"]), PathBuf::from("/in/the/file"));
    assert_eq!(drain_file(&["--instance=15-main", "--drain-file=/typed"]), PathBuf::from("/typed"));
    assert_eq!(drain_file(&[]), PathBuf::from("/run/pgsqlchk/drain"));
    let error = "cannot read the configuration file /etc/pgsqlchk/none.conf: no such file";
    assert_eq!(load(&["--instance=none"], &files).unwrap_err(), error);
    let error = "--instance \"../pgsqlchk\": a name has letters, digits, ";
    assert!(load(&["--instance=../pgsqlchk"], &files).unwrap_err().starts_with(error));
}

#[test]
fn errors_name_the_place_the_value_and_the_way_out() {
    for (words, expected) in [
        (&["--timeout=2"][..], "--timeout \"2\": a duration needs a unit (2s, 500ms)"),
        (&["--timeout="], "--timeout \"\": expected a whole number and a unit (2s, 500ms)"),
        (&["--workers", "many"], "--workers \"many\": expected a whole number from 1 to 64"),
        (
            &["--mode=once"],
            "--mode \"once\": expected standalone, xinetd, check, drain, undrain, cluster or doctor",
        ),
        (
            &["--listen=localhost:1"],
            "--listen \"localhost:1\": expected a numeric address and a port (0.0.0.0:23267, [::]:23267)",
        ),
        (
            &["--listen=127.0.0.1:1", "--listen=127.0.0.1:1"],
            "--listen \"127.0.0.1:1\": the address is given twice",
        ),
        (
            &["--dsn=password=s3cret x"],
            "--dsn: missing \"=\" after the name of parameter 2 (values with spaces need single quotes)",
        ),
        (&["--dsn=port=s3cret"], "--dsn: port: the value is not a port (1 to 65535)"),
    ] {
        assert_eq!(load(words, &[]).unwrap_err(), expected, "{words:?}");
    }
    assert_eq!(load(&["--listen=127.0.0.1:0", "--listen=127.0.0.1:0"], &[]).unwrap().listen.len(), 2);
}

#[test]
fn errors_in_the_file_name_it_as_given_and_the_line() {
    for (line, expected) in [
        ("timeout = \"2\"", "timeout = \"2\": a duration needs a unit (2s, 500ms)"),
        ("knock-interval = 1ms", "knock-interval = \"1ms\": expected 0 or 10ms to 1h"),
        ("log-level = loud", "log-level = \"loud\": expected error, warn, info or debug"),
        ("foo = 1", "unknown option \"foo\""),
        (
            "dsn = gssencmode=require",
            "dsn: gssencmode=require: this build speaks no GSSAPI: use the Unix socket, or gssencmode=disable on a trusted network",
        ),
        ("dsn = foo=1", "dsn: invalid connection option \"foo\""),
    ] {
        let files = [("rel/x.conf", &*format!("\n{line}\n"))];
        let error = load(&["--config=rel/x.conf"], &files).unwrap_err();
        assert_eq!(error, format!("rel/x.conf:2: {expected}"));
    }
}

#[test]
fn a_bad_line_is_an_error_even_where_the_command_line_overrides_it() {
    for line in ["timeout = 2", "listen = x", "allow = x", "dsn = x", "mode = once"] {
        let words = [
            "--timeout=1s",
            "--listen=127.0.0.1:0",
            "--allow=::1",
            "--dsn=",
            "--mode=standalone",
            "--config=c",
        ];
        assert!(load(&words, &[("c", line)]).unwrap_err().starts_with("c:1: "), "{line}");
    }
}
