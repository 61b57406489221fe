//! The paths: what can be asked. Those of Patroni's REST API mean here what they mean there.

use crate::instance::Needs;

/// What a request asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
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
}

/// Why a request target asks nothing we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// No such path.
    UnknownPath,
    /// The path is known, the query is not. A parameter that was ignored would be a wrong answer.
    BadQuery(String),
}

impl Target {
    /// Reads a request target in origin form (`/path?query`), absolute form or `*` (RFC 9112, 3.2). Paths match
    /// to the byte: nothing is decoded, no slash is added or removed.
    pub fn parse(request_target: &str) -> Result<Target, TargetError> {
        let origin = origin_form(request_target);
        let (path, query) = origin.split_once('?').unwrap_or((origin, ""));
        let target = match path {
            "/" | "*" | "" => Target::Contract,
            "/primary" | "/master" | "/leader" => Target::Primary,
            "/read-write" => Target::ReadWrite,
            "/replica" | "/standby" => Target::Standby,
            "/read-only" => Target::ReadOnly,
            "/health" | "/readiness" => Target::Health,
            "/liveness" => Target::Liveness,
            _ => return Err(TargetError::UnknownPath),
        };
        if query.is_empty() {
            return Ok(target);
        }
        let name = query.split(['=', '&']).next().unwrap_or_default();
        Err(TargetError::BadQuery(format!("unknown parameter \"{name}\"")))
    }

    /// What has to be observed, or `None` where PostgreSQL is not asked at all.
    pub fn needs(self) -> Option<Needs> {
        match self {
            Target::Contract | Target::Primary | Target::Standby | Target::ReadOnly | Target::Health => {
                Some(Needs::default())
            }
            Target::ReadWrite => Some(Needs { writability: true, ..Needs::default() }),
            Target::Liveness => None,
        }
    }
}

/// Turns the absolute form into the origin form; the authority is ours, whatever name it was given, however long.
pub fn origin_form(request_target: &str) -> &str {
    match request_target.split_at_checked("http://".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http://") => {
            rest.find(['/', '?']).map_or("/", |start| &rest[start..])
        }
        Some(_) | None => request_target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_known_to_the_byte() {
        let table = [
            ("/", Ok(Target::Contract)),
            ("*", Ok(Target::Contract)),
            ("/?", Ok(Target::Contract)),
            ("/primary", Ok(Target::Primary)),
            ("/master", Ok(Target::Primary)),
            ("/leader", Ok(Target::Primary)),
            ("/read-write", Ok(Target::ReadWrite)),
            ("/replica", Ok(Target::Standby)),
            ("/standby", Ok(Target::Standby)),
            ("/read-only", Ok(Target::ReadOnly)),
            ("/health", Ok(Target::Health)),
            ("/readiness", Ok(Target::Health)),
            ("/liveness", Ok(Target::Liveness)),
            ("http://node1:23267/replica", Ok(Target::Standby)),
            ("http://node1:23267", Ok(Target::Contract)),
            ("http://node1?", Ok(Target::Contract)),
            ("/Primary", Err(TargetError::UnknownPath)),
            ("/primary/", Err(TargetError::UnknownPath)),
            ("//", Err(TargetError::UnknownPath)),
            ("/%70rimary", Err(TargetError::UnknownPath)),
            ("/status", Err(TargetError::UnknownPath)),
            ("node1:23267", Err(TargetError::UnknownPath)),
        ];
        for (text, expected) in table {
            assert_eq!(Target::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_parameter_is_never_ignored() {
        for text in ["/?lag=16MB", "/replica?x", "/replica?&", "/?=", "/liveness?a=b&c"] {
            assert!(matches!(Target::parse(text), Err(TargetError::BadQuery(_))), "{text}");
        }
    }
}
