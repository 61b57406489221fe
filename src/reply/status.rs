//! `/status`: everything that was observed, and what is remembered. What was not observed for this very request is
//! null. docs/monitoring.md has a table of the fields; a test holds it against them.

use serde::{Serialize, Serializer};

use super::moment::Moment;
use crate::balancers::Said;
use crate::instance::{
    AttachedStandby, Drain, Lag, LoginRefused, Lsn, Observation, Pooler, Receiver, ReplayDelay, Replication,
    Role, Sighting, WriteProbe,
};
use crate::monitor::{Change, Chronicle, Condition, Transition};
use crate::reason::Reason;
use crate::system::own_name::OwnName;
use crate::verdict::{Path, Target, Verdict, judge};

/// Text from the server is cut here: no version, host or slot is longer.
const MAX_TEXT_CHARS: usize = 256;

/// The document. Every field is always there, in this order.
#[derive(Serialize)]
pub(super) struct Document {
    pub(super) agent: String,
    pub(super) name: String,
    pub(super) role: Option<&'static str>,
    pub(super) reason: Option<Reason>,
    pub(super) draining: Option<bool>,
    pub(super) read_only: Option<bool>,
    pub(super) since: Option<Moment>,
    pub(super) timeline: Option<u32>,
    pub(super) system_identifier: Option<String>,
    pub(super) server_version: Option<String>,
    pub(super) server_started: Option<Moment>,
    pub(super) lsn: Positions,
    pub(super) lag: LagFields,
    pub(super) restoring: Option<bool>,
    pub(super) replay_paused: Option<bool>,
    pub(super) replay_delay_seconds: Option<f64>,
    pub(super) receiver: ReceiverFields,
    pub(super) standbys: Option<Vec<AttachedStandby>>,
    pub(super) cascaded: Option<Vec<AttachedStandby>>,
    pub(super) login: LoginFields,
    pub(super) writable: Option<bool>,
    pub(super) write_probe_seconds: Option<f64>,
    pub(super) poolers: Option<Vec<PoolerFields>>,
    pub(super) haproxy: Vec<BalancerFields>,
    pub(super) transitions: Vec<TransitionFields>,
    pub(super) probe_seconds: Option<f64>,
    pub(super) time: Option<Moment>,
    pub(super) agent_version: &'static str,
    /// Also where nobody knows by how much.
    #[serde(skip)]
    pub(super) is_replay_delayed: bool,
    /// Why it is not writable.
    #[serde(skip)]
    pub(super) write: Option<WriteProbe>,
    /// What `/` says: the page takes its colour from it.
    #[serde(skip)]
    pub(super) verdict: Verdict,
}

/// Positions in the WAL.
#[derive(Default, Serialize)]
pub(super) struct Positions {
    pub(super) current: Option<String>,
    pub(super) received: Option<String>,
    pub(super) replayed: Option<String>,
    pub(super) sender_end: Option<String>,
}

/// How far a standby lags, and how that is known.
#[derive(Default, Serialize)]
pub(super) struct LagFields {
    pub(super) bytes: Option<u64>,
    pub(super) bytes_basis: Option<&'static str>,
    pub(super) seconds: Option<f64>,
    pub(super) seconds_basis: Option<&'static str>,
    pub(super) unknown: Option<&'static str>,
}

/// A standby's WAL receiver.
#[derive(Default, Serialize)]
pub(super) struct ReceiverFields {
    pub(super) exists: Option<bool>,
    pub(super) details_visible: Option<bool>,
    pub(super) state: Option<String>,
    pub(super) sender_host: Option<String>,
    pub(super) sender_port: Option<u16>,
    pub(super) slot: Option<String>,
    pub(super) application_name: Option<String>,
    pub(super) last_message_seconds: Option<f64>,
}

/// A login that the server refused while the session went on answering.
#[derive(Default, Serialize)]
pub(super) struct LoginFields {
    pub(super) refused: Option<Reason>,
    pub(super) since: Option<Moment>,
}

/// What clients go through.
#[derive(Serialize)]
pub(super) struct PoolerFields {
    pub(super) address: String,
    pub(super) up: Option<bool>,
}

/// What a HAProxy says of this server.
#[derive(Serialize)]
pub(super) struct BalancerFields {
    pub(super) node: String,
    pub(super) pool: String,
    pub(super) server: String,
    pub(super) state: String,
    pub(super) up: bool,
    pub(super) sessions: u32,
    pub(super) pool_sessions: u32,
    pub(super) queue: u32,
    pub(super) address: Option<String>,
    pub(super) age_ms: u64,
}

/// A change that the agent noticed.
#[derive(Serialize)]
pub(super) struct TransitionFields {
    pub(super) time: Option<Moment>,
    pub(super) from: Option<&'static str>,
    pub(super) to: &'static str,
    pub(super) reason: Option<Reason>,
    /// Whether it is about the drain file and not about the instance.
    #[serde(skip)]
    pub(super) is_drain: bool,
}

impl Document {
    /// `target` has the administrator's standing limits: the reason is that of `/`.
    pub(super) fn new(
        target: Target,
        observation: &Observation,
        chronicle: &Chronicle,
        own_name: &OwnName,
    ) -> Document {
        let sighting = observation.sighting();
        let server = sighting.and_then(|sighting| sighting.server.as_ref());
        let recovery = sighting.and_then(|sighting| sighting.recovery);
        let replication = sighting.and_then(|sighting| sighting.replication.as_ref());
        let verdict = judge(Target { path: Path::Contract, ..target }, observation);
        Document {
            agent: own_name.agent.clone(),
            name: own_name.host.clone(),
            role: sighting.map(|sighting| sighting.role.word()),
            reason: reason(verdict, observation),
            draining: match observation.drain {
                Drain::On => Some(true),
                Drain::Off => Some(false),
                Drain::Unknown | Drain::NotLooked => None,
            },
            read_only: sighting.and_then(read_only),
            since: since(observation, chronicle),
            timeline: sighting.and_then(|sighting| sighting.timeline),
            system_identifier: server.map(|server| server.system_identifier.to_string()),
            server_version: server.map(|server| cut(&server.version)),
            server_started: server.and_then(|server| Moment::of_unix_seconds(server.started_unix_s)),
            lsn: Positions::new(sighting.and_then(|sighting| sighting.position), replication),
            lag: observation.lag().map(LagFields::new).unwrap_or_default(),
            restoring: recovery.and_then(|recovery| recovery.is_restore()),
            replay_paused: recovery.map(|recovery| recovery.is_paused),
            replay_delay_seconds: recovery.and_then(|recovery| match recovery.delay? {
                ReplayDelay::Of(delay) => Some(delay.as_secs_f64()),
                ReplayDelay::HoldsBack => None,
            }),
            receiver: replication.map(ReceiverFields::new).unwrap_or_default(),
            standbys: sighting.and_then(|sighting| sighting.standbys.clone()),
            cascaded: sighting.and_then(|sighting| sighting.cascaded.clone()),
            login: sighting
                .and_then(|sighting| sighting.login_refused.as_ref())
                .map(LoginFields::new)
                .unwrap_or_default(),
            writable: observation.evidence.write.as_ref().map(WriteProbe::is_committed),
            write_probe_seconds: observation.evidence.write.as_ref().and_then(WriteProbe::seconds),
            poolers: poolers(&observation.evidence.poolers),
            haproxy: Vec::new(),
            transitions: chronicle.transitions.iter().map(TransitionFields::new).collect(),
            probe_seconds: observation.took.map(|took| took.as_secs_f64()),
            time: Moment::of(chronicle.now),
            agent_version: env!("CARGO_PKG_VERSION"),
            write: observation.evidence.write.clone(),
            is_replay_delayed: recovery.is_some_and(|recovery| recovery.is_delayed()),
            verdict,
        }
    }

    /// Adds what HAProxy says.
    pub(super) fn tell_of(&mut self, said: &[Said]) {
        self.haproxy = said.iter().map(BalancerFields::new).collect();
    }

    /// As JSON, without a last line feed; indented, for it is read by people, too.
    pub(super) fn json(&self) -> String {
        // Strings, numbers and fields with names of ours: nothing here can fail.
        serde_json::to_string_pretty(self).unwrap_or_else(|_| "null".into())
    }
}

/// Why there is no role, or else why `/` does not hold.
fn reason(verdict: Verdict, observation: &Observation) -> Option<Reason> {
    if let Some(failure) = observation.failure() {
        return Some(failure.reason);
    }
    match verdict {
        Verdict::Holds(_) => None,
        Verdict::Draining => Some(Reason::Draining),
        Verdict::No(reason) | Verdict::Down(reason) => Some(reason),
    }
}

fn poolers(poolers: &[Pooler]) -> Option<Vec<PoolerFields>> {
    (!poolers.is_empty()).then(|| poolers.iter().map(PoolerFields::new).collect())
}

/// Whether a plain session cannot write.
fn read_only(sighting: &Sighting) -> Option<bool> {
    match sighting.role {
        Role::Primary => sighting.read_only_default,
        Role::Standby => Some(true),
    }
}

/// Only where what is remembered is what was observed: another look may have ended in between.
fn since(observation: &Observation, chronicle: &Chronicle) -> Option<Moment> {
    let observed = Condition::of(observation.instance.as_ref()?);
    let (remembered, since) = chronicle.condition?;
    if remembered == observed { Moment::of(since) } else { None }
}

impl Positions {
    fn new(current: Option<Lsn>, replication: Option<&Replication>) -> Positions {
        let text = |lsn: Option<Lsn>| lsn.map(|lsn| lsn.to_string());
        let details = replication.and_then(|replication| replication.receiver.as_ref()?.details.as_ref());
        Positions {
            current: text(current),
            received: text(replication.and_then(|replication| replication.received)),
            replayed: text(replication.and_then(|replication| replication.replayed)),
            sender_end: text(details.and_then(|details| details.latest_end)),
        }
    }
}

impl LagFields {
    fn new(lag: Lag) -> LagFields {
        let unknown = lag.bytes.err().or(lag.time.err());
        LagFields {
            bytes: lag.bytes.ok().map(|known| known.bytes),
            bytes_basis: lag.bytes.ok().map(|known| known.basis.word()),
            seconds: lag.time.ok().map(|known| known.duration.as_secs_f64()),
            seconds_basis: lag.time.ok().map(|known| known.basis.word()),
            unknown: unknown.map(|unknown| unknown.word()),
        }
    }
}

impl ReceiverFields {
    fn new(replication: &Replication) -> ReceiverFields {
        let Some(Receiver { details, .. }) = &replication.receiver else {
            return ReceiverFields { exists: Some(false), ..ReceiverFields::default() };
        };
        let base = ReceiverFields {
            exists: Some(true),
            details_visible: Some(details.is_some()),
            ..ReceiverFields::default()
        };
        let Some(details) = details else { return base };
        ReceiverFields {
            state: Some(cut(&details.status)),
            sender_host: details.sender_host.as_deref().map(cut),
            sender_port: details.sender_port,
            slot: details.slot_name.as_deref().map(cut),
            application_name: details.application_name.as_deref().map(cut),
            last_message_seconds: details.last_message_age.map(|age| age.as_secs_f64()),
            ..base
        }
    }
}

impl LoginFields {
    fn new(login: &LoginRefused) -> LoginFields {
        LoginFields { refused: Some(login.reason), since: Moment::of(login.since) }
    }
}

impl PoolerFields {
    fn new(pooler: &Pooler) -> PoolerFields {
        PoolerFields { address: pooler.address.to_string(), up: pooler.is_up }
    }
}

impl BalancerFields {
    fn new(said: &Said) -> BalancerFields {
        let Said { address, word, age } = said;
        BalancerFields {
            node: word.node.as_str().to_owned(),
            pool: word.pool.as_str().to_owned(),
            server: word.server.as_str().to_owned(),
            state: word.spelled_state(),
            up: word.is_up(),
            sessions: word.sessions,
            pool_sessions: word.pool_sessions,
            queue: word.queue,
            address: address.map(|address| address.to_string()),
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl TransitionFields {
    fn new(transition: &Transition) -> TransitionFields {
        let time = Moment::of(transition.at);
        match transition.change {
            Change::Condition { from, to } => {
                let reason = match to {
                    Condition::Unavailable(reason) => Some(reason),
                    Condition::Primary | Condition::Standby => None,
                };
                TransitionFields {
                    time,
                    from: from.map(Condition::word),
                    to: to.word(),
                    reason,
                    is_drain: false,
                }
            }
            Change::Drain { from, to } => {
                let word = |is_draining| if is_draining { "draining" } else { "not-draining" };
                TransitionFields { time, from: from.map(word), to: word(to), reason: None, is_drain: true }
            }
        }
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}
