//! The paths and their parameters: what can be asked. Those of Patroni's REST API mean here what they mean there.

use std::borrow::Cow;
use std::time::Duration;

use super::parameters::{self, Parameters};
use crate::instance::{Drain, Needs, Observation, Role};

/// What a request asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which question.
    pub path: Path,
    /// How far a standby may lag.
    pub limits: Limits,
    /// Whether a standby's WAL receiver has to be streaming.
    pub wants_streaming: bool,
    /// Whether a standby's replay has to go on, neither paused nor delayed.
    pub wants_running_replay: bool,
}

/// Which question a request asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// `/`: the classic contract, any role holds.
    Contract,
    /// `/primary`, `/master`, `/leader`.
    Primary,
    /// `/read-write`: a primary on which a plain session could write.
    ReadWrite,
    /// `/replica`, `/standby`.
    Standby,
    /// `/read-only`: any role that can serve reads.
    ReadOnly,
    /// `/health`, `/readiness`: PostgreSQL answers in any role.
    Health,
    /// `/liveness`: the agent itself; never touches PostgreSQL.
    Liveness,
    /// `/status`: everything that can be observed.
    Status,
    /// `/metrics`: the same for Prometheus.
    Metrics,
    /// `/node`: what other agents ask; never depends on peers, so that nobody asks in circles.
    Node,
    /// `/cluster`: this node and all its peers.
    Cluster,
}

/// How far a standby may lag and still hold; `None`: any distance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// WAL that is not replayed yet, in bytes.
    pub bytes: Option<u64>,
    /// Age of the data.
    pub time: Option<Duration>,
}

impl Limits {
    /// Whether there is any limit.
    pub fn is_some(self) -> bool {
        self.bytes.is_some() || self.time.is_some()
    }

    /// The limits under which both hold.
    pub fn tighter(self, other: Limits) -> Limits {
        Limits { bytes: tighter(self.bytes, other.bytes), time: tighter(self.time, other.time) }
    }
}

fn tighter<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Why a request target asks nothing we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// There is no path, or no host before it.
    Malformed,
    /// No such path.
    UnknownPath,
    /// The path is known, the query is not. A parameter that was ignored would be a wrong answer.
    BadQuery(String),
}

impl Path {
    /// Every path there is.
    pub const ALL: [Path; 11] = [
        Path::Contract,
        Path::Primary,
        Path::ReadWrite,
        Path::Standby,
        Path::ReadOnly,
        Path::Health,
        Path::Liveness,
        Path::Status,
        Path::Metrics,
        Path::Node,
        Path::Cluster,
    ];

    /// The first of its names.
    pub const fn name(self) -> &'static str {
        match self {
            Path::Contract => "/",
            Path::Primary => "/primary",
            Path::ReadWrite => "/read-write",
            Path::Standby => "/replica",
            Path::ReadOnly => "/read-only",
            Path::Health => "/health",
            Path::Liveness => "/liveness",
            Path::Status => "/status",
            Path::Metrics => "/metrics",
            Path::Node => "/node",
            Path::Cluster => "/cluster",
        }
    }

    /// Paths match to the byte: nothing is decoded, no slash is added or removed.
    fn find(name: &str) -> Option<Path> {
        Some(match name {
            "/" | "*" => Path::Contract,
            "/primary" | "/master" | "/leader" => Path::Primary,
            "/read-write" => Path::ReadWrite,
            "/replica" | "/standby" => Path::Standby,
            "/read-only" => Path::ReadOnly,
            "/health" | "/readiness" => Path::Health,
            "/liveness" => Path::Liveness,
            "/status" => Path::Status,
            "/metrics" => Path::Metrics,
            "/node" => Path::Node,
            "/cluster" => Path::Cluster,
            _ => return None,
        })
    }

    /// Whether a standby can hold here, so that limits on its lag make sense.
    fn takes_limits(self) -> bool {
        match self {
            Path::Contract | Path::Standby | Path::ReadOnly => true,
            Path::Primary
            | Path::ReadWrite
            | Path::Health
            | Path::Liveness
            | Path::Status
            | Path::Metrics
            | Path::Node
            | Path::Cluster => false,
        }
    }

    /// Whether a restore does not hold here: who asks wants a standby, or whatever serves reads as well as one.
    pub(super) fn refuses_restores(self) -> bool {
        match self {
            Path::Standby | Path::ReadOnly => true,
            Path::Contract
            | Path::Primary
            | Path::ReadWrite
            | Path::Health
            | Path::Liveness
            | Path::Status
            | Path::Metrics
            | Path::Node
            | Path::Cluster => false,
        }
    }

    /// Whether it is about the role, so that a node that drains does not hold.
    pub fn is_drained(self) -> bool {
        match self {
            Path::Contract | Path::Primary | Path::ReadWrite | Path::Standby | Path::ReadOnly => true,
            Path::Health | Path::Liveness | Path::Status | Path::Metrics | Path::Node | Path::Cluster => {
                false
            }
        }
    }
}

impl Target {
    /// The path without parameters.
    pub const fn plain(path: Path) -> Target {
        Target {
            path,
            limits: Limits { bytes: None, time: None },
            wants_streaming: false,
            wants_running_replay: false,
        }
    }

    /// Reads a request target in origin form (`/path?query`), absolute form or `*` (RFC 9112, 3.2).
    pub fn parse(request_target: &str) -> Result<Target, TargetError> {
        let origin = origin_form(request_target);
        let (name, query) = origin.split_once('?').unwrap_or((&origin, ""));
        if name.is_empty() || strip_scheme(name).is_some() {
            return Err(TargetError::Malformed);
        }
        let path = Path::find(name).ok_or(TargetError::UnknownPath)?;
        let parameters = parameters::parse(query).map_err(TargetError::BadQuery)?;
        if let Some(parameter) = parameters.first_name()
            && !path.takes_limits()
        {
            return Err(TargetError::BadQuery(format!("{parameter}: {name} takes no parameters")));
        }
        let Parameters { limits, wants_streaming, wants_running_replay } = parameters;
        Ok(Target { path, limits, wants_streaming, wants_running_replay })
    }

    /// The same under the administrator's standing limits as well. The documents that say what `/` would have them, too.
    pub fn limited_by(self, standing: Limits) -> Target {
        let is_limited =
            self.path.takes_limits() || matches!(self.path, Path::Status | Path::Node | Path::Cluster);
        let standing = if is_limited { standing } else { Limits::default() };
        Target { limits: self.limits.tighter(standing), ..self }
    }

    /// Whether what other nodes say can matter to it.
    pub fn asks_peers(self) -> bool {
        match self.path {
            Path::Contract | Path::Primary | Path::ReadWrite | Path::ReadOnly => true,
            // A standby is one whatever others say; how far behind it is they may know better.
            Path::Standby => self.limits.is_some(),
            Path::Status | Path::Metrics | Path::Cluster => true,
            Path::Health | Path::Liveness | Path::Node => false,
        }
    }

    /// Whether it is worth waiting for what other nodes say, now that this one has been looked at.
    pub fn waits_for_peers(self, observation: &Observation) -> bool {
        let is_document = matches!(self.path, Path::Status | Path::Metrics | Path::Cluster);
        let is_drained = observation.drain == Drain::On && self.path.is_drained();
        self.asks_peers()
            && (is_document
                || observation.sighting().is_some_and(|sighting| match sighting.role {
                    Role::Primary => !is_drained && self.path != Path::Standby,
                    Role::Standby => !is_drained && self.limits.is_some(),
                }))
    }

    /// What has to be observed where there are peers to compare with.
    pub fn needs_beside_peers(self) -> Option<Needs> {
        let needs = self.needs()?;
        let is_compared = self.asks_peers();
        let timeline = needs.timeline || is_compared && self.limits.is_some();
        Some(Needs { identity: needs.identity || is_compared, timeline, ..needs })
    }

    /// What has to be observed, or `None` where PostgreSQL is not asked at all.
    pub fn needs(self) -> Option<Needs> {
        let role = Needs { drain: self.path.is_drained(), ..Needs::default() };
        match self.path {
            Path::Contract | Path::Standby | Path::ReadOnly => {
                let replication = self.limits.is_some() || self.wants_streaming;
                let recovery = self.path.refuses_restores() || replication || self.wants_running_replay;
                Some(Needs { recovery, replay_delay: self.wants_running_replay, replication, ..role })
            }
            Path::Primary => Some(role),
            Path::ReadWrite => Some(Needs { writability: true, ..role }),
            Path::Health => Some(Needs { despite_drain: true, ..role }),
            Path::Liveness => None,
            Path::Status => Some(Needs {
                writability: true,
                timeline: true,
                recovery: true,
                replay_delay: true,
                replication: true,
                sender: true,
                names: true,
                server: true,
                position: true,
                standbys: true,
                identity: false,
                drain: true,
                despite_drain: true,
            }),
            Path::Metrics => Some(Needs {
                timeline: true,
                recovery: true,
                replay_delay: true,
                replication: true,
                drain: true,
                despite_drain: true,
                ..Needs::default()
            }),
            Path::Node | Path::Cluster => Some(Needs {
                timeline: true,
                recovery: true,
                replication: true,
                names: true,
                position: true,
                identity: true,
                standbys: true,
                drain: true,
                despite_drain: true,
                ..Needs::default()
            }),
        }
    }
}

/// Turns the absolute form into the origin form; the authority is ours, whatever name it was given, however long. What
/// is neither stays as it is.
pub fn origin_form(request_target: &str) -> Cow<'_, str> {
    let Some(rest) = strip_scheme(request_target) else { return request_target.into() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match path.as_bytes().first() {
        _ if authority.is_empty() => request_target.into(),
        None => "/".into(),
        Some(b'/') => path.into(),
        Some(b'?') => format!("/{path}").into(),
        Some(_) => request_target.into(),
    }
}

fn strip_scheme(request_target: &str) -> Option<&str> {
    let (scheme, rest) = request_target.split_at_checked("http://".len())?;
    scheme.eq_ignore_ascii_case("http://").then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_known_to_the_byte() {
        let table = [
            ("/", Some(Path::Contract)),
            ("*", Some(Path::Contract)),
            ("/?", Some(Path::Contract)),
            ("/primary", Some(Path::Primary)),
            ("/master", Some(Path::Primary)),
            ("/leader", Some(Path::Primary)),
            ("/read-write", Some(Path::ReadWrite)),
            ("/replica", Some(Path::Standby)),
            ("/standby", Some(Path::Standby)),
            ("/read-only", Some(Path::ReadOnly)),
            ("/health", Some(Path::Health)),
            ("/readiness", Some(Path::Health)),
            ("/liveness", Some(Path::Liveness)),
            ("/status", Some(Path::Status)),
            ("/metrics", Some(Path::Metrics)),
            ("/node", Some(Path::Node)),
            ("/cluster", Some(Path::Cluster)),
            ("http://node1:23267/replica", Some(Path::Standby)),
            ("http://node1:23267", Some(Path::Contract)),
            ("http://node1?", Some(Path::Contract)),
            ("/Primary", None),
            ("/primary/", None),
            ("/primary#x", None),
            ("http://node1/primary#x", None),
            ("https://node1/primary", None),
            ("primary", None),
            ("#", None),
            ("//", None),
            ("/%70rimary", None),
            ("/status/", None),
            ("node1:23267", None),
        ];
        for (text, expected) in table {
            let expected = expected.map(Target::plain).ok_or(TargetError::UnknownPath);
            assert_eq!(Target::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn an_empty_path_or_authority_is_malformed() {
        for text in [
            "",
            "?",
            "?lag=16MB",
            "http://",
            "HTTP://",
            "http:///primary",
            "http://?",
            "http://#",
            "http://node1#x/primary",
        ] {
            assert_eq!(Target::parse(text), Err(TargetError::Malformed), "{text}");
        }
    }

    #[test]
    fn every_path_is_found_by_its_name() {
        for path in Path::ALL {
            assert_eq!(Path::find(path.name()), Some(path));
        }
    }

    #[test]
    fn a_parameter_is_never_ignored() {
        for text in [
            "/?size=16MB",
            "/replica?x",
            "/replica?&",
            "/?=",
            "/liveness?a=b&c",
            "/primary?lag=1MB",
            "/health?replay=running",
        ] {
            assert!(matches!(Target::parse(text), Err(TargetError::BadQuery(_))), "{text}");
        }
    }

    #[test]
    fn standing_limits_and_asked_ones_hold_both() {
        let second = Duration::from_secs(1);
        let standing = Limits { bytes: Some(100), time: None };
        let limited = |text| Target::parse(text).unwrap().limited_by(standing).limits;
        assert_eq!(limited("/replica"), standing);
        assert_eq!(limited("/replica?lag=50&lag_time=1s"), Limits { bytes: Some(50), time: Some(second) });
        assert_eq!(limited("/?lag=500"), standing);
        assert_eq!(limited("/status"), standing);
        assert_eq!(limited("/node"), standing);
        assert_eq!(limited("/primary"), Limits::default());
        assert_eq!(limited("/health"), Limits::default());
    }

    #[test]
    fn the_plain_contract_needs_no_more_than_the_role() {
        let needs = |text| Target::parse(text).unwrap().needs();
        let role = Needs { drain: true, ..Needs::default() };
        assert_eq!(needs("/"), Some(role));
        assert_eq!(needs("/?lag=0"), Some(Needs { recovery: true, replication: true, ..role }));
        assert_eq!(needs("/?replay=running"), Some(Needs { recovery: true, replay_delay: true, ..role }));
        assert_eq!(needs("/replica"), Some(Needs { recovery: true, ..role }));
        assert_eq!(needs("/health"), Some(Needs { despite_drain: true, ..Needs::default() }));
        assert_eq!(needs("/liveness"), None);
    }
}
