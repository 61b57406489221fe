//! Several agents on one host, each for a PostgreSQL instance of its own: the template `pgsqlchk@.service`.

use std::net::{SocketAddr, TcpStream};

use crate::container::{Container, Root, bind_server};
use crate::support::{Cluster, http};
use crate::{address, assert_writes_nowhere, primary};

/// The agents: what they are called, and their ports.
const INSTANCES: [(&str, u16); 2] = [("15-main", 23267), ("15-second", 23277)];

fn line(port: u16, path: &str) -> String {
    http::get(SocketAddr::from((address().ip(), port)), path).expect("a reply").line()
}

/// A host with a primary and the standby of another one, and agents for both, as docs/instances.md has them.
fn host(primary: &Cluster, standby: &Cluster) -> Container {
    let second = format!("--bind={}:/run/second", standby.socket_dir().display());
    let container = Container::boot_root(Root::Minimal, &[&bind_server(primary), &second]);
    container.install(primary);
    let folders = ["/run/postgresql", "/run/second"];
    for (((name, port), folder), cluster) in INSTANCES.iter().zip(folders).zip([primary, standby]) {
        let dsn = format!("dsn = host={folder} port={}\n", cluster.port());
        container.write(&format!("/etc/pgsqlchk/{name}.conf"), &format!("listen = [::]:{port}\n{dsn}"));
    }
    container
}

#[test]
fn each_instance_has_a_file_a_port_a_drain_file_and_a_journal_of_its_own() {
    let primary = primary();
    let standby = Cluster::standby_of(&primary);
    let container = host(&primary, &standby);
    let units = INSTANCES.map(|(name, _)| format!("pgsqlchk@{name}"));
    container.run(&["systemctl", "--quiet", "enable", "--now", &units[0], &units[1]]);
    assert_eq!((line(23267, "/"), line(23277, "/")), ("200 Primary".into(), "206 Standby".into()));
    for (unit, status) in units.iter().zip(["primary", "standby"]) {
        assert_eq!(container.show(unit, "StatusText"), status);
        assert_writes_nowhere(&container, &container.show(unit, "MainPID"));
        container.run(&["journalctl", "--sync"]);
        let identifier =
            container.shell(&format!("journalctl --no-pager --output=short --identifier={unit}"));
        assert!(
            identifier.contains(&format!(" {unit}[")) && identifier.contains("listening on "),
            "{identifier}"
        );
    }
    assert!(!container.journal(&units[0]).contains("standby"), "{}", container.journal(&units[0]));
    for (name, _) in INSTANCES {
        let of = container.shell(&format!("stat --format='%a %U:%G' /run/pgsqlchk /run/pgsqlchk/{name}"));
        assert_eq!(of, "755 root:root\n755 root:root", "{name}");
    }

    let said = container.run(&["pgsqlchk", "drain", "--instance", "15-second"]);
    assert!(said.starts_with("draining: /run/pgsqlchk/15-second/drain exists"), "{said}");
    assert_eq!((line(23267, "/"), line(23277, "/")), ("200 Primary".into(), "404 draining".into()));
    // The end of a service is not the end of a drain.
    container.run(&["systemctl", "restart", &units[1]]);
    assert_eq!((line(23267, "/"), line(23277, "/")), ("200 Primary".into(), "404 draining".into()));
    container.run(&["systemctl", "stop", &units[1]]);
    container.run(&["systemctl", "start", &units[1]]);
    assert_eq!(line(23277, "/"), "404 draining");
    let check = |name: &str| {
        container.try_run(&["runuser", "-u", "pgsqlchk", "--", "pgsqlchk", "check", "--instance", name])
    };
    assert_eq!(check("15-main"), (true, "primary timeline 1".into()));
    let (is_fine, said) = check("15-second");
    assert!(!is_fine && said.contains("draining"), "{said}");
    container.run(&["pgsqlchk", "undrain", "--instance", "15-second"]);
    assert_eq!(line(23277, "/"), "206 Standby");
    assert!(check("15-second").1.starts_with("standby timeline 1"));

    // Each goes by itself.
    container.run(&["systemctl", "--quiet", "disable", "--now", &units[0]]);
    assert!(TcpStream::connect(address()).is_err());
    assert_eq!(line(23277, "/replica"), "200 Standby");
}

#[test]
fn an_instance_without_a_file_is_told_which() {
    let primary = primary();
    let container = host(&primary, &primary);
    for (name, why) in [
        ("nobody", "cannot read the configuration file /etc/pgsqlchk/nobody.conf: no such file"),
        ("drain", "this name is taken: /run/pgsqlchk/drain is a drain file"),
    ] {
        let unit = format!("pgsqlchk@{name}");
        assert!(!container.try_run(&["systemctl", "start", &unit]).0);
        container.wait_for_journal(&unit, why);
        assert_eq!(container.show(&unit, "ExecMainStatus"), "3");
    }
}
