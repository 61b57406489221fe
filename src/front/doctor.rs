//! `pgsqlchk doctor`: everything is asked at the same time, and judged in the order in which things go wrong.
//!
//! Run by root it sees who holds the ports; what the agent meets, its own user has to try. So root looks at the host, and
//! hands those lines to a process of the agent's user, which looks at the rest and says it all.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::geteuid;

use crate::cli::{Arguments, Exit};
use crate::config::options::DEFAULT_FILE;
use crate::config::{Config, HostPort, examine};
use crate::doctor::configuration::{self, Surroundings};
use crate::doctor::haproxy::{self, Node};
use crate::doctor::peers::{Own, Peer};
use crate::doctor::root::{AGENT_USER, Account, Root};
use crate::doctor::server::Seen;
use crate::doctor::{Finding, Grade, answers, begin, drain, homes, peers, port, scripts, server};
use crate::instance::StageCell;
use crate::system::own_name::OwnName;

/// For everything the agent's user looks at, and no more for a part of it. With what comes before and after it stays
/// below five seconds.
const BUDGET: Duration = Duration::from_millis(3200);
/// For PostgreSQL: what comes of it is judged together with the rest.
const SERVER_LIMIT: Duration = Duration::from_millis(2800);
/// For reading the configuration, and for what root looks at.
const FIRST_LIMIT: Duration = Duration::from_millis(600);
/// When root gives its other process up.
const LAST_LIMIT: Duration = Duration::from_millis(4600);

/// By it the process of the agent's user knows what it is, and that root's lines come on its standard input.
const AS_AGENT: &str = "PGSQLCHK_DOCTOR_AS_AGENT";

/// What root has seen of the host.
struct Host {
    lines: Vec<Finding>,
    is_systemd: bool,
}

/// The lines for stdout and the exit code: 0 where all is well, 1 with warnings, 2 with problems. With `--haproxy` the lines
/// are comments, and a whole configuration follows.
pub fn run(arguments: &Arguments) -> Exit {
    let begun = Instant::now();
    let wants_haproxy = arguments.haproxy;
    let handed = std::env::var_os(AS_AGENT).is_some().then(|| begin(read_host));
    let examined = {
        let arguments = arguments.clone();
        begin(move || examine(arguments))
    };
    let Some(examined) = examined.end(begun + FIRST_LIMIT) else {
        let late = Finding::problem(
            format_args!("configuration: it cannot be read in time"),
            format_args!(
                "try to: cat {DEFAULT_FILE}; getent passwd (a file system or a directory service that hangs)"
            ),
        );
        return report(vec![late], DEFAULT_FILE, wants_haproxy.then_some(""));
    };
    let config = examined.config.as_ref().ok().cloned();
    let file = arguments.config.as_deref().unwrap_or(DEFAULT_FILE);
    let host = match handed.and_then(|handed| handed.end(begun + FIRST_LIMIT)) {
        Some(host) => host,
        None => {
            let host = look_at_host(config.clone(), file, begun + FIRST_LIMIT * 2);
            match hand_over(&host, begun) {
                Some(Ok(exit)) => return exit,
                Some(Err(why)) => {
                    let mut host = host;
                    host.lines.push(Finding::warning(format_args!("user: root asks by itself, and not as {AGENT_USER}: {why}"), format_args!("sudo -u {AGENT_USER} pgsqlchk doctor (without the user: adduser --system --group {AGENT_USER})")));
                    host
                }
                None => host,
            }
        }
    };
    let mut findings = configuration::sources(&examined, file);
    let Some(config) = config else {
        // What follows would be about somebody else's server.
        findings.extend(host.lines);
        return report(findings, file, wants_haproxy.then_some(""));
    };
    let (more, nodes) = look(&config, file, host, begun);
    findings.extend(more);
    let configuration = wants_haproxy.then(|| haproxy::file(&config, &nodes));
    report(findings, file, configuration.as_deref())
}

/// Everything but the host itself.
fn look(config: &Arc<Config>, file: &str, host: Host, begun: Instant) -> (Vec<Finding>, Vec<Node>) {
    let deadline = begun + BUDGET;
    let stage = Arc::new(StageCell::new());
    let ports = port::http_ports(Some(config));
    let asked_server = {
        let (config, stage) = (Arc::clone(config), Arc::clone(&stage));
        begin(move || server::look(&config.connection, SERVER_LIMIT, &stage))
    };
    let os_user = begin(|| whoami::username().ok());
    let asked_drain = {
        let config = Arc::clone(config);
        begin(move || drain::look(&config.drain_file))
    };
    let asked_port = {
        let address = answers::local_address(config);
        begin(move || answers::look(address, deadline))
    };
    let asked_peers = {
        let config = Arc::clone(config);
        begin(move || peers::look(&config.peer, deadline))
    };
    let seen: Seen = asked_server
        .end(begun + SERVER_LIMIT)
        .unwrap_or_else(|| Err(stage.get().overdue(format_args!("after {SERVER_LIMIT:?}"))));
    let os_user = os_user.end(deadline).flatten();
    let drained = asked_drain.end(deadline).unwrap_or_else(|| {
        let file = config.drain_file.display();
        vec![Finding::problem(
            format_args!("drain: looking for {file} hangs"),
            format_args!(
                "mount shows its file system; drain-file = /run/pgsqlchk/drain in /etc/pgsqlchk/pgsqlchk.conf"
            ),
        )]
    });
    // Whoever asks by the deadline has an answer a moment later.
    let last = deadline + Duration::from_millis(200);
    let peers = asked_peers.end(last).unwrap_or_default();
    let heard = asked_port.end(last);
    let own_agent = heard.as_ref().and_then(|heard| heard.agent());
    let facts = seen.as_ref().ok().map(|(_, facts)| facts);
    let others: Vec<&Peer> = peers.iter().filter(|peer| !peer.is_self(own_agent, &ports)).collect();
    let addresses: Vec<IpAddr> =
        others.iter().flat_map(|peer| &peer.addresses).map(|address| address.ip()).collect();
    let around = Surroundings {
        file,
        peers: &addresses,
        is_systemd: host.is_systemd,
        wal_receiver_timeout: facts.map(|facts| facts.wal_receiver_timeout),
    };
    let own = Own { facts, agent: own_agent, ports: &ports, file };
    let mut findings = configuration::judge(config, &around);
    findings.extend(server::judge(config, &seen, os_user.as_deref()));
    findings.extend(host.lines);
    findings.extend(drained);
    findings.extend(peers::judge(&peers, &own));
    findings.extend(heard.iter().flat_map(|heard| answers::judge(config, heard)));
    let port = facts.map_or(config.connection.port, |facts| facts.port);
    (findings, nodes(config, &peers, &own, port))
}

/// This node and its peers, in the order of the configuration.
fn nodes(config: &Config, peers: &[Peer], own: &Own, port: u16) -> Vec<Node> {
    let node = |peer: &Peer| Node { name: peer.name().map(str::to_owned), agent: peer.place.clone(), port };
    let mut nodes: Vec<Node> = peers.iter().map(node).collect();
    if !peers.iter().any(|peer| peer.is_self(own.agent, own.ports)) {
        let name = OwnName::get().host.clone();
        let listen = config.listen.first().map(|address| address.ip());
        let host = match listen.filter(|ip| !ip.is_unspecified()) {
            Some(ip) => ip.to_string(),
            None => name.clone(),
        };
        let agent = HostPort { host, port: own.ports.first().copied().unwrap_or(port::HTTP_PORT) };
        nodes.insert(0, Node { name: Some(name), agent, port });
    }
    nodes
}

/// Ports, homes and scripts. The peers' addresses are looked up for what xinetd makes of them.
fn look_at_host(config: Option<Arc<Config>>, file: &str, deadline: Instant) -> Host {
    let unit = homes::unit_of(file);
    let looked = begin(move || {
        let root = Root::system();
        let config = config.as_deref();
        let ports = port::http_ports(config);
        let peers: Vec<IpAddr> =
            config.iter().flat_map(|config| &config.peer).filter_map(|peer| peer.host.parse().ok()).collect();
        let homes = homes::look(&root, &unit, &ports, &peers);
        let mut lines = port::look(config, homes.home.as_deref(), deadline);
        lines.extend(homes.findings);
        lines.extend(scripts::look(&root, std::env::var_os("PATH").as_deref()));
        lines.extend(stranger(&root));
        Host { lines, is_systemd: homes.is_systemd }
    });
    looked.end(deadline).unwrap_or_else(|| Host {
        lines: vec![Finding::problem(
            format_args!("port: looking through /proc, /etc/systemd and /etc/xinetd.d takes too long"),
            format_args!("mount shows which file system hangs"),
        )],
        is_systemd: false,
    })
}

/// Whoever is neither root nor the agent's user meets something else than the agent.
fn stranger(root: &Root) -> Option<Finding> {
    let (user, account) = (geteuid().as_raw(), root.agent_user()?);
    (user != 0 && user != account.uid).then(|| {
        Finding::warning(format_args!("user: user {user} asks, and not {AGENT_USER}, whom PostgreSQL and files may treat differently"), format_args!("sudo pgsqlchk doctor"))
    })
}

/// Where root can become the agent's user: what that user's process says. `None` where there is nothing to become.
fn hand_over(host: &Host, begun: Instant) -> Option<Result<Exit, String>> {
    if !geteuid().is_root() {
        return None;
    }
    let Some(account) = Root::system().agent_user() else {
        return Some(Err(format!("there is no user {AGENT_USER} (adduser --system --group {AGENT_USER})")));
    };
    Some(as_agent(&account, host, begun).map_err(|error| error.to_string()))
}

fn as_agent(account: &Account, host: &Host, begun: Instant) -> io::Result<Exit> {
    let mut child = Command::new("/proc/self/exe")
        .arg0("pgsqlchk")
        .args(std::env::args_os().skip(1))
        // Nothing else of root's environment is that user's business.
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")))
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env(AS_AGENT, if host.is_systemd { "systemd" } else { "" })
        .env("HOME", &account.home)
        .env("USER", AGENT_USER)
        .env("LOGNAME", AGENT_USER)
        .uid(account.uid)
        .gid(account.gid)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        for line in &host.lines {
            writeln!(input, "{line}")?;
        }
    }
    let output = child.stdout.take().map(|mut stdout| {
        begin(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        })
    });
    let deadline = begun + LAST_LIMIT;
    let text = output.and_then(|output| output.end(deadline)).transpose()?;
    let code = wait(&mut child, deadline);
    match text.zip(code) {
        Some((text, code)) => Ok(Exit { text: text.trim_end().to_owned(), on_stdout: true, code }),
        None => {
            let _ = child.kill();
            Err(io::Error::other("its process does not end"))
        }
    }
}

fn wait(child: &mut Child, deadline: Instant) -> Option<u8> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return status.code().and_then(|code| u8::try_from(code).ok());
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Root's lines, up to the end of standard input.
fn read_host() -> Host {
    let mut text = String::new();
    // Root has written them all before it waits.
    let _ = io::stdin().read_to_string(&mut text);
    let is_systemd = std::env::var_os(AS_AGENT).is_some_and(|word| word == "systemd");
    Host { lines: text.lines().filter_map(Finding::parse).collect(), is_systemd }
}

/// `configuration` is what follows the lines, which are comments then.
fn report(findings: Vec<Finding>, file: &str, configuration: Option<&str>) -> Exit {
    let code = findings.iter().map(|finding| finding.grade).max().map_or(0, Grade::exit_code);
    let comment = if configuration.is_some() { "# " } else { "" };
    let say = |finding: Finding| {
        let remedy = homes::for_instance(&finding.remedy, file);
        format!("{comment}{}", Finding { remedy, ..finding })
    };
    let mut text = findings.into_iter().map(say).collect::<Vec<_>>().join("\n");
    if let Some(configuration) = configuration {
        text.push_str("\n\n");
        text.push_str(configuration.trim_end());
    }
    Exit { text, on_stdout: true, code }
}
