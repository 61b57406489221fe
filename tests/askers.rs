//! Those who ask besides HAProxy, the real ones, each with what docs/askers.md tells to write: they have the right node
//! through a stop, a promotion and a drain, and the agent finds nothing wrong with what they send.

mod support;

use std::net::SocketAddr;
use std::process::Command;

use support::cluster::try_psql;
use support::daemon::Daemon;
use support::drain::Switch;
use support::folder::Folder;
use support::pages::{fenced, page, table};
use support::prometheus::Page;
use support::unpacked::unpacked;
use support::{Agent, Cluster, StopMode, eventually, free_port, http, secs};

/// The block of the page in this language, about these two nodes.
fn block(language: &str) -> String {
    fenced(&page("docs/askers.md"), language).into_iter().next().expect("a block on the page")
}

/// Two nodes with an agent each; the first is the primary.
struct Site {
    old: (Cluster, Agent),
    new: (Cluster, Agent),
    drain: Switch,
}

impl Site {
    fn new() -> Site {
        let drain = Switch::new();
        let primary = Cluster::primary();
        let standby = Cluster::standby_of(&primary);
        let old = Agent::start(&["--dsn", &primary.dsn()]);
        let new = drain.agent(&standby.dsn());
        Site { old: (primary, old), new: (standby, new), drain }
    }

    fn addresses(&self) -> [SocketAddr; 2] {
        [self.old.1.addr(), self.new.1.addr()]
    }

    /// `is_up` is what the asker says of a node: right from the beginning, and soon after each change.
    fn walk(&self, is_up: impl Fn(usize) -> bool) {
        let becomes = |wanted: [bool; 2], when: &str| {
            eventually(secs(10), when, || [is_up(0), is_up(1)] == wanted);
        };
        becomes([true, false], "the first node is the primary");
        for agent in [&self.old.1, &self.new.1] {
            assert!(!agent.log().contains("WARN"), "it complains: {}", agent.log());
        }
        self.old.0.stop(StopMode::Fast);
        becomes([false, false], "nobody is");
        self.new.0.promote();
        becomes([false, true], "the second node is");
        self.drain.on();
        becomes([false, false], "it drains");
        self.drain.off();
        becomes([false, true], "it does no more");
        for agent in [&self.old.1, &self.new.1] {
            let page = Page::of(agent);
            for (series, count) in &page.series {
                let is_complaint = series.starts_with("pgsqlchk_refused_connections_total")
                    || ["path=\"other\"", "code=\"400\"", "code=\"405\"", "code=\"408\""]
                        .iter()
                        .any(|label| series.contains(label));
                assert!(!is_complaint || *count == 0.0, "{series} {count}");
            }
        }
    }
}

#[test]
fn nagios_check_http_has_the_primary() {
    let site = Site::new();
    let addresses = site.addresses();
    let words = block("check_http");
    let run = |node: usize| {
        let port = addresses[node].port().to_string();
        let words = words.replace("192.0.2.11", "127.0.0.1").replace("23267", &port);
        let program = unpacked("monitoring-plugins-basic/usr/lib/nagios/plugins/check_http");
        Command::new(program).args(words.split_whitespace().skip(1)).output().expect("run check_http")
    };
    site.walk(|node| run(node).status.code() == Some(0));
    assert_eq!(run(0).status.code(), Some(2), "CRITICAL: {:?}", run(0));
    site.drain.on();
    eventually(secs(5), "WARNING", || run(1).status.code() == Some(1));
}

#[test]
fn monit_has_the_primary() {
    let site = Site::new();
    let folder = Folder::new("monit");
    let mut lines = block("monit");
    for (address, place) in site.addresses().iter().zip(["192.0.2.11", "192.0.2.12"]) {
        lines = lines.replacen(place, "127.0.0.1", 1).replacen(
            "port 23267",
            &format!("port {}", address.port()),
            1,
        );
    }
    let path = folder.path().display().to_string();
    let head = format!(
        "set daemon 1\nset log {path}/log\nset pidfile {path}/pid\nset idfile {path}/id\nset statefile {path}/state\n"
    );
    let config = folder.write("monitrc", &(head + &lines));
    let mut permissions = std::fs::metadata(&config).expect("the file").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    std::fs::set_permissions(&config, permissions).expect("chmod");
    let mut command = Command::new(unpacked("monit/usr/bin/monit"));
    command.arg("-I").arg("-c").arg(&config);
    let monit = Daemon::start(folder, command);
    site.walk(|node| {
        let log = monit.log();
        let name = format!("'node{}' ", node + 1);
        let last = log.lines().rfind(|line| {
            line.contains(&name) && (line.contains("failed protocol test") || line.contains("succeeded"))
        });
        log.contains("'node2' failed protocol test")
            && !last.is_some_and(|line| line.contains("failed protocol test"))
    });
}

#[test]
fn blackbox_exporter_has_the_primary() {
    let site = Site::new();
    let addresses = site.addresses();
    let folder = Folder::new("blackbox");
    let config = folder.write("blackbox.yml", &block("blackbox"));
    let port = free_port();
    let mut command =
        Command::new(unpacked("prometheus-blackbox-exporter/usr/bin/prometheus-blackbox-exporter"));
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let mut exporter = Daemon::start(folder, command);
    exporter.wait_listening(port);
    let exporter_addr = SocketAddr::from(([127, 0, 0, 1], port));
    site.walk(|node| {
        let path = format!("/probe?module=pgsqlchk&target=http://{}/primary", addresses[node]);
        http::get(exporter_addr, &path).is_ok_and(|reply| reply.body.contains("\nprobe_success 1\n"))
    });
}

#[test]
fn nginx_that_keeps_connections_open_has_the_primary() {
    let site = Site::new();
    let folder = Folder::new("nginx");
    let ports = [free_port(), free_port()];
    let mut servers = String::new();
    for ((node, address), port) in (1..).zip(site.addresses()).zip(ports) {
        servers += &block("nginx")
            .replace("192.0.2.11:23267", &address.to_string())
            .replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"))
            .replace("node1", &format!("node{node}"));
    }
    let path = folder.path().display();
    let config = format!(
        "daemon off;\nmaster_process off;\npid {path}/pid;\nerror_log {path}/log;\nevents {{}}\nhttp {{\naccess_log off;\n\
         client_body_temp_path {path}/a;\nproxy_temp_path {path}/b;\nfastcgi_temp_path {path}/c;\n\
         uwsgi_temp_path {path}/d;\nscgi_temp_path {path}/e;\n{servers}}}\n"
    );
    let config = folder.write("nginx.conf", &config);
    let mut command = Command::new(unpacked("nginx/usr/sbin/nginx"));
    command.arg("-c").arg(config).arg("-e").arg(folder.path().join("log"));
    let mut nginx = Daemon::start(folder, command);
    for port in ports {
        nginx.wait_listening(port);
    }
    site.walk(|node| {
        let path = format!("/node{}/primary", node + 1);
        http::get(SocketAddr::from(([127, 0, 0, 1], ports[node])), &path)
            .is_ok_and(|reply| reply.status == 200)
    });
    let complaints: Vec<String> =
        nginx.log().lines().map(str::to_owned).filter(|line| line.contains("[error]")).collect();
    assert_eq!(complaints, Vec::<String>::new(), "nginx complains of the agent");
}

/// What a client meets behind it is the judge.
#[test]
fn envoy_has_the_primary_and_its_clients_reach_no_other_one() {
    let site = Site::new();
    let servers = [site.old.0.port(), site.new.0.port()];
    let port = free_port();
    let mut lines = block("envoy");
    // First, while no port that was given out by chance can be that one.
    for agent in site.addresses() {
        lines = lines.replacen("port_value: 23267", &format!("port_value: {}", agent.port()), 1);
    }
    lines = lines.replace("0.0.0.0, port_value: 5000", &format!("127.0.0.1, port_value: {port}"));
    for (server, place) in servers.iter().zip(["192.0.2.11", "192.0.2.12"]) {
        lines =
            lines.replace(&format!("{place}, port_value: 5432"), &format!("127.0.0.1, port_value: {server}"));
    }
    let folder = Folder::new("envoy");
    let config = folder.write("envoy.yaml", &lines);
    let mut command = Command::new(unpacked("envoy/packages/envoy/_bin/envoy"));
    command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning", "-c"]).arg(config);
    let mut envoy = Daemon::start(folder, command);
    envoy.wait_listening(port);
    let dsn = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres connect_timeout=5");
    let reaches = || try_psql(&dsn, "SELECT inet_server_port()").unwrap_or_default();
    site.walk(|node| {
        let is_standby = site.new.0.psql("SELECT pg_is_in_recovery()") == "t";
        let reached = reaches();
        assert!(!is_standby || reached != servers[1].to_string(), "a client for writes met the standby");
        reached == servers[node].to_string()
    });
    // What it has decided reaches its threads one after the other: a client in between says nothing of it.
    let checks = || {
        let is_passed =
            |series: &str| series.contains("path=\"/primary\"") && series.contains("code=\"200\"");
        let page = Page::of(&site.new.1);
        page.series.iter().filter(|(series, _)| is_passed(series)).map(|(_, count)| count).sum::<f64>()
    };
    let before = checks();
    eventually(secs(10), "three checks pass", || checks() >= before + 3.0);
    let mut session = postgres::Client::connect(&dsn, postgres::NoTls).expect("a session through Envoy");
    site.drain.on();
    eventually(secs(10), "its session is closed", || session.simple_query("SELECT 1").is_err());
}

#[test]
fn clients_that_reuse_a_connection_get_every_answer() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    let url = format!("http://{}/primary", agent.addr());
    let mut curl = Command::new("curl");
    let format = "%{http_code} %{num_connects}\n";
    let output =
        curl.args(["-s", "-w", format, "-o/dev/null", "-o/dev/null", &url, &url]).output().expect("run curl");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200 1\n200 1\n", "{output:?}");

    let script = "import http.client, sys\nc = http.client.HTTPConnection(sys.argv[1])\n\
                  for _ in range(3):\n c.request('GET', '/primary')\n r = c.getresponse()\n r.read()\n print(r.status)\n";
    let python = Command::new("/usr/bin/python3").args(["-c", script, &agent.addr().to_string()]).output();
    let python = python.expect("run python3");
    assert_eq!(String::from_utf8_lossy(&python.stdout), "200\n200\n200\n", "{python:?}");

    let once = "GET /primary HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    let reply = agent.ask(once.repeat(3).as_bytes());
    assert_eq!((reply.line().as_str(), reply.header("Connection")), ("200 Primary", Some("close")));
    let heads = String::from_utf8_lossy(&reply.raw).matches("HTTP/1.1 ").count();
    assert_eq!(heads, 1, "the first of what was sent at once: {reply:?}");
    assert!(!agent.log().contains("WARN"), "it complains: {}", agent.log());
}

/// Consul's rule for HTTP checks, from its documentation.
fn consul(code: u16) -> &'static str {
    match code {
        200..=299 => "passing",
        429 => "warning",
        _ => "critical",
    }
}

#[test]
fn consul_takes_the_codes_as_the_page_says() {
    for row in table(&page("docs/askers.md"), "| code of the agent | Consul's state |") {
        assert_eq!(consul(row[0].parse().expect("a code")), row[1], "{row:?}");
    }
    let site = Site::new();
    site.walk(|node| {
        let reply = http::get(site.addresses()[node], "/primary").expect("a reply");
        let state = consul(reply.status);
        assert_ne!(state, "warning", "{reply:?}");
        state == "passing"
    });
}
