//! `/tmp`, where every user can put a socket and play PostgreSQL while it is down.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::Command;

use crate::packages::target;
use crate::support::Cluster;
use crate::support::postgresql::copy_program;

/// No user of this machine.
const STRANGER: u32 = 23_270;

/// The released program finds the server's socket by itself, in a `/tmp` of this test's own.
#[test]
fn in_tmp_a_socket_is_found_only_if_somebody_who_runs_servers_has_made_it() {
    let primary = Cluster::primary();
    let folder = primary.socket_dir();
    copy_program(target().join("static/x86_64/pgsqlchk"), &folder.join("pgsqlchk"));
    let socket = primary.socket_path();
    let script = format!(
        "mount --bind '{}' /tmp && mount -t tmpfs tmpfs /run
         exec /tmp/pgsqlchk --mode check --config /dev/null --dsn 'port={} user=postgres'",
        folder.display(),
        primary.port()
    );
    let check = |owner: u32| {
        chown(&socket, Some(owner), None).expect("chown");
        let output =
            Command::new("unshare").args(["--mount", "sh", "-euc", &script]).output().expect("unshare");
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), line)
    };
    let server = fs::metadata(&socket).expect("the socket").uid();
    for owner in [server, 0] {
        assert_eq!(check(owner), (Some(0), "primary timeline 1\n".to_owned()), "owner {owner}");
    }
    let (code, line) = check(STRANGER);
    assert_eq!(code, Some(2), "{line}");
    assert!(line.starts_with("unavailable (connection-refused): /tmp/.s.PGSQL."), "{line}");
    assert!(line.contains(&format!("belongs to user {STRANGER}")), "{line}");
}
