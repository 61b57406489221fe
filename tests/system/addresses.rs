//! A host name with two addresses, of which only the second answers.

use std::process::Command;

use crate::packages::target;
use crate::support::Cluster;
use crate::support::folder::Folder;
use crate::support::impostor::FullQueue;

/// Once a process per check, which does not knock, spent its whole deadline on the first one.
#[test]
fn an_address_where_packets_vanish_leaves_time_for_the_next() {
    let primary = Cluster::primary();
    let port = primary.port();
    let (_hole, _) = FullQueue::tcp_at(([127, 0, 0, 2], port).into());
    let folder = Folder::new("addresses");
    let hosts = folder.write("hosts", "127.0.0.2 twofold\n127.0.0.1 twofold\n");
    let program = target().join("static/x86_64/pgsqlchk");
    // A login for a commit begins when the look has spent its share on the first one already.
    for more in ["", "--write-probe 1s"] {
        let script = format!(
            "mount --bind '{}' /etc/hosts
             exec '{}' --mode check --timeout 6s --config /dev/null --dsn 'host=twofold port={port} user=postgres' {more}",
            hosts.display(),
            program.display()
        );
        let check = Command::new("unshare").args(["--mount", "sh", "-euc", &script]).output();
        let check = check.expect("unshare");
        let said = String::from_utf8_lossy(&check.stdout).into_owned();
        assert_eq!(
            (said.as_str(), check.status.code()),
            ("primary timeline 1\n", Some(0)),
            "{more}: {check:?}"
        );
    }
}
