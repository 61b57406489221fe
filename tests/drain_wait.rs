//! `pgsqlchk drain --wait`: stays until no session is left, by HAProxy's word and PostgreSQL's, and says what is.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use support::process::wait_for_exit;
use support::site::{Balancer, Node, Site, example, primary_and_standby};
use support::{Agent, Cluster, Signal, agent, eventually, millis, secs, signal};

/// Nothing here takes longer, however busy the machine is.
const SOON: Duration = secs(20);

/// `pgsqlchk drain --wait` beside an agent.
fn command(agent: &Agent, dsn: &str, drain_file: &Path, wait: &str) -> Command {
    let mut command = agent::command();
    command.args(["drain", "--config", "/dev/null", "--dsn", dsn, "--timeout", "1s"]);
    command.args(["--listen", &agent.addr().to_string(), "--drain-file"]).arg(drain_file).arg(wait);
    command.stdin(Stdio::null());
    command
}

fn of_node(node: &Node, wait: &str) -> Command {
    command(&node.agent, &node.cluster.dsn(), &node.drain_file(), wait)
}

/// Exit code, and all lines.
#[track_caller]
fn finish(mut command: Command) -> (i32, Vec<String>) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{output:?}");
    (output.status.code().expect("an exit code"), lines(&output))
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// The last line begins so and has these words.
#[track_caller]
fn assert_last(lines: &[String], begin: &str, words: &[&str]) {
    let last = lines.last().expect("a line");
    assert!(last.starts_with(begin) && words.iter().all(|word| last.contains(word)), "{words:?}: {lines:#?}");
}

/// Sessions of clients, as psql sees them from its own.
fn clients(cluster: &Cluster) -> String {
    cluster.psql(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
         AND application_name NOT LIKE 'pgsqlchk%'",
    )
}

/// Stops the workers when it goes.
struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_loaded_node_is_drained_through_haproxy_and_no_transaction_is_lost() {
    let site = Site::start(&example("drain.cfg"));
    for node in ["node1", "node2"] {
        site.expect("ReadOnly", node, ["UP", "200", ""]);
    }
    site.expect("ReadWrite", "node1", ["UP", "200", ""]);
    let (stop, on_b, elsewhere) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let port_of_b: i32 = site.b.port().parse().expect("a port");
    let transact = |client: &mut Client, pause: &str| {
        let mut transaction = client.transaction().expect("BEGIN");
        let row = transaction.query_one("SELECT inet_server_port()", &[]).expect("the first query");
        transaction.batch_execute(&format!("SELECT pg_sleep({pause})")).expect("the second query");
        transaction.commit().expect("COMMIT");
        let count = if row.get::<_, i32>(0) == port_of_b { &on_b } else { &elsewhere };
        count.fetch_add(1, Ordering::SeqCst);
    };
    thread::scope(|scope| {
        // Also where something below fails: the workers would go on for ever.
        let stopper = Stopper(&stop);
        let mut workers = Vec::new();
        for _ in 0..3 {
            // A session for each transaction.
            workers.push(scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    transact(&mut site.connect(5001), "0.01");
                }
            }));
            // Sessions that go on for seconds, as those of an application's pool do.
            workers.push(scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let (mut client, began) = (site.connect(5001), Instant::now());
                    while began.elapsed() < secs(3) && !stop.load(Ordering::SeqCst) {
                        transact(&mut client, "0.2");
                    }
                }
            }));
        }
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        eventually(SOON, "both nodes have work", || count(&on_b) > 20 && count(&elsewhere) > 20);
        assert_ne!(clients(&site.b.cluster), "0");

        let (code, lines) = finish(of_node(&site.b, "--wait=60s"));
        let left = clients(&site.b.cluster);
        assert_last(
            &lines,
            "drained: ",
            &["ReadOnly/node2: 0", "ReadWrite/node2: 0", "PostgreSQL: 0 client sessions"],
        );
        assert_eq!((code, left.as_str()), (0, "0"), "{lines:#?}");
        assert!(
            lines.len() > 2 && lines[0].starts_with("draining: "),
            "it said what it waited for: {lines:#?}"
        );

        // Nothing comes back, and the others go on elsewhere.
        let (before, goal) = (count(&on_b), count(&elsewhere) + 50);
        eventually(SOON, "the other node has the work", || count(&elsewhere) >= goal);
        assert_eq!((count(&on_b), clients(&site.b.cluster).as_str()), (before, "0"));
        drop(stopper);
        for worker in workers {
            worker.join().expect("no transaction failed");
        }
    });
    assert!(site.b.drain_file().exists());
    site.b.switch("undrain");
    site.expect("ReadOnly", "node2", ["UP", "200", ""]);
}

#[test]
fn what_is_left_when_the_time_is_over_is_said_and_the_node_still_drains() {
    let site = Site::start(&example("drain.cfg"));
    site.expect("ReadOnly", "node2", ["UP", "200", ""]);
    let mut client = site.connect_to(5001, &site.b);
    let (code, lines) = finish(of_node(&site.b, "--wait=4s"));
    assert_eq!(code, 1, "{lines:#?}");
    assert_last(
        &lines,
        "the time is over",
        &["ReadOnly/node2: 1", "ReadWrite/node2: 0", "PostgreSQL: 1 client session"],
    );
    assert!(site.b.drain_file().exists());
    client.simple_query("SELECT 1").expect("the session goes on");

    // Draining already, without a limit: until the session goes.
    let mut child = of_node(&site.b, "--wait").stdout(Stdio::piped()).spawn().expect("start it");
    thread::sleep(secs(2));
    assert!(child.try_wait().expect("wait").is_none(), "there is a session yet");
    drop(client);
    let status = wait_for_exit(&mut child, SOON).expect("it ends");
    assert_eq!(status.code(), Some(0));
}

/// A HAProxy that has said nothing since may have sent a session meanwhile.
#[test]
fn a_haproxy_that_says_nothing_since_is_waited_for() {
    let [a, b] = primary_and_standby();
    let balancer = Balancer::start(&example("drain.cfg"), [&a, &b]);
    balancer.expect("ReadOnly", "node2", ["UP", "200", ""]);
    balancer.haproxy.freeze();
    let (code, lines) = finish(of_node(&b, "--wait=7s"));
    assert_eq!(code, 1, "{lines:#?}");
    assert_last(&lines, "the time is over", &["ReadOnly/node2: 0 before the drain, nothing since"]);
    balancer.haproxy.thaw();
    let (code, lines) = finish(of_node(&b, "--wait=30s"));
    assert_eq!(code, 0, "{lines:#?}");
}

#[test]
fn without_haproxys_word_postgresqls_sessions_alone_count() {
    let node = Node::start(Cluster::primary());
    let mut client = node.cluster.connect();
    let (code, lines) = finish(of_node(&node, "--wait=1s"));
    assert_eq!(code, 1, "{lines:#?}");
    let nobody = "no HAProxy says what it has (http-check send-state)";
    assert_last(&lines, "the time is over", &[nobody, "PostgreSQL: 1 client session"]);
    client.simple_query("SELECT 1").expect("the session goes on");
    drop(client);
    let begun = Instant::now();
    let (code, lines) = finish(of_node(&node, "--wait"));
    assert_eq!(code, 0, "{lines:#?}");
    assert_last(&lines, "drained: ", &[nobody, "PostgreSQL: 0 client sessions"]);
    assert!(begun.elapsed() >= secs(5), "HAProxy's checks had no time to see the drain");
}

/// Standbys, workers, the agent with all its sessions: none of them keeps a node from being drained. Without `pg_monitor`
/// neither.
#[test]
fn only_clients_count() {
    let primary = Cluster::primary();
    let _standby = Cluster::standby_of(&primary);
    primary.psql("CREATE ROLE plain LOGIN");
    let folder = support::folder::Folder::new("drain");
    let drain_file = folder.path().join("drain");
    let agent = Agent::start_with(|command| {
        command
            .args(["--dsn", &primary.dsn_of("plain"), "--write-probe=1s", "--drain-file"])
            .arg(&drain_file);
    });
    agent.get("/primary");
    assert_eq!(primary.psql("SELECT count(*) FROM pg_stat_replication"), "1");
    let (code, lines) = finish(command(&agent, &primary.dsn_of("plain"), &drain_file, "--wait=30s"));
    assert_eq!(code, 0, "{lines:#?}");
    // A client that has the agent's role is a client all the same.
    let dsn = format!("{} application_name=app", primary.dsn_of("plain"));
    let _client = Client::connect(&dsn, NoTls).expect("a session");
    let (code, lines) = finish(command(&agent, &primary.dsn_of("plain"), &drain_file, "--wait=1s"));
    assert_eq!(code, 1);
    assert_last(&lines, "the time is over", &["PostgreSQL: 1 client session"]);
}

#[test]
fn a_refused_login_leaves_haproxys_numbers_and_without_them_ends_it_at_once() {
    let site = Site::start(&example("drain.cfg"));
    site.expect("ReadOnly", "node2", ["UP", "200", ""]);
    let nobody = site.b.cluster.dsn_of("nobody");
    let refused = |wait| command(&site.b.agent, &nobody, &site.b.drain_file(), wait);
    let (code, lines) = finish(refused("--wait=30s"));
    assert_eq!(code, 0, "{lines:#?}");
    assert_last(
        &lines,
        "drained: ",
        &["ReadOnly/node2: 0", "PostgreSQL: not known (", "\"nobody\" does not exist"],
    );

    let node = Node::start(Cluster::primary());
    let dsn = node.cluster.dsn_of("nobody");
    let begun = Instant::now();
    let (code, lines) = finish(command(&node.agent, &dsn, &node.drain_file(), "--wait"));
    assert_eq!(code, 1, "{lines:#?}");
    assert_last(
        &lines,
        "nobody says how many sessions are left",
        &["send-state", "\"nobody\" does not exist"],
    );
    assert!(begun.elapsed() < SOON && node.drain_file().exists());

    // What is missing for the login is no reason not to drain.
    std::fs::remove_file(node.drain_file()).expect("undrain");
    let mut unreadable = command(&node.agent, "service=none", &node.drain_file(), "--wait");
    unreadable.env("PGSERVICEFILE", "/nonexistent");
    let (code, lines) = finish(unreadable);
    assert_eq!(code, 1, "{lines:#?}");
    assert!(node.drain_file().exists());
}

/// Root makes the drain file, and PostgreSQL knows the agent's user. (Who is not root is only himself.)
#[test]
fn root_asks_postgresql_as_the_agents_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE pgsqlchk LOGIN");
    std::fs::write(primary.data().join("pg_ident.conf"), "agent nobody pgsqlchk\n")
        .expect("write pg_ident.conf");
    primary.write_hba("local all pgsqlchk peer map=agent\nlocal all all trust\nhost all all all trust\n");
    primary.psql("SELECT pg_reload_conf()");
    let folder = support::folder::Folder::new("passwd");
    let drain_file = folder.path().join("drain");
    // The agent is root here, too, and so it asks over TCP.
    let tcp = primary.tcp_dsn().replace("user=postgres", "user=pgsqlchk");
    let agent = Agent::start(&["--dsn", &tcp, "--drain-file", &drain_file.display().to_string()]);
    let passwd = std::fs::read_to_string("/etc/passwd").expect("read /etc/passwd");
    let others: String = passwd
        .lines()
        .filter(|line| !line.starts_with("pgsqlchk:"))
        .map(|line| format!("{line}\n"))
        .collect();
    let folder = support::folder::Folder::new("passwd");
    let passwd =
        folder.write("passwd", &format!("{others}pgsqlchk:x:65534:65534::/nonexistent:/usr/sbin/nologin\n"));
    let dsn = format!("host={} port={}", primary.socket_dir().display(), primary.port());
    let inner = command(&agent, &dsn, &drain_file, "--wait=30s");
    let mut outer = Command::new("unshare");
    outer.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/passwd && exec \"$@\""]).arg(passwd);
    outer.arg(inner.get_program()).args(inner.get_args());
    let (code, lines) = finish(outer);
    assert_eq!(code, 0, "{lines:#?}");
    assert_last(&lines, "drained: ", &["PostgreSQL: 0 client sessions"]);
    // Without the user root is itself, whom PostgreSQL does not know.
    let (code, lines) = finish(command(&agent, &dsn, &drain_file, "--wait=30s"));
    assert_eq!(code, 1, "{lines:#?}");
    assert_last(&lines, "nobody says", &["root"]);
}

#[test]
fn an_agent_that_cannot_be_asked_or_drains_by_another_file_is_said() {
    let node = Node::start(Cluster::primary());
    let other = node.drain_file().with_file_name("other");
    let (code, lines) = finish(command(&node.agent, &node.cluster.dsn(), &other, "--wait"));
    assert_eq!(code, 1, "{lines:#?}");
    assert_last(&lines, "the agent at 127.0.0.1:", &["does not drain"]);
    let (dsn, drain_file) = (node.cluster.dsn(), node.drain_file());
    let nobody = support::free_port();
    let mut command = command(&node.agent, &dsn, &drain_file, "--wait=30s");
    let address = format!("127.0.0.1:{nobody}");
    command.args(["--listen", &address]);
    let shown: Vec<String> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let at = shown.iter().position(|word| *word == node.agent.addr().to_string()).expect("an address");
    let mut alone = agent::command();
    alone.args(
        shown.iter().enumerate().filter(|(place, _)| *place != at && *place + 1 != at).map(|(_, word)| word),
    );
    let (code, lines) = finish(alone);
    assert_eq!(code, 0, "{lines:#?}");
    assert_last(
        &lines,
        "drained: ",
        &["the agent cannot be asked", &address, "PostgreSQL: 0 client sessions"],
    );
}

#[test]
fn ctrl_c_ends_the_waiting_and_not_the_drain() {
    let node = Node::start(Cluster::primary());
    let _client = node.cluster.connect();
    let inner = of_node(&node, "--wait");
    // Who runs the tests in the background of a shell has it ignored, and so would everybody that is started there.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut child: Child = command.stdout(Stdio::piped()).spawn().expect("start it");
    eventually(SOON, "it drains", || node.drain_file().exists());
    thread::sleep(millis(700));
    signal(child.id(), Signal::INT);
    let status = wait_for_exit(&mut child, SOON).expect("it ends");
    assert_eq!(status.signal(), Some(Signal::INT.as_raw()));
    assert!(node.drain_file().exists());
}

/// On a terminal there is one line, written anew.
#[test]
fn on_a_terminal_one_line_is_written_anew() {
    let node = Node::start(Cluster::primary());
    let _client = node.cluster.connect();
    let inner = of_node(&node, "--wait=2s");
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy());
    let words: Vec<String> =
        std::iter::once(inner.get_program()).chain(inner.get_args()).map(quoted).collect();
    let mut script = Command::new("script");
    script.args(["-qec", &words.join(" "), "/dev/null"]).stdin(Stdio::null());
    let output = script.output().expect("run script");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text:?}");
    let rest = text.split_once("\r\n").expect("the first line").1;
    assert!(rest.starts_with("\r\u{1b}[Kno HAProxy says"), "{text:?}");
    assert_eq!(rest.matches("\r\n").count(), 1, "{text:?}");
    assert!(rest.contains("\r\u{1b}[Kthe time is over"), "{text:?}");
}
