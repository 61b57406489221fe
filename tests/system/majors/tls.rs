//! What psql of Debian 12 does not know of TLS yet: it gets the client library of PostgreSQL 18, and the agent has to agree with
//! that. The agent is the one that is released with TLS.

use std::process::{Command, Stdio};
use std::sync::Arc;

use super::programs::Programs;
use super::server::{PASSWORD, Server};
use crate::packages::target;
use crate::support::cluster::psql_command;
use crate::support::{eventually, secs};

/// The parameters, and whether they lead anywhere.
const ROWS: [(&str, bool); 14] = [
    ("sslmode=require", true),
    ("sslmode=require sslnegotiation=direct", true),
    ("sslmode=verify-full sslnegotiation=direct sslrootcert=ROOT", true),
    ("sslmode=verify-full sslnegotiation=direct", false),
    ("sslmode=prefer sslnegotiation=direct", false),
    ("sslnegotiation=direct", false),
    ("sslmode=disable sslnegotiation=direct", false),
    ("sslrootcert=system", true),
    ("sslmode=verify-full sslrootcert=system", true),
    ("sslmode=require sslrootcert=system", false),
    ("sslmode=require sslcertmode=require", false),
    ("sslmode=disable sslcertmode=require", false),
    ("sslmode=require sslcertmode=disable", true),
    ("sslmode=require channel_binding=require sslnegotiation=direct", true),
];

/// The same where the server asks for certificates, and believes the one that it has itself.
const ROWS_WITH_CERTIFICATES: [(&str, bool); 6] = [
    ("sslmode=require sslcertmode=require", false),
    ("sslmode=require sslcertmode=require sslcert=ROOT sslkey=KEY", true),
    ("sslmode=prefer sslcertmode=require sslcert=ROOT sslkey=KEY", true),
    ("sslmode=allow sslcertmode=require sslcert=ROOT sslkey=KEY", false),
    ("sslmode=require sslcertmode=disable sslcert=ROOT sslkey=KEY", true),
    ("sslmode=require sslnegotiation=direct sslcertmode=require sslcert=ROOT sslkey=KEY", true),
];

#[test]
fn what_newer_clients_know_of_tls_the_agent_knows_too() {
    let programs = Arc::new(Programs::of(18));
    let server = Server::new(&programs);
    server.start();
    server.psql(&format!("CREATE ROLE scrammed LOGIN PASSWORD '{PASSWORD}'"));
    for (parameters, leads_anywhere) in ROWS {
        agree(&programs, &server, parameters, leads_anywhere);
    }
    server.psql("ALTER SYSTEM SET ssl_ca_file = 'server.crt'");
    server.psql("SELECT pg_reload_conf()");
    eventually(secs(10), "it asks for certificates", || {
        server.psql("SHOW ssl_ca_file").contains("server.crt")
    });
    for (parameters, leads_anywhere) in ROWS_WITH_CERTIFICATES {
        agree(&programs, &server, parameters, leads_anywhere);
    }
    // Nobody asks for one there.
    for (certificate_mode, leads_anywhere) in [("allow", true), ("require", false)] {
        let dsn = format!("{} sslcertmode={certificate_mode}", server.dsn("postgres"));
        agree_on(&programs, &server, &dsn, leads_anywhere);
    }
    assert!(!server.log().contains("SSL error: unexpected"), "{}", server.log());
}

#[track_caller]
fn agree(programs: &Programs, server: &Server, parameters: &str, leads_anywhere: bool) {
    let root = server.certificate();
    let key = root.with_extension("key").display().to_string();
    let parameters = parameters.replace("ROOT", &root.display().to_string()).replace("KEY", &key);
    let dsn = server.tcp_dsn("scrammed", PASSWORD).replace("host=", "host=localhost hostaddr=");
    agree_on(programs, server, &format!("{dsn} {parameters}"), leads_anywhere);
}

#[track_caller]
fn agree_on(programs: &Programs, server: &Server, dsn: &str, leads_anywhere: bool) {
    // What this system trusts, for both: OpenSSL looks at this variable, and so does the agent.
    let run = |mut command: Command| {
        command.env("SSL_CERT_FILE", server.certificate()).env("HOME", "/nonexistent").stdin(Stdio::null());
        let output = command.output().expect("run the program");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), said)
    };
    let mut psql = psql_command();
    psql.env("LD_LIBRARY_PATH", programs.libraries()).args(["-d", dsn, "-c", "SELECT 1"]);
    let psql = run(psql);
    assert_eq!(psql.0, leads_anywhere, "psql: {dsn}: {}", psql.1);
    let mut ours = Command::new(target().join("static/x86_64/pgsqlchk-tls"));
    ours.args(["check", "--config", "/dev/null", "--dsn", dsn]);
    let ours = run(ours);
    assert_eq!(ours.0, leads_anywhere, "{dsn}: {}\npsql: {}", ours.1, psql.1);
}
