//! What is left while a node drains, from what HAProxy and PostgreSQL say: whether that is nothing, and how it is said. Pure.

use std::time::{Duration, Instant};

use crate::agent_over_http::Said;
use crate::balancers::GOOD_FOR;
use crate::spelling;

/// How long new sessions may still come where nothing says that none do: HAProxy's checks come every two seconds unless it is
/// told otherwise (`inter`), and one may have begun before.
pub(super) const SETTLES_AFTER: Duration = Duration::from_secs(5);

/// Longer names are cut; none that the agent knows is.
const MAX_NAME_CHARS: usize = 64;

/// What is known of a drain.
pub(super) struct Progress {
    /// Since when the drain file was certainly there.
    begun: Instant,
    balancers: Vec<Balancer>,
    clients: Clients,
    /// Why the agent could not be asked the last time.
    silence: Option<String>,
}

/// What one HAProxy said last of one of its servers.
struct Balancer {
    said: Said,
    /// Not before that.
    at: Instant,
}

/// Sessions of clients, as PostgreSQL has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Clients {
    /// So many.
    Known(u64),
    /// Nobody knows, and why.
    Unknown(String),
}

impl Progress {
    /// Nobody has said anything yet.
    pub(super) fn new(begun: Instant) -> Progress {
        Progress {
            begun,
            balancers: Vec::new(),
            clients: Clients::Unknown("not asked".into()),
            silence: None,
        }
    }

    /// What the agent said when it was asked at `asked`: each word may be as much older as its age says.
    pub(super) fn hear(&mut self, said: Vec<Said>, asked: Instant) {
        self.silence = None;
        for said in said {
            let at = asked.checked_sub(Duration::from_millis(said.age_ms)).unwrap_or(asked);
            let known = self.balancers.iter_mut().find(|known| known.said.names() == said.names());
            match known {
                Some(known) if known.at <= at => *known = Balancer { said, at },
                Some(_) => {}
                None => self.balancers.push(Balancer { said, at }),
            }
        }
    }

    /// The agent could not be asked.
    pub(super) fn miss(&mut self, why: String) {
        self.silence = Some(why);
    }

    /// What PostgreSQL said, after the agent.
    pub(super) fn count(&mut self, clients: Clients) {
        self.clients = clients;
    }

    /// Whether no session is left, as far as anybody says.
    pub(super) fn is_done(&self, now: Instant) -> bool {
        let has_settled = now.saturating_duration_since(self.begun) >= SETTLES_AFTER;
        let rest = match self.clients {
            Clients::Known(count) => count == 0 && (has_settled || self.hears(now)),
            Clients::Unknown(_) => self.hears(now),
        };
        rest && self.balancers.iter().all(|balancer| self.is_through(balancer, now))
    }

    /// Why nothing is known of anybody's sessions; `None` where something is.
    pub(super) fn is_blind(&self, now: Instant) -> Option<String> {
        let Clients::Unknown(why) = &self.clients else { return None };
        if self.hears(now) {
            return None;
        }
        let heard = match &self.silence {
            Some(silence) => format!("the agent cannot be asked ({silence})"),
            None => "no HAProxy says how many it has (http-check send-state)".into(),
        };
        Some(format!("nobody says how many sessions are left: {heard}, and PostgreSQL does not ({why})"))
    }

    /// In one line.
    pub(super) fn line(&self, now: Instant) -> String {
        let mut parts: Vec<String> =
            self.balancers.iter().map(|balancer| self.describe(balancer, now)).collect();
        match &self.silence {
            Some(silence) => {
                parts.push(format!("what HAProxy has is not known: the agent cannot be asked ({silence})"))
            }
            None if parts.is_empty() => {
                parts.push("no HAProxy says what it has (http-check send-state)".into())
            }
            None => {}
        }
        parts.push(match &self.clients {
            Clients::Known(1) => "PostgreSQL: 1 client session".into(),
            Clients::Known(count) => format!("PostgreSQL: {count} client sessions"),
            Clients::Unknown(why) => format!("PostgreSQL: not known ({why})"),
        });
        spelling::printable(&parts.join(", "))
    }

    /// Whether anybody says what HAProxy has.
    fn hears(&self, now: Instant) -> bool {
        self.balancers.iter().any(|balancer| !is_gone(balancer, now))
    }

    /// Only what was said since the drain began counts. A server that is still up gets new sessions until a check or an
    /// agent-check has said otherwise; by then that has been.
    fn is_through(&self, balancer: &Balancer, now: Instant) -> bool {
        let Balancer { said, at } = balancer;
        let is_new = if said.up { *at >= self.begun + SETTLES_AFTER } else { *at > self.begun };
        is_gone(balancer, now) || (is_new && said.sessions == 0 && said.queue == 0)
    }

    fn describe(&self, balancer: &Balancer, now: Instant) -> String {
        let Balancer { said, at } = balancer;
        let cut = |text: &str| text.chars().take(MAX_NAME_CHARS).collect::<String>();
        let has_twin = |other: &&Balancer| {
            let names = |said: &Said| [said.node.clone(), said.pool.clone(), said.server.clone()];
            names(&other.said) == names(said)
        };
        let is_ambiguous = self.balancers.iter().filter(has_twin).count() > 1;
        let address =
            said.address.as_deref().filter(|_| is_ambiguous).map(|address| format!(" ({})", cut(address)));
        let address = address.unwrap_or_default();
        let who = format!("{}{address} {}/{}", cut(&said.node), cut(&said.pool), cut(&said.server));
        let queue = if said.queue > 0 { format!(" and {} queued", said.queue) } else { String::new() };
        if is_gone(balancer, now) {
            return format!(
                "{who}: silent for {} s, not counted (had {}{queue})",
                GOOD_FOR.as_secs(),
                said.sessions
            );
        }
        let note = match (*at > self.begun, said.up) {
            (false, _) => " before the drain, nothing since".to_owned(),
            (true, true) => format!(", still {}", cut(&said.state)),
            (true, false) => String::new(),
        };
        format!("{who}: {}{queue}{note}", said.sessions)
    }
}

fn is_gone(balancer: &Balancer, now: Instant) -> bool {
    now.saturating_duration_since(balancer.at) >= GOOD_FOR
}

impl Said {
    fn names(&self) -> (&str, &str, &str, Option<&str>) {
        (&self.node, &self.pool, &self.server, self.address.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    fn said(node: &str, state: &str, sessions: u64, age_ms: u64) -> Said {
        Said {
            node: node.into(),
            pool: "Reads".into(),
            server: "node1".into(),
            state: state.into(),
            up: state.starts_with("UP"),
            sessions,
            queue: 0,
            address: Some("192.0.2.5".into()),
            age_ms,
        }
    }

    /// A drain that began, and moments after that.
    fn drain() -> (Progress, impl Fn(u64) -> Instant) {
        // So that there is a time before it.
        let begun = Instant::now() + START;
        (Progress::new(begun), move |millis| begun + Duration::from_millis(millis))
    }

    #[test]
    fn what_was_said_before_the_drain_is_no_zero() {
        let (mut progress, at) = drain();
        progress.count(Clients::Known(0));
        progress.hear(vec![said("lb1", "UP", 0, 300)], at(200));
        assert!(!progress.is_done(at(200)) && !progress.is_done(at(59_000)));
        assert_eq!(
            progress.line(at(200)),
            "lb1 Reads/node1: 0 before the drain, nothing since, PostgreSQL: 0 client sessions"
        );
        // HAProxy sent this before it knew of the drain: a session may have come since.
        progress.hear(vec![said("lb1", "UP", 0, 100)], at(1000));
        assert!(!progress.is_done(at(1000)));
        progress.hear(vec![said("lb1", "NOLB", 1, 100)], at(1500));
        assert!(!progress.is_done(at(1500)));
        assert_eq!(progress.line(at(1500)), "lb1 Reads/node1: 1, PostgreSQL: 0 client sessions");
        progress.hear(vec![said("lb1", "NOLB", 0, 100)], at(2000));
        assert!(progress.is_done(at(2000)));
        progress.count(Clients::Known(1));
        assert!(!progress.is_done(at(2000)), "somebody else's");
    }

    #[test]
    fn each_haproxy_counts_until_it_was_silent_for_a_minute() {
        let (mut progress, at) = drain();
        progress.count(Clients::Known(0));
        progress.hear(vec![said("lb1", "NOLB", 0, 0), said("lb2", "NOLB", 3, 0)], at(1000));
        // The agent was restarted, and has heard one of them only.
        progress.hear(vec![said("lb1", "NOLB", 0, 0)], at(60_000));
        assert!(!progress.is_done(at(60_999)));
        assert!(progress.is_done(at(61_000)));
        let line = progress.line(at(61_000));
        assert!(line.contains("lb2 Reads/node1: silent for 60 s, not counted (had 3)"), "{line}");
        let mut twin = said("lb1", "NOLB", 4, 0);
        twin.address = None;
        twin.queue = 2;
        progress.hear(vec![twin], at(61_000));
        let line = progress.line(at(61_000));
        assert!(line.starts_with("lb1 (192.0.2.5) Reads/node1: 0, "), "{line}");
        assert!(line.contains(", lb1 Reads/node1: 4 and 2 queued, "), "{line}");
    }

    #[test]
    fn a_server_that_stays_up_is_through_when_all_checks_had_their_time() {
        let (mut progress, at) = drain();
        progress.count(Clients::Known(0));
        for (millis, is_done) in [(1000, false), (4999, false), (5000, true)] {
            progress.hear(vec![said("lb1", "UP", 0, 0)], at(millis));
            assert_eq!(progress.is_done(at(millis)), is_done, "{millis}");
        }
        assert!(progress.line(at(5000)).starts_with("lb1 Reads/node1: 0, still UP, "));
    }

    #[test]
    fn without_haproxys_word_postgresqls_counts_once_it_had_time() {
        let (mut progress, at) = drain();
        progress.count(Clients::Known(0));
        assert!(!progress.is_done(at(4999)) && progress.is_done(at(5000)));
        let expected = "no HAProxy says what it has (http-check send-state), PostgreSQL: 0 client sessions";
        assert_eq!(progress.line(at(5000)), expected);
        progress.count(Clients::Known(1));
        assert!(!progress.is_done(at(5000)));
        progress.miss("nobody listens there".into());
        let line = progress.line(at(5000));
        assert!(line.ends_with("(nobody listens there), PostgreSQL: 1 client session"), "{line}");
        assert_eq!(progress.is_blind(at(5000)), None);
    }

    #[test]
    fn without_postgresqls_word_haproxys_counts_and_without_both_nothing_does() {
        let (mut progress, at) = drain();
        let refused = || Clients::Unknown("too many\nclients".into());
        progress.count(refused());
        assert!(!progress.is_done(at(9000)));
        assert!(
            progress
                .is_blind(at(0))
                .is_some_and(|why| why.contains("send-state") && why.contains("too many"))
        );
        progress.hear(vec![said("lb1", "NOLB", 0, 0)], at(1000));
        assert_eq!(progress.is_blind(at(1000)), None);
        assert!(progress.is_done(at(1000)));
        assert_eq!(progress.line(at(1000)), "lb1 Reads/node1: 0, PostgreSQL: not known (too many\\nclients)");
        assert!(progress.is_blind(at(61_000)).is_some() && !progress.is_done(at(61_000)));
    }
}
