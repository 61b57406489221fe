//! One question to one peer. Blocks until its deadline, and for a name for as long as the resolver pleases.

#[cfg_attr(feature = "tls", path = "ask/over_tls.rs")]
#[cfg_attr(not(feature = "tls"), path = "ask/plain.rs")]
mod transport;

use std::net::ToSocketAddrs;
use std::time::Instant;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ArrayVec, DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::PeerSettings;
use super::statement::{self, MAX_ANSWER_BYTES, Statement};
use crate::config::PeerAddress;
use crate::wire::head::PATIENCE;

/// No peer's head is longer.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Looks names up on the thread that asks: one that hangs costs that peer's thread and no other. (The client's own
/// resolver starts a thread for each name and leaves it behind where that hangs.)
#[derive(Debug)]
struct InPlace;

impl Resolver for InPlace {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let place = uri.scheme().zip(uri.authority());
        let place = place.and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority));
        let found = place.ok_or(ureq::Error::HostNotFound)?.to_socket_addrs()?;
        let mut addresses: ResolvedSocketAddrs = ArrayVec::from_fn(|_| ([0, 0, 0, 0], 0).into());
        found.take(MAX_ADDRESSES).for_each(|address| addresses.push(address));
        if addresses.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(addresses) }
    }
}

/// Asks one peer, again and again.
pub(super) struct Asker {
    agent: ureq::Agent,
    url: String,
    patience_ms: String,
}

impl Asker {
    /// One deadline holds for connection and answer together. The peer hears how long somebody waits for it, less the way
    /// back: that its PostgreSQL hangs is an answer, too.
    pub(super) fn new(peer: &PeerAddress, settings: &PeerSettings) -> Asker {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(settings.timeout))
            .max_redirects(0)
            .http_status_as_error(false)
            // The environment's proxies are not for what this host's administrator named.
            .proxy(None)
            .max_idle_connections(0)
            .max_response_header_size(MAX_HEAD_BYTES)
            .user_agent(concat!("pgsqlchk/", env!("CARGO_PKG_VERSION")))
            .accept("application/json")
            .build();
        let scheme = if peer.is_tls { "https" } else { "http" };
        Asker {
            agent: transport::agent(config, InPlace, settings.tls.as_ref()),
            url: format!("{scheme}://{}/node", peer.place),
            patience_ms: (settings.wait * 4 / 5).as_millis().max(1).to_string(),
        }
    }

    /// Asks now. `Err` is a line for the log.
    pub(super) fn ask(&self) -> Result<Statement, String> {
        let begun = Instant::now();
        let question = self.agent.get(&self.url).header(PATIENCE, &self.patience_ms);
        let mut answer = question.call().map_err(|error| error.to_string())?;
        if answer.status() != 200 {
            return Err(format!("answered with code {}", answer.status().as_u16()));
        }
        let limited = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES as u64);
        let bytes = limited.read_to_vec().map_err(|error| error.to_string())?;
        log::debug!("{} answered after {:?}", self.url, begun.elapsed());
        statement::read(&bytes)
    }
}
