//! The .deb in a minimal Debian: from the first installation to the purge.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};

use crate::container::{Container, Root, bind_server};
use crate::packages::{OLDER, OLDER_LINE, packages};
use crate::support::stream::Check;
use crate::support::{Cluster, Stream, eventually, http, secs, wire};
use crate::{SERVICE, address, assert_table};

const CONFIG: &str = "/etc/pgsqlchk/pgsqlchk.conf";
const SOCKETS: [&str; 2] = ["pgsqlchk.socket", "pgsqlchk-agent.socket"];

fn agent_check_address() -> SocketAddr {
    (address().ip(), 23268).into()
}

fn install(container: &Container, folder: &str) {
    // Of a changed file the admin's version stays, which apt would ask otherwise.
    container.shell(&format!(
        "DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Options::=--force-confold install \
         /{folder}/pgsqlchk_*_amd64.deb"
    ));
}

fn version(container: &Container) -> String {
    container.run(&["dpkg-query", "--show", "--showformat=${Version}", "pgsqlchk"])
}

/// Every file, folder and link of the system but what programs write into /var while they work, each with its kind,
/// mode, owner and destination; for /etc, where the users are, with its content.
pub fn inventory(container: &Container) -> BTreeMap<String, String> {
    // useradd's lock and its copies of the files before stay, as after any package that has made a user.
    let text = container.shell(
        r"find / -xdev \( -path /var/log -o -path /var/cache -o -path /var/lib/apt -o -path /var/lib/dpkg \
            -o -path /var/lib/systemd -o -path /tmp -o -path /var/tmp -o -path /new -o -path /older \) -prune -o \
            ! -path '/etc/*-' ! -name .pwd.lock -printf '%p\t%y %m %U:%G %l\n'
        find /etc -xdev -type f ! -name '*-' ! -name .pwd.lock -exec sha256sum {} + |
            sed 's/\([^ ]*\)  \(.*\)/content of \2\t\1/'
        find /run/systemd/generator* /run/systemd/transient /run/pgsqlchk /dev/shm /etc/systemd -printf '%p\t%y %l\n' \
            2>/dev/null || true
        dpkg-query --show --showformat='package ${Package}\t${Status}\n'
        systemctl list-unit-files --plain --no-legend | sed 's/^\([^ ]*\) */unit \1\t/'",
    );
    text.lines().filter_map(|line| line.split_once('\t')).map(|(a, b)| (a.into(), b.into())).collect()
}

/// What was added, removed or changed.
pub fn difference(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> BTreeSet<String> {
    let paths = before.keys().chain(after.keys());
    let changed = paths.filter(|path| before.get(*path) != after.get(*path));
    changed.map(|path| format!("{path}: {:?} -> {:?}", before.get(path), after.get(path))).collect()
}

pub fn none() -> BTreeSet<String> {
    BTreeSet::new()
}

#[track_caller]
fn assert_nothing_runs(container: &Container) {
    for address in [address(), agent_check_address()] {
        assert!(TcpStream::connect(address).is_err(), "somebody listens on {address}");
    }
    let found = container.shell("ls -l /proc/[0-9]*/exe 2>/dev/null | grep bin/pgsqlchk || true");
    assert_eq!(found, "", "no agent runs");
}

#[test]
fn a_package_is_installed_upgraded_under_load_removed_and_leaves_nothing() {
    let cluster = Cluster::primary();
    let binds = packages().binds();
    let container = Container::boot_root(Root::Minimal, &[&bind_server(&cluster), &binds[0], &binds[1]]);
    let before = inventory(&container);
    assert!(before.len() > 5000, "{} files are not a Debian", before.len());

    install(&container, "older");
    assert!(version(&container).starts_with(OLDER));
    // Nothing answers before the admin has decided, nor after the next boot.
    assert_nothing_runs(&container);
    let units =
        container.shell("systemctl list-unit-files --plain --no-legend 'pgsqlchk*' | awk '{print $1, $2}'");
    let states: BTreeSet<_> = units.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert!(units.lines().count() >= 5, "{units}");
    assert!(!states.contains("enabled") && !states.contains("alias"), "{units}");
    assert_eq!(container.run(&["stat", "--format=%a %U:%G", CONFIG]), "640 root:pgsqlchk");
    assert_eq!(container.run(&["stat", "--format=%a %U:%G", "/var/lib/pgsqlchk"]), "750 pgsqlchk:pgsqlchk");
    assert_eq!(container.run(&["stat", "--format=%a %U:%G", "/run/pgsqlchk"]), "755 root:root");

    let dsn = format!("dsn = host=/run/postgresql port={}\n", cluster.port());
    container.shell(&format!("echo '{dsn}' >>{CONFIG}"));
    let check = ["runuser", "--user", "pgsqlchk", "--", "pgsqlchk", "--mode", "check"];
    let (is_fine, said) = container.try_run(&check);
    assert!(!is_fine && said.contains("sudo -u postgres createuser"), "{said}");
    cluster.psql("CREATE ROLE pgsqlchk LOGIN");
    assert_eq!(container.run(&check), "primary timeline 1");

    container.run(&["systemctl", "--quiet", "enable", "--now", SOCKETS[0], SOCKETS[1]]);
    assert_table();
    assert_eq!(wire::talk(agent_check_address(), "/primary\n").text(), "up ready 100%\n");
    let before_upgrade = container.show(SERVICE, "MainPID");

    let stream = Stream::start(address(), &["/", "/primary", "/health", "/liveness"]);
    stream.advance(10);
    install(&container, "new");
    stream.advance(10);
    let checks = stream.finish();
    let lost: Vec<_> = checks.iter().filter(|check| !check.line.starts_with("200 ")).collect();
    assert!(lost.is_empty(), "{} of {} checks: {:?}", lost.len(), checks.len(), lost[0]);
    assert!(version(&container).starts_with(env!("CARGO_PKG_VERSION")));
    let after_upgrade = container.show(SERVICE, "MainPID");
    assert_ne!(before_upgrade, after_upgrade, "the old program still runs");
    assert_eq!(container.run(&["readlink", &format!("/proc/{after_upgrade}/exe")]), "/usr/bin/pgsqlchk");
    assert_table();
    assert_eq!(wire::talk(agent_check_address(), "/primary\n").text(), "up ready 100%\n");
    // The socket was enabled when that meant less.
    container.run(&["test", "-L", "/etc/systemd/system/pgsqlchk.service.requires/pgsqlchk.socket"]);
    // The configuration that was changed is as it was, and the new sample lies beside it.
    let config = container.shell(&format!("cat {CONFIG}"));
    assert!(config.contains(OLDER_LINE) && config.contains(dsn.trim_end()), "{config}");
    assert_eq!(container.run(&["stat", "--format=%a %U:%G", CONFIG]), "640 root:pgsqlchk");
    assert!(!container.shell(&format!("cat {CONFIG}.dpkg-dist")).contains(OLDER_LINE));

    // What does not run is not started.
    container.run(&["systemctl", "stop", SOCKETS[0], SOCKETS[1], SERVICE]);
    container
        .shell("DEBIAN_FRONTEND=noninteractive apt-get -qq --reinstall install /new/pgsqlchk_*_amd64.deb");
    assert_nothing_runs(&container);

    // Removing keeps the configuration, and another installation takes it up.
    container.run(&["systemctl", "start", SOCKETS[0], SOCKETS[1]]);
    assert_table();
    container.run(&["apt-get", "-qq", "remove", "pgsqlchk"]);
    assert_nothing_runs(&container);
    assert_eq!(container.shell(&format!("cat {CONFIG}")), config);
    install(&container, "new");
    assert_nothing_runs(&container);
    container.run(&["systemctl", "start", SOCKETS[0]]);
    assert_table();

    // Traces of use go, too: a password, the drain file, every unit enabled.
    container.shell(
        "install -o pgsqlchk -m 600 /dev/null /var/lib/pgsqlchk/.pgpass
        pgsqlchk --mode drain
        systemctl --quiet enable pgsqlchk.service pgsqlchk-inetd.socket pgsqlchk@pgsqlchk.service",
    );
    container.run(&["apt-get", "-qq", "purge", "pgsqlchk"]);
    assert_nothing_runs(&container);
    let units = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "pgsqlchk*"];
    // A service of which no file is left stays known for as long as its control group has a process, and the containers of
    // tests that run at the same time have their groups in common. What would lead to it on the disk is compared below.
    let is_known = |line: &&str| !line.contains(" not-found inactive dead ");
    eventually(secs(5), "systemd has forgotten the units", || {
        !container.run(&units).lines().any(|line| is_known(&line))
    });
    assert_eq!(difference(&before, &inventory(&container)), none());
}

#[test]
fn a_package_that_was_never_used_leaves_nothing_either() {
    let cluster = Cluster::primary();
    let binds = packages().binds();
    let container = Container::boot_root(Root::Minimal, &[&bind_server(&cluster), &binds[0], &binds[1]]);
    let before = inventory(&container);
    install(&container, "new");
    assert_ne!(difference(&before, &inventory(&container)), none(), "the comparison sees a package");
    assert_nothing_runs(&container);
    // What is made at boot is what the package has made.
    container.run(&["systemd-tmpfiles", "--create", "--remove", "--boot", "pgsqlchk.conf"]);
    assert_eq!(container.run(&["systemd-sysusers", "pgsqlchk.conf"]), "");
    assert_eq!(container.run(&["dpkg", "--verify", "pgsqlchk"]), "");
    container.run(&["apt-get", "-qq", "purge", "pgsqlchk"]);
    assert_eq!(difference(&before, &inventory(&container)), none());
}

const LINK: &str = "/etc/systemd/system/pgsqlchk-inetd@.service";
const OLD_DROP_IN: &str = "/etc/systemd/system/pgsqlchk@.service.d/override.conf";
const DROP_IN: &str = "/etc/systemd/system/pgsqlchk-inetd@.service.d/override.conf";

/// The name of its template was that of the instances. An override says how PostgreSQL is reached: without it every check
/// would be 503.
#[test]
fn an_enabled_socket_of_one_process_per_check_is_carried_over_while_it_is_asked() {
    let cluster = Cluster::primary();
    cluster.psql("CREATE ROLE pgsqlchk LOGIN");
    let binds = packages().binds();
    let container = Container::boot_root(Root::Minimal, &[&bind_server(&cluster), &binds[0], &binds[1]]);
    install(&container, "older");
    container.write(OLD_DROP_IN, &format!("[Service]\nEnvironment=PGPORT={}\n", cluster.port()));
    container.run(&["systemctl", "--quiet", "enable", "--now", "pgsqlchk-inetd.socket"]);
    assert_eq!(
        container.run(&["readlink", "--canonicalize", LINK]),
        "/usr/lib/systemd/system/pgsqlchk@.service"
    );
    assert_table();

    let stream = Stream::start(address(), &["/", "/primary", "/health", "/liveness"]);
    stream.advance(10);
    // apt unpacks everything before it configures anything, so the time between can be long.
    container.shell("dpkg --unpack /new/pgsqlchk_*_amd64.deb 2>&1");
    stream.advance(10);
    container.shell("dpkg --configure --pending --force-confold 2>&1");
    stream.advance(10);
    let checks = stream.finish();
    assert_hardly_any_lost(&checks, &container);
    assert!(
        !container.path(LINK).exists()
            && !container.path(OLD_DROP_IN).exists()
            && container.path(DROP_IN).exists()
    );
    let template = container.shell("systemctl cat pgsqlchk-inetd@1.service");
    assert!(template.contains("--mode xinetd") && template.contains("Environment=PGPORT="), "{template}");
    assert_eq!(container.run(&["systemctl", "is-enabled", "pgsqlchk-inetd.socket"]), "enabled");
    assert_eq!(container.show("pgsqlchk-inetd.socket", "ActiveState"), "active");
    assert_table();

    // And what was the template of checks is that of instances.
    container.write(
        "/etc/pgsqlchk/main.conf",
        &format!("listen = 127.0.0.1:23277\ndsn = host=/run/postgresql port={}\n", cluster.port()),
    );
    container.run(&["systemctl", "start", "pgsqlchk@main"]);
    let instance = SocketAddr::from((address().ip(), 23277));
    assert_eq!(http::get(instance, "/").expect("a reply").line(), "200 Primary");
    let before = container.show("pgsqlchk@main", "MainPID");
    container.shell("apt-get -qq --reinstall install /new/pgsqlchk_*_amd64.deb 2>&1");
    assert_ne!(
        container.show("pgsqlchk@main", "MainPID"),
        before,
        "an upgrade replaces the program of an instance"
    );
    assert_eq!(http::get(instance, "/").expect("a reply").line(), "200 Primary");
    container.run(&["apt-get", "-qq", "remove", "pgsqlchk"]);
    assert_nothing_runs(&container);
    assert!(TcpStream::connect(instance).is_err());
}

/// No check was started from a wrong template, or without its override. Each asker may meet the very moment in which the
/// program is replaced, once: systemd can't start what is renamed while it looks at it.
#[track_caller]
pub fn assert_hardly_any_lost(checks: &[Check], container: &Container) {
    let lost: Vec<_> = checks.iter().filter(|check| !check.line.starts_with("200 ")).collect();
    let answered = lost.iter().find(|check| check.line.starts_with(|first: char| first.is_ascii_digit()));
    let askers: BTreeSet<_> = lost.iter().map(|check| &check.path).collect();
    assert!(
        answered.is_none() && lost.len() == askers.len(),
        "{} of {} checks: {lost:?}",
        lost.len(),
        checks.len()
    );
    container.run(&["journalctl", "--sync"]);
    let journal = container.run(&["journalctl", "--no-pager"]);
    // Other units of the system fail, too.
    let ours: Vec<_> = journal.lines().filter(|line| line.contains("pgsqlchk")).collect();
    let failures = ["status=3/", "status=1/", "cannot read the configuration file"];
    let wrong = ours.iter().find(|line| failures.iter().any(|word| line.contains(word)));
    // By itself first: what prints a failed test may cut the rest.
    assert!(wrong.is_none(), "{wrong:?} of {ours:#?}");
}

#[test]
fn a_template_of_the_administrators_own_is_left_alone() {
    let cluster = Cluster::primary();
    let binds = packages().binds();
    let container = Container::boot_root(Root::Minimal, &[&bind_server(&cluster), &binds[0], &binds[1]]);
    for own in ["echo '[Service]' >", "ln -s /root/own.service "] {
        install(&container, "older");
        container.shell(&format!("{own} {LINK}"));
        container.write(OLD_DROP_IN, "[Service]\n");
        let before = container.shell(&format!("stat --format='%i %N' {LINK}"));
        install(&container, "new");
        container.run(&["apt-get", "-qq", "purge", "pgsqlchk"]);
        assert_eq!(container.shell(&format!("stat --format='%i %N' {LINK}")), before);
        assert!(container.path(OLD_DROP_IN).exists());
        container.shell(&format!("rm {LINK}"));
    }
}

/// `pgsqlchk --mode check` ran it, and said nothing but 0.
#[test]
fn a_script_that_the_shell_finds_first_is_named() {
    let cluster = Cluster::primary();
    let binds = packages().binds();
    let container = Container::boot_root(Root::Minimal, &[&bind_server(&cluster), &binds[0], &binds[1]]);
    let install = || container.shell("apt-get -qq --reinstall install /new/pgsqlchk_*_amd64.deb 2>&1");
    let says = |said: &str| -> Vec<String> {
        said.lines().filter(|line| line.starts_with("pgsqlchk: ")).map(str::to_owned).collect()
    };
    assert_eq!(says(&install()), [""; 0]);
    container.write("/usr/local/bin/pgsqlchk", "#!/bin/bash\necho HTTP/1.1 200 OK\n");
    container.write("/etc/xinetd.d/postgres", "service x\n{\n\tserver = /usr/local/bin/pgsqlchk\n}\n");
    container.run(&["chmod", "755", "/usr/local/bin/pgsqlchk"]);
    assert_eq!(container.shell("bash -lc 'pgsqlchk --mode check'"), "HTTP/1.1 200 OK", "it is found first");
    let said = says(&install());
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[0].contains("/usr/local/bin/pgsqlchk comes before /usr/bin/pgsqlchk in PATH"), "{said:#?}");
    assert!(said[0].contains("type -a pgsqlchk") && said[0].contains("docs/moving.md"), "{said:#?}");
    assert_eq!(
        said[1],
        "pgsqlchk: /etc/xinetd.d/postgres starts the script /usr/local/bin/pgsqlchk, and goes on doing so"
    );
    container.run(&["ln", "-sf", "/usr/bin/pgsqlchk", "/usr/local/bin/pgsqlchk"]);
    assert_eq!(says(&install()), [""; 0], "the same program");
}
