//! The files in packaging/examples/ with that HAProxy of Debian 13, and with the newest that Debian has, for what that of
//! Debian 12 does not know yet.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::container::made_by;
use crate::support::folder::Folder;
use crate::support::pages::{fenced, page};
use crate::support::site::{Balancer, EXAMPLES, Node, example, primary_and_standby, write_pool};
use crate::support::{Frozen, StopMode, secs};

/// The port for writes in every example.
const WRITES: u16 = 5000;

/// The newest HAProxy, with its own libraries.
fn newest() -> Command {
    of_root("haproxy")
}

/// The one in this root.
#[track_caller]
pub fn of_root(name: &str) -> Command {
    Command::new(made_by("other-haproxy", name))
}

/// The example with the line that is a comment in it.
fn with_init_state(name: &str) -> String {
    let text = example(name);
    let switched_on = text.replace("    #default-server init-state ", "    default-server init-state ");
    assert_ne!(text, switched_on, "{name}");
    switched_on
}

/// What it complains about, but that servers are down, and that this machine has no syslog.
fn complaints(said: &str) -> Vec<&str> {
    let others = [": Server ", "has no server available", "Health check for server", " in logger #"];
    let is_other = |line: &str| others.iter().any(|other| line.contains(other));
    let is_complaint =
        |line: &&str| ["[ALERT]", "[WARNING]"].iter().any(|word| line.contains(word)) && !is_other(line);
    said.lines().filter(is_complaint).collect()
}

#[test]
fn the_newest_haproxy_has_nothing_to_say_about_any_example() {
    let texts = |name: &str| vec![example(name), with_init_state(name)];
    expect_no_complaint(newest, texts);
}

#[test]
fn neither_has_that_of_debian_13() {
    expect_no_complaint(|| of_root("haproxy-13"), |name| vec![example(name)]);
}

fn expect_no_complaint(haproxy: impl Fn() -> Command, texts: impl Fn(&str) -> Vec<String>) {
    let folder = Folder::new("examples");
    let nodes = primary_and_standby();
    for name in EXAMPLES {
        for text in texts(name) {
            let file = folder.write(name, &text);
            let output =
                haproxy().arg("-c").arg("-f").arg(file).stdin(Stdio::null()).output().expect("haproxy -c");
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(output.status.success() && complaints(&said).is_empty(), "{name}: {said}");
            // Some it says only at the start, for example that root runs it as it is.
            let balancer = Balancer::start_command(haproxy(), &text, [&nodes[0], &nodes[1]]);
            balancer.expect_that(&write_pool(&text), "node1", "up", |state| state.status == "UP");
            assert_eq!(complaints(&balancer.haproxy.log()), [""; 0], "{name}");
        }
    }
}

#[test]
fn the_newest_haproxy_takes_a_check_by_its_name() {
    let check = fenced(&page("docs/haproxy.md"), "haproxy-3.4").into_iter().next().expect("a block");
    let text = example("cluster.cfg");
    let in_pool = "    option httpchk OPTIONS /read-write\n    http-check expect status 200\n";
    let by_name = text.replacen(in_pool, "    default-server healthcheck writes\n", 1);
    let by_name = by_name.replacen("listen ReadWrite", &format!("{check}\nlisten ReadWrite"), 1);
    assert!(!by_name.contains(in_pool) && by_name.contains(&check), "{by_name}");
    let [a, b] = primary_and_standby();
    let balancer = Balancer::start_command(newest(), &by_name, [&a, &b]);
    balancer.expect_that("ReadWrite", "node1", "up", |state| state.status == "UP");
    balancer.expect_that("ReadWrite", "node2", "refused", |state| state.check_code == "503");
    assert_eq!(complaints(&balancer.haproxy.log()), [""; 0]);
    assert_eq!(balancer.reaches(WRITES), a.port());
    a.cluster.stop(StopMode::Fast);
    b.cluster.promote();
    balancer.expect_that("ReadWrite", "node2", "up", |state| state.status == "UP");
    assert_eq!(balancer.reaches(WRITES), b.port());
}

/// Seen 70 ms after a start: HAProxy counted a standby as up whose first check was still under way. Here that takes three
/// seconds, because its agent stands still, and the other server is down.
#[test]
fn from_the_start_no_write_reaches_a_standby_once_init_state_is_switched_on() {
    let [a, b] = primary_and_standby();
    a.cluster.stop(StopMode::Fast);
    let frozen = Frozen::new(b.agent.pid());
    let start = |text: String| {
        let pool = write_pool(&text);
        (pool, Balancer::start_command(newest(), &text, [&a, &b]))
    };
    // `* L7TOUT` while the next one is under way.
    let is_checked = |(pool, balancer): &(String, Balancer)| {
        balancer.haproxy.server(pool, "node2").check_status.contains("L7TOUT")
    };
    // One after the other: its moment is over when the next ones have started.
    for name in EXAMPLES {
        // A busy machine may miss it.
        let is_reached = (0..5).any(|_| {
            let as_it_stands = start(example(name));
            let mut is_reached = reaches(&as_it_stands.1, &b, name);
            while !is_reached && !is_checked(&as_it_stands) {
                is_reached = reaches(&as_it_stands.1, &b, name);
            }
            is_reached
        });
        assert!(is_reached, "{name}: without the line there is such a moment");
    }
    let switched_on: Vec<_> = EXAMPLES.map(|name| start(with_init_state(name))).into();
    let begun = Instant::now();
    while !switched_on.iter().all(is_checked) {
        assert!(begun.elapsed() < secs(60), "the first checks end");
        for (name, (_, balancer)) in EXAMPLES.iter().zip(&switched_on) {
            assert!(!reaches(balancer, &b, name), "{name}: a write reached the standby");
        }
    }

    frozen.thaw();
    b.cluster.promote();
    for (pool, balancer) in &switched_on {
        balancer.expect_that(pool, "node2", "up", |state| state.status == "UP");
        assert_eq!(balancer.reaches(WRITES), b.port(), "and afterwards they flow");
    }
}

/// Whether a new client of the pool for writes reaches this node; no other one can be reached.
#[track_caller]
fn reaches(balancer: &Balancer, node: &Node, name: &str) -> bool {
    balancer.psql(WRITES, "SELECT inet_server_port()").is_ok_and(|port| {
        assert_eq!(port, node.port(), "{name}");
        true
    })
}
