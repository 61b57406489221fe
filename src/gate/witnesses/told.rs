//! What the log has been told of those who are asked beside the instance: a line for each change.

use std::time::Duration;

use crate::instance::{Evidence, Observation, Pooler, WriteProbe};
use crate::peers::News;
use crate::reason::Reason;
use crate::verdict::foreign;

/// What it has been told last.
#[derive(Default)]
pub(super) struct Told {
    against: Option<Reason>,
    /// Whether each peer is of another cluster.
    foreign: Vec<bool>,
    /// Whether it has been told that all peers are this agent itself.
    all_self: bool,
    /// Whether each pooler does not answer.
    silent: Vec<bool>,
    write: Option<Reason>,
}

impl Told {
    /// Tells what is another thing than before. What was not asked for changes nothing.
    pub(super) fn note(&mut self, observation: &Observation, news: &News, timeout: Duration) {
        let evidence = &observation.evidence;
        self.note_poolers(&evidence.poolers);
        self.note_all_self(news);
        if observation.sighting().is_none() {
            return;
        }
        if let Some(write) = &evidence.write {
            self.note_write(write, timeout);
        }
        if !news.peers.is_empty() {
            self.note_against(evidence);
            self.note_foreign(observation, news);
        }
    }

    fn note_against(&mut self, evidence: &Evidence) {
        let reason = evidence.against.as_ref().map(|against| against.reason);
        let before = std::mem::replace(&mut self.against, reason);
        if let Some(before) = before.filter(|before| Some(*before) != reason) {
            log::info!(target: "pgsqlchk", "{before} no more");
        }
        if let Some(against) = evidence.against.as_ref().filter(|_| before != reason) {
            log::warn!(target: "pgsqlchk", "{}: {}", against.reason, against.what);
        }
    }

    fn note_foreign(&mut self, observation: &Observation, news: &News) {
        self.foreign.resize(news.peers.len(), false);
        for (peer, was_foreign) in news.peers.iter().zip(&mut self.foreign) {
            let Some(is_foreign) = foreign(observation, peer) else { continue };
            if is_foreign && !*was_foreign {
                let peer = peer.described();
                log::warn!(
                    target: "pgsqlchk",
                    "peer {peer} is of another cluster, and does not count: its system identifier is another one"
                );
            }
            *was_foreign = is_foreign;
        }
    }

    /// One configuration for all nodes names them all; one that names nobody else is a mistake.
    fn note_all_self(&mut self, news: &News) {
        if !self.all_self && !news.peers.is_empty() && news.peers.iter().all(|peer| peer.is_self) {
            self.all_self = true;
            log::warn!(target: "pgsqlchk", "each --peer is this agent itself: name the other nodes' agents");
        }
    }

    fn note_poolers(&mut self, poolers: &[Pooler]) {
        self.silent.resize(self.silent.len().max(poolers.len()), false);
        for (Pooler { address, is_up, cause }, was_silent) in poolers.iter().zip(&mut self.silent) {
            let Some(is_silent) = is_up.map(|is_up| !is_up) else { continue };
            if is_silent && !*was_silent {
                let reason = Reason::PoolerNotAnswering;
                log::warn!(target: "pgsqlchk", "{reason}: {address}: {}", cause.as_deref().unwrap_or_default());
            } else if *was_silent && !is_silent {
                log::info!(target: "pgsqlchk", "the pooler {address} answers again");
            }
            *was_silent = is_silent;
        }
    }

    fn note_write(&mut self, write: &WriteProbe, timeout: Duration) {
        let (reason, why) = match write {
            WriteProbe::Committed(_) => (None, None),
            WriteProbe::Stalled { cause, .. } => (Some(Reason::WriteStalled), cause.as_deref()),
            WriteProbe::Failed { cause } => (Some(Reason::WriteFailed), Some(cause.as_ref())),
        };
        let before = std::mem::replace(&mut self.write, reason);
        if before == reason {
            return;
        }
        match reason {
            Some(reason) => {
                let why =
                    why.map_or_else(|| format!("no commit came back within {timeout:?}"), str::to_owned);
                log::warn!(target: "pgsqlchk", "{reason}: {why}");
            }
            None => log::info!(target: "pgsqlchk", "a commit came back"),
        }
    }
}
