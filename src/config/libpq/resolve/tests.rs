#[cfg(feature = "tls")]
use super::super::encryption::Encryption;
use super::super::environment::tests::environment;
use super::*;

const OWN_SERVICES: &str = "/home/ops/.pg_service.conf";

fn settings(
    dsn: &str,
    variables: &[(&str, &str)],
    files: &[(&str, &str)],
) -> Result<ConnectionSettings, String> {
    resolve(Some(Given::parse(dsn, "--dsn".into())?), &environment(variables, files))
}

fn from(dsn: &str, variables: &[(&str, &str)]) -> ConnectionSettings {
    settings(dsn, variables, &[]).unwrap_or_else(|why| panic!("{dsn} {variables:?}: {why}"))
}

/// What holds where nothing was said of TLS.
#[cfg(feature = "tls")]
fn encryption_at_home() -> Encryption {
    let file = |name: &str| Some(std::path::PathBuf::from("/home/ops/.postgresql").join(name));
    Encryption {
        authorities: crate::config::Authorities::File("/home/ops/.postgresql/root.crt".into()),
        certificate: file("postgresql.crt"),
        key: file("postgresql.key"),
        revocation_list: file("root.crl"),
        ..Encryption::unsaid()
    }
}

#[test]
fn with_nothing_given_the_documented_defaults_hold() {
    let defaults = ConnectionSettings {
        endpoint: Endpoint::DefaultSocket,
        port: 5432,
        user: "ops".into(),
        database: "postgres".into(),
        password: PasswordSource::Passfile("/home/ops/.pgpass".into()),
        application_name: "pgsqlchk".into(),
        options: None,
        connect_timeout: None,
        keepalives: Keepalives { enabled: true, idle: None, interval: None, count: None },
        tcp_user_timeout: None,
        #[cfg(feature = "tls")]
        encryption: encryption_at_home(),
    };
    assert_eq!(resolve(None, &environment(&[], &[])), Ok(defaults.clone()));
    assert_eq!(settings("", &[], &[]), Ok(defaults.clone()));
    // Empty variables and parameters mean the default, where libpq lets them.
    let empty = ["PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGPASSFILE"];
    assert_eq!(from("", &empty.map(|name| (name, ""))), defaults);
    assert_eq!(
        from("host='' hostaddr='' port='' user='' dbname='' password='' passfile='' options=''", &[]),
        defaults
    );
}

#[test]
fn every_used_parameter_arrives() {
    let dsn = "hostaddr=192.0.2.1 host=db port=5433 user=u dbname=d password=p application_name=a options=-cx=y \
               connect_timeout=3 keepalives=0 keepalives_idle=4 keepalives_interval=5 keepalives_count=6 \
               tcp_user_timeout=700 sslmode=disable client_encoding=UTF8 gssencmode=prefer";
    let expected = ConnectionSettings {
        endpoint: Endpoint::Tcp { host: Some("db".into()), address: Some([192, 0, 2, 1].into()) },
        port: 5433,
        user: "u".into(),
        database: "d".into(),
        password: PasswordSource::Given(Secret::new(b"p".to_vec())),
        application_name: "a".into(),
        options: Some("-cx=y".into()),
        connect_timeout: Some(Duration::from_secs(3)),
        keepalives: Keepalives {
            enabled: false,
            idle: Some(Duration::from_secs(4)),
            interval: Some(Duration::from_secs(5)),
            count: Some(6),
        },
        tcp_user_timeout: Some(Duration::from_millis(700)),
        #[cfg(feature = "tls")]
        encryption: Encryption {
            mode: crate::config::SslMode::Disable,
            host: Some("db".into()),
            ..encryption_at_home()
        },
    };
    assert_eq!(from(dsn, &[]), expected);
}

#[test]
fn every_variable_arrives() {
    let variables = [
        ("PGHOST", "/srv"),
        ("PGPORT", "5433"),
        ("PGUSER", "u"),
        ("PGDATABASE", "d"),
        ("PGPASSFILE", "/p"),
        ("PGCONNECT_TIMEOUT", "3"),
        ("PGAPPNAME", "a"),
        ("PGSSLMODE", "allow"),
        // Not of our list, so without effect.
        ("PGOPTIONS", "-cx=y"),
        ("PGTARGETSESSIONATTRS", "read-write"),
    ];
    let found = from("", &variables);
    assert_eq!(found.endpoint, Endpoint::UnixDirectory("/srv".into()));
    assert_eq!((found.port, &*found.user, &*found.database, &*found.application_name), (5433, "u", "d", "a"));
    assert_eq!(found.password, PasswordSource::Passfile("/p".into()));
    assert_eq!((found.connect_timeout, found.options), (Some(Duration::from_secs(3)), None));
    let found = from("", &[("PGHOSTADDR", "::1"), ("PGPASSWORD", "p")]);
    assert_eq!(found.endpoint, Endpoint::Tcp { host: None, address: Some("::1".parse().unwrap()) });
    assert_eq!(found.password, PasswordSource::Given(Secret::new(b"p".to_vec())));
}

#[test]
fn hosts_are_sockets_names_or_addresses() {
    let tcp = |host: Option<&str>, address: Option<&str>| Endpoint::Tcp {
        host: host.map(str::to_owned),
        address: address.map(|address| address.parse().unwrap()),
    };
    for (dsn, expected) in [
        ("host=/run/postgresql", Endpoint::UnixDirectory("/run/postgresql".into())),
        ("postgresql://%2Fsrv%2Fpg/x", Endpoint::UnixDirectory("/srv/pg".into())),
        ("host=localhost", tcp(Some("localhost"), None)),
        ("host=127.0.0.1", tcp(Some("127.0.0.1"), Some("127.0.0.1"))),
        ("postgres://[::1]:1/", tcp(Some("::1"), Some("::1"))),
        ("hostaddr=127.0.0.1", tcp(None, Some("127.0.0.1"))),
        ("host=/tmp hostaddr=127.0.0.1", tcp(None, Some("127.0.0.1"))),
    ] {
        assert_eq!(from(dsn, &[]).endpoint, expected, "{dsn}");
    }
}

#[test]
fn a_socket_path_must_fit() {
    let host = |length: usize| format!("host=/{}", "x".repeat(length - 1));
    // 14 bytes of the path are "/.s.PGSQL.5432".
    assert!(settings(&host(93), &[], &[]).is_ok());
    let error = "--dsn: host: the value makes the socket's path longer than 107 bytes";
    assert_eq!(settings(&host(94), &[], &[]), Err(error.into()));
}

#[test]
fn given_outranks_service_outranks_variable() {
    let files = [
        (OWN_SERVICES, "[s]\nport=2\nport=22\nuser=service\ndbname=\n[t]\nuser=t\n"),
        ("/s.conf", "[s]\nuser=other"),
    ];
    let all =
        [("PGPORT", "3"), ("PGUSER", "variable"), ("PGDATABASE", "variable"), ("PGAPPNAME", "variable")];
    let found = settings("port=1 service=s", &all, &files).unwrap();
    assert_eq!((found.port, &*found.user, &*found.application_name), (1, "service", "variable"));
    assert_eq!(found.database, "postgres", "an empty value in the service hides the variable");
    assert_eq!(settings("service=s", &[], &files).unwrap().port, 2, "the first of a service counts");
    assert_eq!(settings("port=7 port=8", &all, &files).unwrap().port, 8, "the last of a string counts");
    assert_eq!(
        settings("postgres:///", &all, &files).unwrap().database,
        "variable",
        "an absent path hides nothing"
    );

    let service =
        |dsn: &str, variables: &[(&str, &str)]| settings(dsn, variables, &files).map(|found| found.user);
    assert_eq!(service("", &[("PGSERVICE", "s")]), Ok("service".into()));
    assert_eq!(service("service=t", &[("PGSERVICE", "s")]), Ok("t".into()));
    assert_eq!(service("service=s", &[("PGSERVICEFILE", "/s.conf")]), Ok("other".into()));
    assert_eq!(service("service=s servicefile=/s.conf", &[("PGSERVICEFILE", "/none")]), Ok("other".into()));
    assert_eq!(service("servicefile=/none", &[]), Ok("ops".into()), "not looked at without a service");
    assert_eq!(service("postgres:///?service=t", &[]), Ok("t".into()));
}

#[test]
fn application_name_has_a_fallback() {
    for (dsn, variables, expected) in [
        ("fallback_application_name=f", &[][..], "f"),
        ("fallback_application_name=f application_name=a", &[], "a"),
        ("fallback_application_name=f", &[("PGAPPNAME", "v")], "v"),
        ("fallback_application_name=", &[], "pgsqlchk"),
        // libpq sends no name at all then.
        ("fallback_application_name=f", &[("PGAPPNAME", "")], ""),
    ] {
        assert_eq!(from(dsn, variables).application_name, expected, "{dsn} {variables:?}");
    }
}

#[test]
fn numbers_are_read_as_libpq_reads_them() {
    for (dsn, port) in [("port=' 5433\t'", 5433), ("port=+1", 1), ("port=0065535", 65535)] {
        assert_eq!(from(dsn, &[]).port, port, "{dsn}");
    }
    let zeros =
        from("connect_timeout=0 keepalives_idle=0 keepalives_count=-1 tcp_user_timeout=-5 keepalives=2", &[]);
    assert_eq!((zeros.connect_timeout, zeros.tcp_user_timeout), (None, None));
    assert_eq!(zeros.keepalives, Keepalives { enabled: true, idle: None, interval: None, count: None });
    assert_eq!(from("connect_timeout=-1", &[]).connect_timeout, None);
}

#[test]
fn bad_values_are_named_by_their_place() {
    let list = "is a list: one agent watches one instance: name the one on this host";
    for (dsn, variables, expected) in [
        ("port=abc", &[][..], "--dsn: port: the value is not a port (1 to 65535)".to_owned()),
        ("port=0", &[], "--dsn: port: the value is not a port (1 to 65535)".into()),
        ("port=65536", &[], "--dsn: port: the value is not a port (1 to 65535)".into()),
        ("", &[("PGPORT", "abc")], "PGPORT: \"abc\" is not a port (1 to 65535)".into()),
        ("", &[("PGPORT", "5432 5433")], "PGPORT: \"5432 5433\" is not a port (1 to 65535)".into()),
        ("", &[("PGPORT", "1,2")], format!("PGPORT: \"1,2\" {list}")),
        ("host=a,b", &[], format!("--dsn: host: the value {list}")),
        ("hostaddr=127.0.0.1,::1", &[], format!("--dsn: hostaddr: the value {list}")),
        ("hostaddr=localhost", &[], "--dsn: hostaddr: the value is not an IP address".into()),
        ("", &[("PGHOSTADDR", "db")], "PGHOSTADDR: \"db\" is not an IP address".into()),
        (
            "",
            &[("PGHOST", "@pg")],
            "PGHOST: \"@pg\" is an abstract socket, which this agent cannot reach: name a socket directory"
                .into(),
        ),
        ("connect_timeout=''", &[], "--dsn: connect_timeout: the value is not a whole number".into()),
        ("", &[("PGCONNECT_TIMEOUT", "")], "PGCONNECT_TIMEOUT: \"\" is not a whole number".into()),
        ("", &[("PGCONNECT_TIMEOUT", "2s")], "PGCONNECT_TIMEOUT: \"2s\" is not a whole number".into()),
        ("keepalives=yes", &[], "--dsn: keepalives: the value is not a whole number".into()),
        ("keepalives_idle=x", &[], "--dsn: keepalives_idle: the value is not a whole number".into()),
        (
            "tcp_user_timeout=99999999999",
            &[],
            "--dsn: tcp_user_timeout: the value is not a whole number".into(),
        ),
        (
            "",
            &[("PGSSLMODE", "on")],
            "PGSSLMODE: \"on\" is not one of disable, allow, prefer, require, verify-ca, verify-full".into(),
        ),
        (
            "sslmode=''",
            &[],
            "--dsn: sslmode: the value is not one of disable, allow, prefer, require, verify-ca, verify-full"
                .into(),
        ),
        (
            "",
            &[("PGSERVICE", "")],
            format!(
                "PGSERVICE: service \"\" was not found in {OWN_SERVICES} or /etc/postgresql-common/pg_service.conf"
            ),
        ),
        (
            "service=s",
            &[("PGSERVICEFILE", "/none")],
            "--dsn: service: cannot read the service file /none: no such file".into(),
        ),
    ] {
        assert_eq!(settings(dsn, variables, &[]), Err(expected), "{dsn} {variables:?}");
    }
    assert_eq!(
        settings("service=s", &[], &[(OWN_SERVICES, "[s]\n\nport=x")]),
        Err(format!("{OWN_SERVICES}:3: port: \"x\" is not a port (1 to 65535)"))
    );
    let nameless = Environment { user: || None, ..environment(&[], &[]) };
    let error = "the operating system has no name for this user: set user= in --dsn or PGUSER";
    assert_eq!(resolve(None, &nameless), Err(error.into()));
    assert_eq!(resolve(Some(Given::parse("user=u", "--dsn".into()).unwrap()), &nameless).unwrap().user, "u");
}

#[test]
fn what_would_weaken_the_request_is_refused_with_a_reason() {
    for (dsn, start) in [
        ("gssencmode=require", "--dsn: gssencmode=require: this build speaks no GSSAPI"),
        ("requirepeer=postgres", "--dsn: requirepeer: the server's user is not verified"),
        ("require_auth=scram-sha-256", "--dsn: require_auth: this agent cannot limit"),
        (
            "target_session_attrs=read-write",
            "--dsn: target_session_attrs=read-write: the agent reports the role",
        ),
        ("replication=database", "--dsn: replication: the agent needs an ordinary session"),
    ] {
        let error = settings(dsn, &[], &[]).unwrap_err();
        assert!(error.starts_with(start) && !error.contains('\n'), "{dsn}: {error}");
    }
    for dsn in [
        "sslmode=disable",
        "sslmode=allow",
        "sslmode=prefer",
        "sslrootcert=/x.pem sslcert=/c sslkey=/k sslcrl=/r",
        "sslnegotiation=postgres gssencmode=disable channel_binding=prefer",
        "target_session_attrs=any replication=false requirepeer='' require_auth=''",
        "load_balance_hosts=random krbsrvname=x gsslib=gssapi sslcompression=1",
    ] {
        assert!(settings(dsn, &[], &[]).is_ok(), "{dsn}");
    }
    // Only the value that counts is judged.
    assert!(settings("sslmode=prefer", &[("PGSSLMODE", "verify-full")], &[]).is_ok());
}

#[cfg(not(feature = "tls"))]
#[test]
fn tls_is_refused_where_it_is_not_in_the_build() {
    for (dsn, start) in [
        ("sslmode=require", "--dsn: sslmode=require: not in this build, install pgsqlchk-tls"),
        ("sslmode=verify-ca", "--dsn: sslmode=verify-ca: not in this build, install pgsqlchk-tls"),
        ("sslmode=verify-full", "--dsn: sslmode=verify-full: not in this build, install pgsqlchk-tls"),
        ("postgres:///?ssl=true", "--dsn: sslmode=require: not in this build, install pgsqlchk-tls"),
        ("requiressl=1", "--dsn: sslmode=require: not in this build, install pgsqlchk-tls"),
        ("sslrootcert=system", "--dsn: sslrootcert=system: not in this build, install pgsqlchk-tls"),
        ("sslnegotiation=direct", "--dsn: sslnegotiation=direct: not in this build, install pgsqlchk-tls"),
        ("sslcertmode=require", "--dsn: sslcertmode=require: not in this build, install pgsqlchk-tls"),
        (
            "channel_binding=require",
            "--dsn: channel_binding=require: not in this build, install pgsqlchk-tls",
        ),
    ] {
        let error = settings(dsn, &[], &[]).unwrap_err();
        assert!(error.starts_with(start) && !error.contains('\n'), "{dsn}: {error}");
    }
    for (variable, value) in [
        ("PGSSLMODE", "require"),
        ("PGSSLROOTCERT", "system"),
        ("PGSSLNEGOTIATION", "direct"),
        ("PGSSLCERTMODE", "require"),
        ("PGCHANNELBINDING", "require"),
    ] {
        let error = settings("", &[(variable, value)], &[]).unwrap_err();
        let start = format!("{variable}={value}: not in this build, install pgsqlchk-tls");
        assert!(error.starts_with(&start), "{error}");
    }
}

/// As psql says it, of versions that know all of these.
#[cfg(feature = "tls")]
#[test]
fn what_contradicts_itself_about_tls_is_refused() {
    for (dsn, expected) in [
        (
            "sslmode=verify-ca sslrootcert=system",
            "--dsn: sslrootcert: weak sslmode verify-ca may not be used with it (use verify-full)",
        ),
        (
            "sslnegotiation=direct",
            "--dsn: sslnegotiation: weak sslmode prefer may not be used with it (use require, verify-ca or verify-full)",
        ),
        (
            "ssl_max_protocol_version=TLSv1.1",
            "--dsn: ssl_max_protocol_version: it is below ssl_min_protocol_version (by default TLSv1.2)",
        ),
        (
            "ssl_min_protocol_version=TLSv1 ssl_max_protocol_version=TLSv1.1",
            "--dsn: ssl_max_protocol_version: nothing below TLSv1.2 is spoken here: leave it out",
        ),
        (
            "ssl_min_protocol_version=SSLv3",
            "--dsn: ssl_min_protocol_version: the value is not one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3",
        ),
    ] {
        assert_eq!(settings(dsn, &[], &[]), Err(expected.into()), "{dsn}");
    }
    assert!(settings("sslpassword=x", &[], &[]).unwrap_err().starts_with("--dsn: sslpassword: a key with a"));
    let mode = |dsn: &str, variables: &[(&str, &str)]| from(dsn, variables).encryption.mode;
    assert_eq!(mode("sslrootcert=system", &[]), crate::config::SslMode::VerifyFull);
    assert_eq!(
        mode("sslrootcert=system", &[("PGSSLMODE", "verify-full")]),
        crate::config::SslMode::VerifyFull
    );
    assert_eq!(mode("", &[("PGSSLMODE", "require")]), crate::config::SslMode::Require);
    assert!(from("sslnegotiation=direct sslmode=require", &[]).encryption.is_direct);
    let versions = |dsn: &str| from(dsn, &[]).encryption.versions;
    assert_eq!(versions("ssl_min_protocol_version=tlsv1.3"), [false, true]);
    assert_eq!(versions("ssl_max_protocol_version=TLSv1.2"), [true, false]);
    assert_eq!(versions("ssl_min_protocol_version='' ssl_max_protocol_version=TLSv1.3"), [true, true]);
}

#[test]
fn no_error_shows_a_password() {
    for dsn in [
        "password=s3cret port=x",
        "password=s3cret foo=x",
        "password=my s3cret",
        "password=my s3=cret s3cret=1",
        "password='s3cret",
        "postgres://u:s3cret@h:x/",
        "postgres://u:pa/s3cret@h/db",
        "postgres://u:s3cret/x@h/db",
        "postgres://u:p@s3cret@h,b/",
        "postgres://u:p@s3cret@h/",
        "postgres://u:p@s3cret@h/?port=s3cret",
        "postgres://u:s3cret%zz@h/",
        "postgres://u:p/s?s3cret=@h",
        "postgres://u@h/?password=s3cret&x=1",
        "postgres://u@h/?password=a=s3cret",
        "postgres://u:p@[s3cret",
        "host=h password=p hostaddr=s3cret",
        "sslmode=s3cret",
        "password=x s3cret",
    ] {
        let Err(error) = settings(dsn, &[], &[]) else { panic!("{dsn} was taken") };
        assert!(!error.contains("s3cret"), "{dsn}: {error}");
    }
    let files = [(OWN_SERVICES, "[s]\npassword=s3cret\nport=x")];
    assert!(!settings("service=s", &[("PGPASSWORD", "s3cret")], &files).unwrap_err().contains("s3cret"));
    let shown = format!("{:?}", from("password=s3cret", &[]));
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn what_the_environment_asks_for_is_not_weakened_either() {
    for (variable, value) in
        [("PGREQUIREPEER", "postgres"), ("PGREQUIREAUTH", "scram-sha-256"), ("PGGSSENCMODE", "require")]
    {
        let error = settings("", &[(variable, value)], &[]).unwrap_err();
        assert!(error.starts_with(variable) && !error.contains('\n'), "{error}");
    }
    for (variable, value) in [("PGREQUIREPEER", ""), ("PGREQUIREAUTH", ""), ("PGGSSENCMODE", "prefer")] {
        assert!(settings("", &[(variable, value)], &[]).is_ok(), "{variable}={value}");
    }
}
