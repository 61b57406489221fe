//! A whole haproxy.cfg for this cluster, in the style of docs/haproxy.md. Pure.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::{Config, HostPort, PeerAddress};

const TEMPLATE: &str = include_str!("haproxy.cfg");

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What its host calls itself, where that is known.
    pub name: Option<String>,
    /// Where its agent answers checks; its PostgreSQL is on the same host.
    pub agent: PeerAddress,
    /// Where its PostgreSQL listens.
    pub port: u16,
}

/// The file, with its last line feed.
pub fn file(config: &Config, nodes: &[Node]) -> String {
    let lag = lag(config.max_lag, config.max_lag_time);
    let replica = format!("/replica{lag}");
    let has_names = nodes.iter().any(|node| node.agent.place.host.parse::<IpAddr>().is_err());
    let check = config.timeout + Duration::from_secs(1);
    let agent = config.agent_listen.map_or(String::new(), |address| {
        format!(
            "    # How much of the load a standby gets the further it lags.\n    default-server weight 100 agent-check \
             agent-port {} agent-inter 1s agent-send \"{replica}\\n\"\n",
            address.port()
        )
    });
    let init_why = "\n    # init-addr: HAProxy starts also while a name has no address.";
    let parts = [
        ("{check}", format!("{}ms", check.as_millis())),
        ("{init_why}", if has_names { init_why.to_owned() } else { String::new() }),
        ("{init}", if has_names { " init-addr last,libc,none".to_owned() } else { String::new() }),
        (
            "{lag_why}",
            if lag.is_empty() {
                String::new()
            } else {
                " that lag no more than the agent's limit".to_owned()
            },
        ),
        ("{replica}", replica),
        ("{agent}", agent),
        ("{servers}", servers(nodes, &over_tls(config))),
    ];
    parts.iter().fold(TEMPLATE.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// The parameters of a question; none where there is no limit.
fn lag(bytes: Option<u64>, time: Option<Duration>) -> String {
    let bytes = bytes.map(|bytes| format!("lag={bytes}"));
    let time = time.map(|time| format!("lag_time={}ms", time.as_millis()));
    let parameters: Vec<String> = bytes.into_iter().chain(time).collect();
    if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) }
}

/// How HAProxy asks agents that are asked over TLS by their peers (configuration.txt, section 5.2, "check-ssl").
fn over_tls(config: &Config) -> String {
    let authorities = config.peer_ca.as_ref().map(|path| path.display().to_string());
    format!(" check-ssl verify required ca-file {}", authorities.as_deref().unwrap_or("@system-ca"))
}

fn servers(nodes: &[Node], over_tls: &str) -> String {
    let mut names: Vec<String> = Vec::new();
    let mut lines = String::new();
    for (number, Node { name, agent, port }) in (1..).zip(nodes) {
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
        let plain: String = name.iter().flat_map(|name| name.chars()).filter(is_plain).collect();
        // Nodes on one host, or with one name, are told apart by their numbers.
        let name = match plain.is_empty() || names.contains(&plain) {
            true => format!("node{number}"),
            false => plain,
        };
        let place = HostPort { host: agent.place.host.clone(), port: *port };
        let over_tls = if agent.is_tls { over_tls } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "    server {name} {place} check port {}{over_tls}", agent.place.port);
        names.push(name);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_names_of_their_own() {
        let node = |name: Option<&str>, host: &str| Node {
            name: name.map(str::to_owned),
            agent: PeerAddress { place: HostPort { host: host.into(), port: 23267 }, is_tls: host == "c" },
            port: 5433,
        };
        let nodes = [node(Some("db 1"), "192.0.2.1"), node(Some("db1"), "2001:db8::1"), node(None, "c")];
        let expected = "    server db1 192.0.2.1:5433 check port 23267\n    server node2 [2001:db8::1]:5433 check port \
                        23267\n    server node3 c:5433 check port 23267 check-ssl\n";
        assert_eq!(servers(&nodes, " check-ssl"), expected);
    }

    #[test]
    fn a_limit_on_the_lag_is_asked_for() {
        assert_eq!(lag(None, None), "");
        assert_eq!(lag(Some(1024), Some(Duration::from_secs(10))), "?lag=1024&lag_time=10000ms");
    }
}
