//! The .rpm, by real dnf on a node with a PostgreSQL of its own. The system is Debian's: what a package of another system
//! may need from it is provided by a package without files.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};

use crate::container::Container;
use crate::deb::assert_hardly_any_lost;
use crate::packages::{OLDER, OLDER_LINE, boot_node};
use crate::support::{Stream, eventually, http, secs};
use crate::{SERVICE, address, assert_table};

const CONFIG: &str = "/etc/pgsqlchk/pgsqlchk.conf";

/// What every system of RPM packages has.
const SYSTEM: &str = "\
Name: system
Version: 1
Release: 1
Summary: What Debian has without RPM's knowledge
License: MIT
BuildArch: noarch
Provides: /bin/sh
%description
None.
%files
";

/// Lets dnf know the system.
pub fn tell_dnf(container: &Container) {
    container.write("/root/system.spec", SYSTEM);
    container.shell(
        "cd /root && rpmbuild -bb --quiet --define '_rpmdir /root' system.spec &&
        dnf -y --quiet install ./noarch/system-1-1.noarch.rpm",
    );
}

fn install(container: &Container, folder: &str) {
    container.shell(&format!("dnf -y --quiet install /{folder}/pgsqlchk-[0-9]*.x86_64.rpm"));
}

/// The files of the system that belong to the package, or to its use.
fn traces(container: &Container) -> BTreeSet<String> {
    let text = container.shell(
        "find / -xdev \\( -path /proc -o -path /new -o -path /older -o -path /var/cache -o -path /var/log \
            -o -path /root -o -path /var/lib/dnf \\) -prune -o -name '*pgsqlchk*' -print
        find /run -xdev -path '*pgsqlchk*' -not -path '/run/systemd/*' -not -path '/run/log/*'",
    );
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn assert_nothing_runs(container: &Container) {
    assert!(TcpStream::connect(address()).is_err(), "somebody listens");
    let found = container.shell("ls -l /proc/[0-9]*/exe 2>/dev/null | grep bin/pgsqlchk || true");
    assert_eq!(found, "", "no agent runs");
}

#[test]
fn a_package_is_installed_by_dnf_upgraded_under_load_and_removed() {
    let container = boot_node(&[]);
    tell_dnf(&container);
    assert_eq!(traces(&container), BTreeSet::new());
    install(&container, "older");
    let version = ["rpm", "--query", "--queryformat=%{VERSION}", "pgsqlchk"];
    assert_eq!(container.run(&version), OLDER);
    assert_nothing_runs(&container);
    assert_eq!(container.run(&["stat", "--format=%a %U:%G", CONFIG]), "640 root:pgsqlchk");
    assert_eq!(container.run(&["stat", "--format=%a %U:%G", "/var/lib/pgsqlchk"]), "750 pgsqlchk:pgsqlchk");
    assert_eq!(container.run(&["rpm", "--verify", "pgsqlchk"]), "");

    container.run(&["sudo", "-u", "postgres", "createuser", "pgsqlchk"]);
    container.shell(&format!("echo 'timeout = 1900ms' >>{CONFIG}"));
    container.run(&["systemctl", "--quiet", "enable", "--now", "pgsqlchk.socket"]);
    assert_table();
    let before = container.show(SERVICE, "MainPID");

    let stream = Stream::start(address(), &["/", "/primary", "/health", "/liveness"]);
    stream.advance(10);
    install(&container, "new");
    stream.advance(10);
    let checks = stream.finish();
    let lost: Vec<_> = checks.iter().filter(|check| !check.line.starts_with("200 ")).collect();
    assert!(lost.is_empty(), "{} of {} checks: {:?}", lost.len(), checks.len(), lost[0]);
    assert_eq!(container.run(&version), env!("CARGO_PKG_VERSION"));
    let after = container.show(SERVICE, "MainPID");
    assert_ne!(before, after, "the old program still runs");
    assert_eq!(container.run(&["readlink", &format!("/proc/{after}/exe")]), "/usr/bin/pgsqlchk");
    assert_table();
    // The configuration that was changed is as it was, and the new sample lies beside it.
    let config = container.shell(&format!("cat {CONFIG}"));
    assert!(config.contains(OLDER_LINE) && config.contains("timeout = 1900ms"), "{config}");
    assert!(!container.shell(&format!("cat {CONFIG}.rpmnew")).contains(OLDER_LINE));
    assert_eq!(container.run(&["stat", "--format=%a %U:%G", CONFIG]), "640 root:pgsqlchk");

    // What does not run is not started.
    container.run(&["systemctl", "stop", "pgsqlchk.socket", SERVICE]);
    container.shell("dnf -y --quiet reinstall /new/pgsqlchk-[0-9]*.x86_64.rpm");
    assert_nothing_runs(&container);

    container.run(&["systemctl", "start", "pgsqlchk.socket"]);
    assert_table();
    container.run(&["dnf", "-y", "--quiet", "remove", "pgsqlchk"]);
    assert_nothing_runs(&container);
    // As is the custom there: the changed configuration under another name, the user and its home.
    assert_eq!(container.shell(&format!("cat {CONFIG}.rpmsave")), config);
    let left = [
        "/etc/pgsqlchk",
        "/etc/pgsqlchk/pgsqlchk.conf.rpmnew",
        "/etc/pgsqlchk/pgsqlchk.conf.rpmsave",
        "/var/lib/pgsqlchk",
    ];
    assert_eq!(traces(&container), left.map(str::to_owned).into());
    assert_eq!(container.run(&["id", "--user", "--name", "pgsqlchk"]), "pgsqlchk");
}

/// The version before, asked through systemd, which starts a process for each check; with this line in an override.
fn node_with_older_inetd_socket(line: &str) -> Container {
    let container = boot_node(&[]);
    tell_dnf(&container);
    install(&container, "older");
    container.run(&["sudo", "-u", "postgres", "createuser", "pgsqlchk"]);
    let own = "/etc/systemd/system/pgsqlchk@.service.d/override.conf";
    container.write(own, &format!("[Service]\n{line}\n"));
    container.run(&["systemctl", "--quiet", "enable", "--now", "pgsqlchk-inetd.socket"]);
    container
}

/// The units and files that were somewhere else in the version before.
#[test]
fn what_an_administrator_has_switched_on_is_carried_over() {
    let container = node_with_older_inetd_socket("Environment=PGAPPNAME=mine");
    assert_table();
    // On another port, under xinetd.
    let service = "/etc/xinetd.d/pgsqlchk";
    container.shell(&format!("sed -i 's/disable  .*/disable = no/; s/23267/23277/' {service}"));
    container.restart_xinetd();
    let of_xinetd = SocketAddr::from((address().ip(), 23277));
    let asks = || http::get(of_xinetd, "/").map(|reply| reply.line());
    eventually(secs(10), "xinetd listens", || asks().is_ok());
    container.write("/usr/local/bin/pgsqlchk", "#!/bin/sh\n");

    let stream = Stream::start(address(), &["/", "/primary", "/health", "/liveness"]);
    stream.advance(10);
    let said = container.shell("dnf -y install /new/pgsqlchk-[0-9]*.x86_64.rpm 2>&1");
    stream.advance(10);
    let checks = stream.finish();
    assert_hardly_any_lost(&checks, &container);
    for line in [
        "pgsqlchk: /etc/xinetd.d/pgsqlchk stays as it is and is yours now",
        "pgsqlchk: /usr/local/bin/pgsqlchk comes before /usr/bin/pgsqlchk in PATH",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let left =
        container.shell("find /etc/systemd /etc/xinetd.d /run/pgsqlchk -name '*pgsqlchk*' ! -type d | sort");
    let expected =
        ["/etc/systemd/system/sockets.target.wants/pgsqlchk-inetd.socket", "/etc/xinetd.d/pgsqlchk"];
    assert_eq!(left.lines().collect::<Vec<_>>(), expected);
    let template = container.shell("systemctl cat pgsqlchk-inetd@1.service");
    assert!(template.contains("--mode xinetd") && template.contains("PGAPPNAME=mine"), "{template}");
    assert_table();
    container.restart_xinetd();
    eventually(secs(10), "xinetd serves it", || asks().is_ok_and(|line| line == "200 Primary"));
    container.run(&["dnf", "-y", "--quiet", "remove", "pgsqlchk"]);
    assert!(container.path(service).exists(), "it is the administrator's");
}

/// So slow that some have begun, and have no program yet, at every moment of the upgrade.
#[test]
fn no_check_that_began_before_an_upgrade_is_started_as_an_instance() {
    let container = node_with_older_inetd_socket("ExecStartPre=+/bin/sleep 1");
    let stream = Stream::start(address(), &["/", "/primary", "/health", "/liveness"]);
    stream.advance(2);
    install(&container, "new");
    stream.advance(2);
    assert_hardly_any_lost(&stream.finish(), &container);
}
