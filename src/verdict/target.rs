//! What a request asks: a path with its parameters.

use std::time::Duration;

use super::Path;
use super::origin::{origin_form, strip_scheme};
use super::parameters::{self, Parameters};
use super::standing::Standing;
use crate::instance::Needs;

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
    /// Which WAL the limit in bytes is about.
    pub mode: Mode,
    /// The request wants tags that this node does not have.
    pub has_other_tag: bool,
    /// A standby here is not to get any reads (`noloadbalance`).
    pub refuses_load: bool,
    /// What an agent-check says where this is verified not to hold.
    pub otherwise: Otherwise,
}

/// The state of a server that is verified, and is not what was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Otherwise {
    /// It is down.
    #[default]
    Down,
    /// It is in maintenance, so that an alarm on servers that are down means something (`else=maint`).
    Maint,
}

/// Which WAL a limit in bytes is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// What is not replayed.
    #[default]
    Apply,
    /// What is not received.
    Write,
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

impl Target {
    /// The path without parameters.
    pub const fn plain(path: Path) -> Target {
        Target {
            path,
            limits: Limits { bytes: None, time: None },
            wants_streaming: false,
            wants_running_replay: false,
            mode: Mode::Apply,
            has_other_tag: false,
            refuses_load: false,
            otherwise: Otherwise::Down,
        }
    }

    /// The same for those who are told more than a state: `else` means nothing to them.
    pub fn outside_agent_checks(self) -> Result<Target, TargetError> {
        match self.otherwise {
            Otherwise::Down => Ok(self),
            Otherwise::Maint => Err(TargetError::BadQuery(
                r#"else: only in the line of an agent-check (agent-send "/primary?else=maint\n")"#.into(),
            )),
        }
    }

    /// Reads a request target where the administrator has laid down nothing.
    pub fn parse(request_target: &str) -> Result<Target, TargetError> {
        Standing::default().read(request_target)
    }

    pub(super) fn parse_with(request_target: &str, standing: &Standing) -> Result<Target, TargetError> {
        let origin = origin_form(request_target);
        let (name, query) = origin.split_once('?').unwrap_or((&origin, ""));
        if name.is_empty() || strip_scheme(name).is_some() {
            return Err(TargetError::Malformed);
        }
        let path = match Path::find(name).ok_or(TargetError::UnknownPath)? {
            Path::Contract => standing.root,
            path => path,
        };
        let parameters = parameters::parse(query, path, name).map_err(TargetError::BadQuery)?;
        let has_other_tag = !path.is_for_leaders() && !standing.has_tags(&parameters.tags);
        let Parameters { limits, wants_streaming, wants_running_replay, mode, otherwise, tags: _ } =
            parameters;
        let target = Target {
            path,
            limits,
            // One that replicates is what `/readiness` asks for where it has a limit.
            wants_streaming: wants_streaming || path == Path::Readiness && limits.is_some(),
            wants_running_replay,
            mode: mode.unwrap_or_default(),
            has_other_tag,
            refuses_load: path.refuses_restores() && !path.is_for_leaders() && standing.refuses_load(),
            otherwise,
        };
        Ok(target.limited_by(standing.limits))
    }

    /// The same under the administrator's standing limits as well. The documents that say what `/` would have them, too.
    pub fn limited_by(self, standing: Limits) -> Target {
        let is_limited =
            self.path.takes_limits() || matches!(self.path, Path::Status | Path::Node | Path::Cluster);
        let standing = if is_limited { standing } else { Limits::default() };
        Target { limits: self.limits.tighter(standing), ..self }
    }

    /// What has to be observed where there are peers to compare with.
    pub fn needs_beside_peers(self) -> Option<Needs> {
        let needs = self.needs()?;
        let is_compared = self.asks_peers();
        let timeline =
            needs.timeline || is_compared && (self.limits.is_some() || self.path.compares_standbys());
        Some(Needs { identity: needs.identity || is_compared, timeline, ..needs })
    }

    /// What has to be observed, or `None` where PostgreSQL is not asked at all.
    pub fn needs(self) -> Option<Needs> {
        let role = Needs { drain: self.path.is_drained(), ..Needs::default() };
        match self.path {
            Path::Primary => Some(role),
            Path::ReadWrite => Some(Needs { writability: true, ..role }),
            Path::Contract
            | Path::Standby
            | Path::ReadOnly
            | Path::Synchronous
            | Path::Asynchronous
            | Path::Quorum
            | Path::ReadOnlySync
            | Path::ReadOnlyQuorum
            | Path::StandbyLeader => Some(self.needs_of_standby(role)),
            Path::Health => Some(Needs { despite_drain: true, ..role }),
            Path::Readiness => Some(self.needs_of_standby(Needs { despite_drain: true, ..role })),
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

    /// `needs`, and what tells whether a standby is the one that is wanted.
    fn needs_of_standby(self, needs: Needs) -> Needs {
        let names = self.path.compares_standbys();
        let replication = self.limits.is_some() || self.wants_streaming || names;
        let recovery = self.path.refuses_restores() || replication || self.wants_running_replay;
        Needs { recovery, replay_delay: self.wants_running_replay, replication, names, ..needs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Tag;

    #[test]
    fn paths_are_known_by_all_their_names() {
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
            ("/readiness", Some(Path::Readiness)),
            ("/sync", Some(Path::Synchronous)),
            ("/synchronous", Some(Path::Synchronous)),
            ("/async", Some(Path::Asynchronous)),
            ("/asynchronous", Some(Path::Asynchronous)),
            ("/quorum", Some(Path::Quorum)),
            ("/read-only-sync", Some(Path::ReadOnlySync)),
            ("/read-only-synchronous", Some(Path::ReadOnlySync)),
            ("/read-only-quorum", Some(Path::ReadOnlyQuorum)),
            ("/standby-leader", Some(Path::StandbyLeader)),
            ("/standby_leader", Some(Path::StandbyLeader)),
            ("/primary/", Some(Path::Primary)),
            ("//primary///", Some(Path::Primary)),
            ("//?", Some(Path::Contract)),
            ("/status/", Some(Path::Status)),
            ("/primary/x", None),
            ("/primary//x", None),
            ("primary/", None),
            ("*/", None),
            ("http://node1//primary", Some(Path::Primary)),
            ("//", Some(Path::Contract)),
            ("/liveness", Some(Path::Liveness)),
            ("/status", Some(Path::Status)),
            ("/metrics", Some(Path::Metrics)),
            ("/node", Some(Path::Node)),
            ("/cluster", Some(Path::Cluster)),
            ("http://node1:23267/replica", Some(Path::Standby)),
            ("http://node1:23267", Some(Path::Contract)),
            ("http://node1?", Some(Path::Contract)),
            ("/Primary", None),
            ("/primary#x", None),
            ("http://node1/primary#x", None),
            ("https://node1/primary", None),
            ("primary", None),
            ("#", None),
            ("/%70rimary", None),
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
        assert_eq!(needs("/readiness"), needs("/health"));
        assert_eq!(needs("/liveness"), None);
    }

    fn rules(root: Path, tags: &[(&str, &str)]) -> Standing {
        let tags = tags.iter().map(|(name, value)| Tag { name: (*name).into(), value: (*value).into() });
        Standing { root, tags: tags.collect(), ..Standing::default() }
    }

    #[test]
    fn the_root_stands_for_the_path_that_was_named() {
        let patroni = rules(Path::Primary, &[]);
        for text in ["/", "*", "//", "http://node1"] {
            assert_eq!(patroni.read(text), Ok(Target::plain(Path::Primary)), "{text}");
        }
        assert_eq!(patroni.read("/replica"), Ok(Target::plain(Path::Standby)));
        assert!(matches!(patroni.read("/?lag=1MB"), Err(TargetError::BadQuery(_))));
        let limited = rules(Path::Standby, &[]).read("/?lag=5").unwrap();
        assert_eq!((limited.path, limited.limits.bytes), (Path::Standby, Some(5)));
    }

    #[test]
    fn tags_count_where_standbys_are_wanted() {
        let tagged = rules(Path::Contract, &[("dc", "eu"), ("kind", "big")]);
        for (text, expected) in [
            ("/replica?tag_dc=eu", false),
            ("/replica?tag_dc=eu&tag_kind=big", false),
            ("/replica?tag_dc=eu&tag_kind=small", true),
            ("/replica?tag_dc=EU", true),
            ("/async?tag_nothing=x", true),
            ("/read-only?tag_dc=us", true),
            ("/?tag_dc=us", true),
            ("/primary?tag_dc=us", false),
            ("/read-write?tag_dc=us", false),
            ("/standby-leader?tag_dc=us", false),
        ] {
            assert_eq!(tagged.read(text).unwrap().has_other_tag, expected, "{text}");
        }
        let quiet = rules(Path::Contract, &[("noloadbalance", "true")]);
        for (text, expected) in [
            ("/replica", true),
            ("/read-only", true),
            ("/async?lag=1MB", true),
            ("/read-only-sync", true),
            ("/", false),
            ("/primary", false),
            ("/standby-leader", false),
            ("/health", false),
        ] {
            assert_eq!(quiet.read(text).unwrap().refuses_load, expected, "{text}");
            assert!(!rules(Path::Contract, &[("noloadbalance", "false")]).read(text).unwrap().refuses_load);
        }
    }

    #[test]
    fn readiness_with_a_limit_wants_a_standby_that_streams() {
        assert_eq!(Target::parse("/readiness"), Ok(Target::plain(Path::Readiness)));
        let target = Target::parse("/readiness?lag=16MB&mode=write").unwrap();
        assert_eq!((target.limits.bytes, target.mode), (Some(16 << 20), Mode::Write));
        assert!(target.wants_streaming && target.asks_peers());
        assert_eq!(Target::parse("/readiness?lag=16MB").unwrap().mode, Mode::Apply);
        let standing = Standing { limits: Limits { bytes: Some(1), time: None }, ..Standing::default() };
        assert_eq!(standing.read("/readiness"), Ok(Target::plain(Path::Readiness)));
    }
}
