//! What psql of Debian 12 does not know of TLS yet: it gets the client library of PostgreSQL 18, and the agent has to agree with
//! that. The agent is the one that is released with TLS.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::programs::Programs;
use super::server::{PASSWORD, Server};
use crate::support::cluster::psql_command;

/// The parameters, and whether they lead anywhere.
const ROWS: [(&str, bool); 13] = [
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
    ("sslmode=require sslcertmode=disable", true),
    ("sslmode=require channel_binding=require sslnegotiation=direct", true),
];

#[test]
fn what_newer_clients_know_of_tls_the_agent_knows_too() {
    let programs = Arc::new(Programs::of(18));
    let server = Server::new(&programs);
    server.start();
    server.psql(&format!("CREATE ROLE scrammed LOGIN PASSWORD '{PASSWORD}'"));
    let root = server.certificate();
    let folders = Path::new(env!("CARGO_TARGET_TMPDIR")).ancestors();
    let program = folders.map(|folder| folder.join("static/x86_64/pgsqlchk-tls")).find(|path| path.exists());
    let program = program.expect("make static");
    for (parameters, leads_anywhere) in ROWS {
        let parameters = parameters.replace("ROOT", &root.display().to_string());
        let dsn = server.tcp_dsn("scrammed", PASSWORD).replace("host=", "host=localhost hostaddr=");
        let dsn = format!("{dsn} {parameters}");
        // What this system trusts, for both: OpenSSL looks at this variable, and so does the agent.
        let run = |mut command: Command| {
            command.env("SSL_CERT_FILE", &root).env("HOME", "/nonexistent").stdin(Stdio::null());
            let output = command.output().expect("run the program");
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            (output.status.success(), said)
        };
        let mut psql = psql_command();
        psql.env("LD_LIBRARY_PATH", programs.libraries()).args(["-d", &dsn, "-c", "SELECT 1"]);
        let psql = run(psql);
        assert_eq!(psql.0, leads_anywhere, "psql: {parameters}: {}", psql.1);
        let mut ours = Command::new(&program);
        ours.args(["check", "--config", "/dev/null", "--dsn", &dsn]);
        let ours = run(ours);
        assert_eq!(ours.0, leads_anywhere, "{parameters}: {}\npsql: {}", ours.1, psql.1);
    }
    assert!(!server.log().contains("SSL error: unexpected"), "{}", server.log());
}
