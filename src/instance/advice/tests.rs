use std::path::PathBuf;

use super::*;

fn settings(endpoint: Endpoint, user: &str) -> ConnectionSettings {
    ConnectionSettings {
        endpoint,
        port: 5432,
        user: user.into(),
        password: PasswordSource::Passfile(PathBuf::from("/nowhere/.pgpass")),
        ..ConnectionSettings::unsaid()
    }
}

fn told(cause: &str, settings: &ConnectionSettings) -> String {
    let failure = Failure::new(Reason::AuthenticationFailed, cause);
    advice(&failure, settings, Some("pgsqlchk")).expect("an advice")
}

#[test]
fn in_another_language_the_advice_names_every_way_in() {
    let settings = settings(Endpoint::DefaultSocket, "pgsqlchk");
    for cause in ["Rolle \"pgsqlchk\" existiert nicht", "Peer-Authentifizierung fehlgeschlagen"] {
        let line = told(cause, &settings);
        assert!(line.contains("sudo -u postgres createuser pgsqlchk"), "{line}");
        assert!(line.contains("`local postgres pgsqlchk peer`"), "{line}");
        assert!(line.contains("PostgreSQL's log says which"), "{line}");
    }
}

#[test]
fn root_is_nobodys_role() {
    let settings = settings(Endpoint::DefaultSocket, "root");
    let failure = Failure::new(Reason::AuthenticationFailed, "role \"root\" does not exist");
    let line = |os_user| advice(&failure, &settings, Some(os_user)).expect("an advice");
    assert!(
        line("root").starts_with("as the agent's user: sudo -u pgsqlchk pgsqlchk check"),
        "{}",
        line("root")
    );
    assert!(line("pgsqlchk").contains("createuser root"), "{}", line("pgsqlchk"));
}

#[test]
fn odd_names_are_quoted_for_whoever_reads_them() {
    let settings = settings(Endpoint::DefaultSocket, "it's Bob");
    let line = told("role \"it's Bob\" does not exist", &settings);
    assert!(line.ends_with(r"sudo -u postgres createuser 'it'\''s Bob'"), "{line}");
    let line = told("role \"it's Bob\" is not permitted to log in", &settings);
    assert!(line.ends_with(r#"psql -c 'ALTER ROLE "it'\''s Bob" LOGIN'"#), "{line}");
    let line = told("Peer authentication failed for user \"it's Bob\"", &settings);
    assert!(line.contains(r#"`agent pgsqlchk "it's Bob"`"#), "{line}");
}

#[test]
fn a_refused_tcp_login_is_told_its_own_line() {
    let address: IpAddr = "2001:db8::1".parse().unwrap();
    let settings = settings(Endpoint::Tcp { host: None, address: Some(address) }, "pgsqlchk");
    let cause = "no pg_hba.conf entry for host \"2001:db8::7\", user \"pgsqlchk\", no encryption";
    let line = told(cause, &settings);
    assert!(line.contains("`host postgres pgsqlchk 2001:db8::7/128 scram-sha-256`"), "{line}");
    let line = told("password missing", &settings);
    assert!(line.contains(r"echo '2001\:db8\:\:1:5432:postgres:pgsqlchk:PASSWORD'"), "{line}");
}
