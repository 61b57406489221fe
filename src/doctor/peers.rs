//! The agents of the other nodes: reached, of the same cluster and version, and do they name this one?

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::resolve::{addresses, is_of_this_host};
use super::server::Facts;
use super::{Finding, begin};
use crate::agent_over_http::{CLOSED, LATE, NOBODY, Place, Status, get};
use crate::config::PeerAddress;
use crate::tls::PeerTls;

/// Clocks further apart confuse who compares logs.
const MAX_APART: Duration = Duration::from_secs(2);

/// What is known of a peer.
pub struct Peer {
    /// As it is named.
    pub address: PeerAddress,
    /// Where that is.
    pub addresses: Vec<SocketAddr>,
    heard: Result<Said, String>,
}

/// What it said.
struct Said {
    status: Status,
    /// Whom it names, with itself; `None` where it does not say.
    names: Option<Vec<Named>>,
    /// By how much its clock is ahead, in seconds, and how sure that is.
    ahead_s: Option<(f64, f64)>,
}

#[derive(Deserialize)]
struct Cluster {
    nodes: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    address: Option<String>,
    #[serde(rename = "self")]
    is_self: bool,
}

impl Peer {
    /// It is this node's own agent, which may stand among them.
    pub fn is_self(&self, own_agent: Option<&str>, own_ports: &[u16]) -> bool {
        match &self.heard {
            Ok(said) => said.status.agent.is_some() && said.status.agent.as_deref() == own_agent,
            Err(_) => {
                self.addresses.iter().any(|it| own_ports.contains(&it.port()) && is_of_this_host(it.ip()))
            }
        }
    }

    /// What its host calls itself.
    pub fn name(&self) -> Option<&str> {
        self.heard.as_ref().ok()?.status.name.as_deref().filter(|name| !name.is_empty())
    }
}

/// Asks all of them at the same time.
pub fn look(peers: &[PeerAddress], tls: Option<&PeerTls>, deadline: Instant) -> Vec<Peer> {
    let asked: Vec<_> = peers
        .iter()
        .map(|peer| {
            let (asked, tls) = (peer.clone(), tls.cloned());
            (peer, begin(move || ask(asked, tls, deadline)))
        })
        .collect();
    let late = |address: &PeerAddress| Peer {
        address: address.clone(),
        addresses: Vec::new(),
        heard: Err(LATE.into()),
    };
    asked.into_iter().map(|(peer, work)| work.end(deadline).unwrap_or_else(|| late(peer))).collect()
}

fn ask(address: PeerAddress, tls: Option<PeerTls>, deadline: Instant) -> Peer {
    let addresses = match addresses(&address.place) {
        Ok(addresses) => addresses,
        Err(why) => return Peer { address, addresses: Vec::new(), heard: Err(why) },
    };
    let tls = tls.filter(|_| address.is_tls);
    let mut heard = Err(NOBODY.to_owned());
    for (number, found) in addresses.iter().enumerate() {
        // One address that swallows everything leaves the others their share.
        let now = Instant::now();
        let left = u32::try_from(addresses.len() - number).unwrap_or(1);
        let share = now + deadline.saturating_duration_since(now) / left;
        heard = ask_at(Place { address: *found, tls: tls.as_ref(), host: &address.place.host }, share);
        if heard.is_ok() {
            break;
        }
    }
    Peer { address, addresses, heard }
}

fn ask_at(place: Place, deadline: Instant) -> Result<Said, String> {
    let begun = SystemTime::now();
    let answer = get(place, "/status", deadline)?;
    let ended = SystemTime::now();
    let status: Option<Status> = serde_json::from_slice(&answer.body).ok();
    let Some(status) = status.filter(|status| status.agent.is_some()) else {
        return Err(format!("its /status is {}, which is no agent's", answer.line()));
    };
    let ahead_s = status.time.as_deref().and_then(seconds_since_1970).map(|theirs| {
        let [begun, ended] =
            [begun, ended].map(|it| it.duration_since(UNIX_EPOCH).map_or(0.0, |it| it.as_secs_f64()));
        (theirs - (begun + ended) / 2.0, (ended - begun) / 2.0)
    });
    let cluster = get(place, "/cluster", deadline).ok();
    let cluster: Option<Cluster> = cluster.and_then(|answer| serde_json::from_slice(&answer.body).ok());
    Ok(Said { status, names: cluster.map(|cluster| cluster.nodes), ahead_s })
}

/// RFC 3339 in UTC, as `/status` has it.
fn seconds_since_1970(text: &str) -> Option<f64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<i64>());
    let mut time = time.split(':');
    let mut next = || date.next()?.ok();
    let (year, month, day) = (next()?, next()?, next()?);
    let (hour, minute): (f64, f64) = (time.next()?.parse().ok()?, time.next()?.parse().ok()?);
    let second: f64 = time.next()?.parse().ok()?;
    // Days from civil, with years that begin in March.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = days + (month * 153 + 2) / 5 + day - 1 - 719_468;
    Some(days as f64 * 86_400.0 + hour * 3600.0 + minute * 60.0 + second)
}

/// What this node knows of itself.
pub struct Own<'a> {
    /// What PostgreSQL here says, where it says anything.
    pub facts: Option<&'a Facts>,
    /// The agent here.
    pub agent: Option<&'a str>,
    /// Where checks come to.
    pub ports: &'a [u16],
    /// The configuration file.
    pub file: &'a str,
}

/// What it means.
pub fn judge(peers: &[Peer], own: &Own) -> Vec<Finding> {
    if peers.is_empty() {
        return vec![Finding::ok(format_args!(
            "peers: none are named (docs/peers.md says what they would be good for)"
        ))];
    }
    let (own_places, others): (Vec<&Peer>, Vec<&Peer>) =
        peers.iter().partition(|peer| peer.is_self(own.agent, own.ports));
    let own_place = own_places.first().map(|peer| peer.address.to_string());
    let own_place = own_place.unwrap_or_else(|| {
        format!("THIS-NODE:{}", own.ports.first().unwrap_or(&crate::gate::listener::DEFAULT_PORT))
    });
    let mut findings: Vec<Finding> =
        others.iter().flat_map(|peer| judge_one(peer, own, &own_place)).collect();
    if others.is_empty() {
        findings.push(Finding::warning(
            format_args!("peers: only this node itself is named"),
            format_args!(
                "peer = HOST:23267 for each other node in {}, then systemctl restart pgsqlchk",
                own.file
            ),
        ));
    }
    let own_system = own.facts.map(|facts| facts.system_identifier.to_string());
    let is_primary_here = |status: &Status| {
        let systems = status.system_identifier.as_ref().zip(own_system.as_ref());
        status.role.as_deref() == Some("primary") && systems.is_none_or(|(theirs, ours)| theirs == ours)
    };
    let mut primaries: Vec<String> = others
        .iter()
        .filter(|peer| peer.heard.as_ref().is_ok_and(|said| is_primary_here(&said.status)))
        .map(|peer| peer.address.to_string())
        .collect();
    if own.facts.is_some_and(|facts| !facts.is_standby) {
        primaries.push("this node".into());
    }
    if primaries.len() > 1 {
        findings.push(Finding::problem(format_args!("peers: {} are primaries at the same time", primaries.join(" and ")), format_args!("decide whose data counts (pgsqlchk cluster shows timelines), stop the other: systemctl stop postgresql, and \
             rebuild it as a standby: pg_rewind or pg_basebackup -R")));
    }
    findings
}

fn judge_one(peer: &Peer, own: &Own, own_place: &str) -> Vec<Finding> {
    let place = &peer.address;
    let said = match &peer.heard {
        Ok(said) => said,
        Err(why) => {
            let remedy = match why.as_str() {
                CLOSED => {
                    format!(
                        "on {}: let this host ask (allow in pgsqlchk.conf, only_from under xinetd)",
                        place.place.host
                    )
                }
                why if why.contains("no agent's") => {
                    format!(
                        "on {}: sudo pgsqlchk doctor says who answers there; the old script? see docs/moving.md",
                        place.place.host
                    )
                }
                why if why.contains("name") => {
                    format!("write its address into {}: peer = ADDRESS:{}", own.file, place.place.port)
                }
                _ => format!(
                    "on {}: sudo pgsqlchk doctor; from here: curl -i http://{place}/ (a firewall?)",
                    place.place.host
                ),
            };
            return vec![Finding::problem(
                format_args!("peers: {place} is not reached: {why}"),
                format_args!("{remedy}"),
            )];
        }
    };
    let mut findings = Vec::new();
    let status = &said.status;
    let theirs = status.system_identifier.as_deref();
    if let (Some(ours), Some(theirs)) = (own.facts.map(|facts| facts.system_identifier.to_string()), theirs)
        && ours != theirs
    {
        findings.push(Finding::problem(
            format_args!("peers: {place} is of another cluster: its system is {theirs}, and this one {ours}"),
            format_args!("take peer = {place} out of {}, then systemctl restart pgsqlchk", own.file),
        ));
    }
    let version = env!("CARGO_PKG_VERSION");
    if let Some(theirs) = status.agent_version.as_deref().filter(|theirs| *theirs != version) {
        findings.push(Finding::warning(
            format_args!("peers: the agent of {place} is version {theirs}, and this one {version}"),
            format_args!(
                "install the same on both (apt install pgsqlchk), then systemctl restart pgsqlchk on {}",
                place.place.host
            ),
        ));
    }
    let first = |version: &str| version.split(' ').next().unwrap_or_default().to_owned();
    if let (Some(facts), Some(theirs)) = (own.facts, status.server_version.as_deref().map(first))
        && facts.version != theirs
    {
        findings.push(Finding::warning(
            format_args!("peers: PostgreSQL of {place} is version {theirs}, and this one {}", facts.version),
            format_args!("upgrade the older one: apt upgrade, standbys first"),
        ));
    }
    if let Some((ahead_s, unsure_s)) = said.ahead_s
        && ahead_s.abs() > MAX_APART.as_secs_f64() + unsure_s
    {
        let direction = if ahead_s > 0.0 { "ahead of" } else { "behind" };
        findings.push(Finding::warning(
            format_args!("peers: the clock of {place} is {:.1} s {direction} this one", ahead_s.abs()),
            format_args!("timedatectl set-ntp true, on both; chronyc tracking says which is wrong"),
        ));
    }
    if said.names.as_ref().is_some_and(|names| !names_us(names, own.ports)) {
        findings.push(Finding::warning(
            format_args!("peers: {place} does not name this node among its own peers"),
            format_args!(
                "on {}: peer = {own_place} in /etc/pgsqlchk/pgsqlchk.conf, then systemctl restart pgsqlchk",
                place.place.host
            ),
        ));
    }
    if findings.is_empty() {
        let reason = status.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let role = status.role.as_deref().unwrap_or("without a role");
        let versions = status
            .server_version
            .as_deref()
            .map_or(String::new(), |it| format!(", PostgreSQL {}", first(it)));
        findings.push(Finding::ok(format_args!("peers: {place} is reached: {role}{reason}{versions}")));
    }
    findings
}

/// Whether one of the names is an address of this host, with one of its ports. Names that cannot be looked up may be.
fn names_us(names: &[Named], own_ports: &[u16]) -> bool {
    names.iter().filter(|named| !named.is_self).any(|named| {
        let Some((host, port)) = named.address.as_deref().and_then(|it| it.rsplit_once(':')) else {
            return false;
        };
        let Ok(port) = port.parse::<u16>() else { return false };
        let host = host.trim_matches(['[', ']']);
        own_ports.contains(&port)
            && match host.parse::<IpAddr>() {
                Ok(address) => is_of_this_host(address),
                Err(_) => true,
            }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0.0)),
            ("2026-11-28T21:14:24.5Z", Some(1_795_900_464.5)),
            ("2024-02-29T00:00:01Z", Some(1_709_164_801.0)),
            ("2024-02-29 00:00:01", None),
            ("soon", None),
        ] {
            assert_eq!(seconds_since_1970(text), expected, "{text}");
        }
    }
}
