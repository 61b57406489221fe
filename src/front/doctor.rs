//! `pgsqlchk doctor`: everything is asked at the same time, and judged in the order in which things go wrong.
//!
//! Run by root it sees who holds the ports; what the agent meets, its own user has to try: so those threads become that user.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::geteuid;

use crate::cli::{Arguments, Exit};
use crate::config::{Config, HostPort, PeerAddress, examine, file_named_by};
use crate::doctor::configuration::{self, Surroundings};
use crate::doctor::haproxy::{self, Node};
use crate::doctor::peers::{Own, Peer};
use crate::doctor::root::Root;
use crate::doctor::server::Seen;
use crate::doctor::{Finding, Grade, answers, begin, begin_as, drain, homes, peers, port, scripts, server};
use crate::gate::listener::DEFAULT_PORT;
use crate::instance::StageCell;
use crate::system::agent_user::{AgentUser, NAME as AGENT_USER};
use crate::system::own_name::OwnName;

/// For all of it; with the start and the end of the process it stays below five seconds.
const BUDGET: Duration = Duration::from_millis(3800);
/// For PostgreSQL: what comes of it is judged together with the rest.
const SERVER_LIMIT: Duration = Duration::from_millis(2800);
/// For reading the configuration, and as long again for the host.
const FIRST_LIMIT: Duration = Duration::from_millis(1000);

/// What was seen of the host.
struct Host {
    lines: Vec<Finding>,
    is_systemd: bool,
}

/// The lines for stdout and the exit code: 0 where all is well, 1 with warnings, 2 with problems. With `--haproxy` the lines
/// are comments, and a whole configuration follows.
pub fn run(arguments: &Arguments) -> Exit {
    let begun = Instant::now();
    let wants_haproxy = arguments.haproxy;
    let file = &file_named_by(arguments);
    let (account, user) = whose_view(begun + FIRST_LIMIT);
    let account = account.as_ref();
    let examined = {
        let (arguments, home) = (arguments.clone(), account.map(|account| account.home.clone()));
        begin_as(account, move || examine(arguments, home.as_deref()))
    };
    let Some(examined) = examined.end(begun + FIRST_LIMIT) else {
        let late = Finding::problem(
            format_args!("configuration: it cannot be read in time"),
            format_args!(
                "try to: cat {file}; getent passwd (a file system or a directory service that hangs)"
            ),
        );
        return report(vec![late], file, wants_haproxy.then_some(""));
    };
    let config = examined.config.as_ref().ok().cloned();
    let host = look_at_host(config.clone(), file, begun + FIRST_LIMIT * 2);
    let mut findings = configuration::sources(&examined, file);
    findings.extend(user);
    let Some(config) = config else {
        // What follows would be about somebody else's server.
        findings.extend(host.lines);
        return report(findings, file, wants_haproxy.then_some(""));
    };
    let (more, nodes) = look(&config, file, account, host, begun + BUDGET);
    findings.extend(more);
    let configuration = wants_haproxy.then(|| haproxy::file(&config, &nodes));
    report(findings, file, configuration.as_deref())
}

/// The agent's user, where this process can become that; and a line where what is seen is not what the agent sees.
fn whose_view(deadline: Instant) -> (Option<AgentUser>, Option<Finding>) {
    let user = geteuid().as_raw();
    let Some(account) = Root::system().agent_user() else {
        let missing = Finding::warning(
            format_args!("user: there is no user {AGENT_USER}, so that root asks by itself"),
            format_args!("adduser --system --group {AGENT_USER}, or: sudo -u USER pgsqlchk doctor"),
        );
        return (None, (user == 0).then_some(missing));
    };
    if user == account.uid {
        return (None, None);
    }
    let tried = account.clone();
    match begin(move || tried.take_thread().is_ok()).end(deadline).filter(|_| user == 0) {
        Some(true) => (Some(account), None),
        Some(false) | None => {
            let other = Finding::warning(
                format_args!(
                    "user: user {user} asks, and not {AGENT_USER}, whom PostgreSQL and files may treat differently"
                ),
                format_args!("sudo -u {AGENT_USER} pgsqlchk doctor"),
            );
            (None, Some(other))
        }
    }
}

/// Everything but the host itself.
fn look(
    config: &Arc<Config>,
    file: &str,
    account: Option<&AgentUser>,
    host: Host,
    deadline: Instant,
) -> (Vec<Finding>, Vec<Node>) {
    let stage = Arc::new(StageCell::new());
    let ports = port::http_ports(Some(config));
    let asked_server = {
        let (config, stage) = (Arc::clone(config), Arc::clone(&stage));
        // Judged there, too: the advice looks at the passfile, and knows who asks.
        begin_as(account, move || {
            let seen = server::look(&config.connection, SERVER_LIMIT, &stage);
            let findings = server::judge(&config, &seen, whoami::username().ok().as_deref());
            (seen, findings)
        })
    };
    let asked_drain = {
        let config = Arc::clone(config);
        begin_as(account, move || drain::look(&config.drain_file))
    };
    let asked_port = {
        let address = answers::local_address(config);
        begin_as(account, move || answers::look(address, deadline))
    };
    let asked_peers = {
        let config = Arc::clone(config);
        begin_as(account, move || peers::look(&config.peer, config.peer_tls.as_ref(), deadline))
    };
    let server_deadline = deadline.min(Instant::now() + SERVER_LIMIT);
    let (seen, of_server): (Seen, Vec<Finding>) = asked_server.end(server_deadline).unwrap_or_else(|| {
        let seen = Err(stage.get().overdue(format_args!("after {SERVER_LIMIT:?}")));
        let findings = server::judge(config, &seen, None);
        (seen, findings)
    });
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
    findings.extend(of_server);
    findings.extend(host.lines);
    findings.extend(drained);
    findings.extend(peers::judge(&peers, &own));
    findings.extend(heard.iter().flat_map(|heard| answers::judge(config, heard)));
    let port = facts.map_or(config.connection.port, |facts| facts.port);
    (findings, nodes(config, &peers, &own, port))
}

/// This node and its peers, in the order of the configuration.
fn nodes(config: &Config, peers: &[Peer], own: &Own, port: u16) -> Vec<Node> {
    let node = |peer: &Peer| Node { name: peer.name().map(str::to_owned), agent: peer.address.clone(), port };
    let mut nodes: Vec<Node> = peers.iter().map(node).collect();
    if !peers.iter().any(|peer| peer.is_self(own.agent, own.ports)) {
        let name = OwnName::get().host.clone();
        let listen = config.listen.first().map(|address| address.ip());
        let host = match listen.filter(|ip| !ip.is_unspecified()) {
            Some(ip) => ip.to_string(),
            None => name.clone(),
        };
        let place = HostPort { host, port: own.ports.first().copied().unwrap_or(DEFAULT_PORT) };
        let agent = PeerAddress { place, is_tls: false };
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
        let peers: Vec<IpAddr> = config
            .iter()
            .flat_map(|config| &config.peer)
            .filter_map(|peer| peer.place.host.parse().ok())
            .collect();
        let homes = homes::look(&root, &unit, &ports, &peers);
        let mut lines = port::look(config, homes.home.as_deref(), deadline);
        lines.extend(homes.findings);
        lines.extend(scripts::look(&root, std::env::var_os("PATH").as_deref()));
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
