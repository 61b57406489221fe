//! A mistake in the configuration, on a real systemd: it must not cost the port, and the cure is what the pages say.

use std::time::Instant;

use crate::container::Container;
use crate::support::{eventually, http, secs};
use crate::{SERVICE, address, assert_table, get, primary};

const CONFIG: &str = "/etc/pgsqlchk/pgsqlchk.conf";
const SOCKET: &str = "pgsqlchk.socket";
const MISTAKE: &str = "a duration needs a unit";

#[test]
fn bad_configuration_is_not_tried_again() {
    let primary = primary();
    let container = Container::boot(&primary);
    container.write(CONFIG, "timeout = 2\n");
    assert!(!container.try_run(&["systemctl", "start", SERVICE]).0);
    assert_eq!(container.show(SERVICE, "ActiveState"), "failed");
    assert_eq!(container.show(SERVICE, "ExecMainStatus"), "3");
    assert_eq!(container.show(SERVICE, "NRestarts"), "0");
    container.wait_for_journal(SERVICE, MISTAKE);
}

/// How often it was said.
fn mistakes(container: &Container) -> usize {
    container.journal(SERVICE).matches(MISTAKE).count()
}

/// Two HAProxy hosts, that is, for this long.
#[track_caller]
fn check_for(container: &Container, seconds: u64) {
    let began = Instant::now();
    eventually(secs(seconds + 20), "the checks go on", || {
        assert_eq!(container.show(SOCKET, "Result"), "success");
        // In the moment between two agents the socket itself accepts.
        assert_eq!(get("/read-write").line(), "503 bad-configuration");
        began.elapsed() > secs(seconds)
    });
}

/// It was 47 lines, a port that was closed for good, and a cure that stood in a comment.
#[test]
fn a_mistake_does_not_cost_the_port_and_is_said_once_a_minute() {
    let primary = primary();
    let container = Container::boot(&primary);
    let good = container.shell(&format!("cat {CONFIG}"));
    container.run(&["systemctl", "--quiet", "enable", "--now", SOCKET]);
    assert_table();
    container.shell(&format!("echo 'timeout = 2' >>{CONFIG}"));
    // Who types this learns of it at once, and so does HAProxy.
    let began = Instant::now();
    assert!(!container.try_run(&["systemctl", "restart", "pgsqlchk"]).0);
    assert!(began.elapsed() < secs(10), "{:?}", began.elapsed());
    check_for(&container, 10);
    assert_eq!(mistakes(&container), 2, "by the restart and by the first check");
    assert_eq!(container.show(SOCKET, "ActiveState"), "active");
    let status = container.show(SERVICE, "StatusText");
    assert!(status.contains(&format!("{CONFIG}:2: timeout")) && status.contains(MISTAKE), "{status}");

    container.write(CONFIG, &format!("{good}\n"));
    container.run(&["systemctl", "restart", "pgsqlchk"]);
    assert_table();
    assert_eq!(container.show(SOCKET, "SubState"), "running", "the port is still the socket's");

    // The same from the start, and nobody does anything but mend the file.
    container.run(&["systemctl", "stop", SOCKET, SERVICE]);
    container.write(CONFIG, "timeout = 2\n");
    let (before, began) = (mistakes(&container), Instant::now());
    container.run(&["systemctl", "start", SOCKET]);
    check_for(&container, 5);
    container.write(CONFIG, &format!("{good}\n"));
    eventually(secs(75), "the next try", || get("/").line() == "200 Primary");
    assert!(began.elapsed() > secs(55), "{:?}", began.elapsed());
    assert_eq!(mistakes(&container) - before, 1, "a minute, a line");
    assert_table();
}

/// The service then had a port of its own, and the socket could not be started again.
#[test]
fn a_service_whose_socket_is_enabled_never_listens_beside_it() {
    let primary = primary();
    let container = Container::boot(&primary);
    container.run(&["systemctl", "--quiet", "enable", SOCKET]);
    // Closed by hand, or by a limit.
    container.run(&["systemctl", "start", SOCKET]);
    container.run(&["systemctl", "stop", SOCKET, SERVICE]);
    assert!(http::get(address(), "/").is_err(), "closed");
    container.run(&["systemctl", "restart", "pgsqlchk"]);
    assert_table();
    assert_eq!(container.show(SOCKET, "SubState"), "running");
    let pid = container.show(SERVICE, "MainPID");
    let passed = container.shell(&format!("tr '\\0' '\\n' </proc/{pid}/environ | grep LISTEN_FDS="));
    assert_eq!(passed, "LISTEN_FDS=1");
    // Without the socket the service is what it was.
    container.run(&["systemctl", "--quiet", "disable", "--now", SOCKET]);
    container.run(&["systemctl", "restart", "pgsqlchk"]);
    assert_table();
    assert_eq!(container.show(SOCKET, "ActiveState"), "inactive");
}
