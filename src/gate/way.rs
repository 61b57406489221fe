//! By which way a request goes through the agent. On each way answers keep the order of their requests, and so each thing
//! that can be waited for has a way of its own.

use crate::config::Protocol;
use crate::verdict::Target;
use crate::wire::dialect;

/// What a request may have to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The instance, unless the node drains: then it says so at once.
    Role,
    /// The instance, drained or not, and for a moment who is asked beside it.
    Document,
    /// The instance alone, drained or not. Other agents wait for `/node` themselves.
    Instance,
    /// Nothing.
    Nothing,
}

/// How many there are.
pub(crate) const WAYS: usize = 4;

impl Way {
    /// That of a target.
    pub(crate) fn of(protocol: Protocol, target: Target) -> Way {
        match dialect::needs(protocol, target, false) {
            None => Way::Nothing,
            Some(needs) if !needs.despite_drain => Way::Role,
            Some(_) if target.asks_others() => Way::Document,
            Some(_) => Way::Instance,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Path;

    #[test]
    fn nobody_who_waits_for_others_stands_before_who_is_waited_for() {
        let way = |protocol, path| Way::of(protocol, Target::plain(path));
        assert_eq!(way(Protocol::Http, Path::Primary), Way::Role);
        assert_eq!(way(Protocol::Http, Path::Health), Way::Instance);
        for path in [Path::Status, Path::Metrics, Path::Cluster] {
            assert_eq!(way(Protocol::Http, path), Way::Document, "{path:?}");
        }
        assert_eq!(
            way(Protocol::Agent, Path::Health),
            Way::Role,
            "a node that drains does so for every target"
        );
        assert_eq!(way(Protocol::Http, Path::Liveness), Way::Nothing);
        for path in Path::ALL {
            assert!(
                !Target::plain(path).asks_others() || way(Protocol::Http, path) != Way::Instance,
                "{path:?}"
            );
        }
        assert_eq!(way(Protocol::Http, Path::Node), Way::Instance);
    }
}
