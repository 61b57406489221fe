//! What a running agent says, for those beside it on its host: `pgsqlchk doctor` and `pgsqlchk drain --wait`. (Agents ask each
//! other in `peers`, with what that takes.)

mod exchange;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::gate::listener::DEFAULT_PORT;
pub use exchange::{Answer, CLOSED, LATE, NOBODY, Place, get};

/// What is needed of `/status` and `/node`. Whatever a version does not say is `None`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Status {
    /// The agent's own random name.
    pub agent: Option<String>,
    /// The host's name.
    pub name: Option<String>,
    /// `primary` or `standby`.
    pub role: Option<String>,
    /// Why there is no role.
    pub reason: Option<String>,
    /// Which cluster the instance belongs to.
    pub system_identifier: Option<String>,
    /// The instance's version.
    pub server_version: Option<String>,
    /// By the agent's clock.
    pub time: Option<String>,
    /// The agent's version.
    pub agent_version: Option<String>,
    /// Whether the drain file exists, for all that the agent sees.
    pub draining: Option<bool>,
    /// What HAProxy says; `None` from an agent that does not listen to it.
    pub haproxy: Option<Vec<Said>>,
}

/// What one HAProxy says of one of its servers.
#[derive(Clone, Debug, Deserialize)]
pub struct Said {
    /// HAProxy's own name.
    pub node: String,
    /// Its pool.
    pub pool: String,
    /// The server in it.
    pub server: String,
    /// In HAProxy's words.
    pub state: String,
    /// Whether HAProxy counts the server as up.
    pub up: bool,
    /// Sessions at the server.
    pub sessions: u64,
    /// Those that wait for it.
    pub queue: u64,
    /// Where the check came from.
    pub address: Option<String>,
    /// How long ago, in milliseconds.
    pub age_ms: u64,
}

/// Where the agent may be asked from this host, in the order to try; empty where nobody can know.
pub fn addresses(listen: &[SocketAddr]) -> Vec<SocketAddr> {
    let default = [SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), DEFAULT_PORT)];
    let listen = if listen.is_empty() { &default[..] } else { listen };
    let loopbacks = |address: &SocketAddr| match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![Ipv4Addr::LOCALHOST.into()],
        // It takes IPv4 too, and where IPv6 is off nothing else is there.
        IpAddr::V6(ip) if ip.is_unspecified() => vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()],
        ip => vec![ip],
    };
    let known = listen.iter().filter(|address| address.port() != 0);
    known
        .flat_map(|address| loopbacks(address).into_iter().map(|ip| SocketAddr::new(ip, address.port())))
        .collect()
}

/// Asks the first agent that answers, and says where that is. `Err` says in one line why none does.
pub fn ask(addresses: &[SocketAddr], limit: Duration) -> Result<(SocketAddr, Status), String> {
    let deadline = Instant::now() + limit;
    let mut why = "no port is named to ask it at".to_owned();
    for address in addresses {
        match get((*address).into(), "/status", deadline).and_then(|answer| read(&answer)) {
            Ok(status) => return Ok((*address, status)),
            Err(what) if what == CLOSED => {
                why = format!("{address}: {what} (does --allow name this host?)");
            }
            Err(what) => why = format!("{address}: {what}"),
        }
    }
    Err(why)
}

fn read(answer: &Answer) -> Result<Status, String> {
    let status =
        (answer.status == 200).then(|| serde_json::from_slice::<Status>(&answer.body).ok()).flatten();
    status
        .filter(|status| status.haproxy.is_some())
        .ok_or_else(|| "what answers there is no agent that knows of HAProxy".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_asked_where_it_listens() {
        let of = |listen: &[&str]| {
            let listen: Vec<SocketAddr> = listen.iter().map(|text| text.parse().unwrap()).collect();
            addresses(&listen).iter().map(SocketAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), ["[::1]:23267", "127.0.0.1:23267"]);
        assert_eq!(of(&["[::]:1"]), ["[::1]:1", "127.0.0.1:1"]);
        assert_eq!(of(&["0.0.0.0:1", "192.0.2.1:2", "127.0.0.1:0"]), ["127.0.0.1:1", "192.0.2.1:2"]);
    }

    #[test]
    fn only_an_agents_answer_is_one() {
        let said = r#"{"node":"lb1","pool":"p","server":"s","state":"UP","up":true,"sessions":1,"pool_sessions":2,
            "queue":0,"address":null,"age_ms":3}"#;
        let reply = |status, body: &str| Answer { status, reason: String::new(), body: body.into() };
        let status =
            read(&reply(200, &format!("{{\"draining\":true,\"haproxy\":[{said}],\"more\":1}}"))).unwrap();
        assert_eq!((status.draining, status.haproxy.unwrap()[0].sessions), (Some(true), 1));
        for reply in [reply(404, "{}"), reply(200, "{}"), reply(200, "")] {
            assert!(read(&reply).is_err());
        }
    }
}
