//! `/metrics`: what was observed for this very request, and what was counted so far, in Prometheus' text format 0.0.4.
//! A value that was not observed is absent, with its family. Pure.

use std::fmt::{Display, Write};

use crate::balancers::{Name, Said, Word};
use crate::instance::{Drain, Evidence, Observation, ReplayDelay, Role, Sighting, WriteProbe};
use crate::reason::Reason;
use crate::tally::{BUCKETS_US, Figures, ProbeCounts};
use crate::verdict::Survey;

pub(super) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// More than a page has; saves growing.
const USUAL_BYTES: usize = 10 * 1024;

/// The exposition, without its last line feed.
pub(super) fn text(
    observation: &Observation,
    survey: Option<&Survey>,
    said: &[Said],
    figures: &Figures,
) -> String {
    let mut page = Page(String::with_capacity(USUAL_BYTES));
    page.instance(observation);
    page.work(&observation.evidence);
    if let Some(survey) = survey {
        page.cluster(observation, survey);
    }
    page.balancers(said);
    page.probes(&figures.probes);
    page.clients(figures);
    page.process(figures);
    page.0.truncate(page.0.trim_end().len());
    page.0
}

struct Page(String);

impl Page {
    /// Head and only sample of a gauge, if there is a value.
    fn gauge(&mut self, name: &str, value: Option<impl Display>, help: &str) {
        if let Some(value) = value {
            self.head(name, "gauge", help);
            self.sample(name, format_args!(""), value);
        }
    }

    /// The same for a counter.
    fn counter(&mut self, name: &str, value: Option<impl Display>, help: &str) {
        if let Some(value) = value {
            self.head(name, "counter", help);
            self.sample(name, format_args!(""), value);
        }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.0.extend(["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"]);
    }

    /// `labels` with their braces, and with values of our own that need no escaping.
    fn sample(&mut self, name: &str, labels: impl Display, value: impl Display) {
        self.0.push_str(name);
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{labels} {value}");
    }

    fn instance(&mut self, observation: &Observation) {
        let sighting = observation.sighting();
        let is = |role| sighting.map(|sighting| u8::from(sighting.role == role));
        let is_draining = match observation.drain {
            Drain::On => Some(1),
            Drain::Off => Some(0),
            Drain::NotLooked | Drain::Unknown => None,
        };
        let replication = sighting.and_then(|sighting| sighting.replication.as_ref());
        let lag = observation.lag();
        let lag_bytes = lag.and_then(|lag| lag.bytes.ok()).map(|lag| lag.bytes);
        let lag_s = lag.and_then(|lag| lag.time.ok()).map(|lag| lag.duration.as_secs_f64());
        let has_receiver = replication.map(|replication| u8::from(replication.receiver.is_some()));
        let login_refused = sighting.map(|sighting| u8::from(sighting.login_refused.is_some()));
        let recovery = sighting.and_then(|sighting| sighting.recovery);
        let replay_delay_s = recovery.and_then(|recovery| match recovery.delay? {
            ReplayDelay::Of(delay) => Some(delay.as_secs_f64()),
            ReplayDelay::HoldsBack => None,
        });
        let timeline = sighting.and_then(|Sighting { timeline, .. }| *timeline);

        self.gauge("pgsqlchk_up", Some(u8::from(sighting.is_some())), "Whether PostgreSQL answered.");
        self.gauge("pgsqlchk_primary", is(Role::Primary), "Whether the instance is a primary.");
        self.gauge("pgsqlchk_standby", is(Role::Standby), "Whether the instance is a standby.");
        self.gauge(
            "pgsqlchk_login_refused",
            login_refused,
            "Whether the server refuses the agent's logins while its session still answers.",
        );
        self.gauge("pgsqlchk_draining", is_draining, "Whether the drain file exists.");
        self.gauge("pgsqlchk_timeline", timeline, "The instance's timeline.");
        self.gauge(
            "pgsqlchk_replication_lag_bytes",
            lag_bytes,
            "WAL that the standby has not replayed yet, where that can be known.",
        );
        self.gauge(
            "pgsqlchk_replication_lag_seconds",
            lag_s,
            "Age of the standby's data, where that can be known.",
        );
        self.gauge("pgsqlchk_wal_receiver", has_receiver, "Whether the standby has a WAL receiver.");
        self.gauge(
            "pgsqlchk_replay_paused",
            recovery.map(|recovery| u8::from(recovery.is_paused)),
            "Whether the standby's replay is paused.",
        );
        self.gauge(
            "pgsqlchk_replay_delay_seconds",
            replay_delay_s,
            "How much later the standby replays commits on purpose.",
        );
    }

    /// Absent where nobody was to commit, and where there is no pooler.
    fn work(&mut self, evidence: &Evidence) {
        let write = evidence.write.as_ref();
        self.gauge(
            "pgsqlchk_writable",
            write.map(|write| u8::from(write.is_committed())),
            "Whether the primary's last write probe was committed in time.",
        );
        self.gauge(
            "pgsqlchk_write_probe_seconds",
            write.and_then(WriteProbe::seconds),
            "How long the primary's last write probe took, or has been taking so far.",
        );
        let known = || evidence.poolers.iter().filter_map(|pooler| Some((&pooler.address, pooler.is_up?)));
        if known().next().is_some() {
            let name = "pgsqlchk_pooler_up";
            self.head(name, "gauge", "Whether what clients go through answers.");
            for (address, is_up) in known() {
                self.sample(name, format_args!("{{pooler=\"{address}\"}}"), u8::from(is_up));
            }
        }
    }

    /// Absent where there are no peers.
    fn cluster(&mut self, observation: &Observation, survey: &Survey) {
        let peers = || survey.nodes.iter().filter(|node| !node.is_self);
        let reached = peers().filter(|node| node.is_reached).count();
        let is_superseded = observation.sighting().map(|_| {
            let against = observation.evidence.against.as_ref();
            u8::from(against.is_some_and(|against| against.reason == Reason::Superseded))
        });
        self.gauge("pgsqlchk_peers", Some(peers().count()), "Peers, this agent itself not counted.");
        self.gauge("pgsqlchk_peers_reached", Some(reached), "Peers that answered.");
        self.gauge(
            "pgsqlchk_cluster_primaries",
            Some(survey.primaries()),
            "Nodes that say they are the primary, this one included.",
        );
        self.gauge(
            "pgsqlchk_superseded",
            is_superseded,
            "Whether the instance is a primary that was left behind by a promotion.",
        );
    }

    /// Absent where no HAProxy says anything. No character of a name or an address needs escaping.
    fn balancers(&mut self, said: &[Said]) {
        if said.is_empty() {
            return;
        }
        self.said("pgsqlchk_haproxy_up", said, "Whether HAProxy counts this server as up.", |word| {
            u32::from(word.is_up())
        });
        self.said("pgsqlchk_haproxy_sessions", said, "Sessions that HAProxy has here.", |word| word.sessions);
    }

    fn said(&mut self, name: &str, said: &[Said], help: &str, value: fn(&Word) -> u32) {
        self.head(name, "gauge", help);
        for Said { address, word, .. } in said {
            let [node, pool, server] = [&word.node, &word.pool, &word.server].map(Name::as_str);
            let address = address.map(|address| address.to_string()).unwrap_or_default();
            let labels =
                format_args!("{{node=\"{node}\",pool=\"{pool}\",server=\"{server}\",address=\"{address}\"}}");
            self.sample(name, labels, value(word));
        }
    }

    fn probes(&mut self, probes: &ProbeCounts) {
        self.counter(
            "pgsqlchk_role_changes_total",
            Some(probes.role_changes),
            "How often the role was another one than that seen last.",
        );
        let name = "pgsqlchk_probes_total";
        self.head(name, "counter", "Looks at the instance, by what they saw or why they saw nothing.");
        for (outcome, count) in probes.by_outcome() {
            self.sample(name, format_args!("{{outcome=\"{}\"}}", outcome.word()), count);
        }
        let name = "pgsqlchk_probe_duration_seconds";
        self.head(name, "histogram", "How long looks at the instance took.");
        for (bound_us, count) in BUCKETS_US.iter().zip(probes.at_most) {
            let bound_s = *bound_us as f64 / 1e6;
            self.sample(name, format_args!("_bucket{{le=\"{bound_s}\"}}"), count);
        }
        let all = probes.at_most[BUCKETS_US.len()];
        self.sample(name, "_bucket{le=\"+Inf\"}", all);
        self.sample(name, "_sum", probes.total_s);
        self.sample(name, "_count", all);
        self.gauge(
            "pgsqlchk_abandoned_sessions",
            Some(probes.abandoned),
            "Sessions that were given up and still hang in the server.",
        );
    }

    fn clients(&mut self, figures: &Figures) {
        let name = "pgsqlchk_requests_total";
        self.head(name, "counter", "Replies given, by path and code.");
        for (path, code, count) in figures.requests.iter() {
            self.sample(name, format_args!("{{path=\"{path}\",code=\"{code}\"}}"), count);
        }
        self.gauge("pgsqlchk_connections", Some(figures.connections), "Clients connected now.");
        let name = "pgsqlchk_refused_connections_total";
        self.head(name, "counter", "Connections closed without an answer, by the reason why.");
        for (refusal, count) in figures.refused {
            self.sample(name, format_args!("{{reason=\"{}\"}}", refusal.word()), count);
        }
    }

    fn process(&mut self, figures: &Figures) {
        let name = "pgsqlchk_build_info";
        self.head(name, "gauge", "Always 1; the label is the agent's version.");
        self.sample(name, concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1);
        let process = &figures.process;
        self.counter(
            "process_cpu_seconds_total",
            process.cpu_s,
            "Processor time spent in user and system mode.",
        );
        self.gauge("process_resident_memory_bytes", process.resident_bytes, "Resident memory.");
        self.gauge("process_virtual_memory_bytes", process.virtual_bytes, "Virtual memory.");
        self.gauge("process_open_fds", process.open_fds, "Open file descriptors.");
        self.gauge("process_max_fds", process.max_fds, "Limit of open file descriptors.");
        self.gauge("process_threads", process.threads, "Threads.");
        self.gauge(
            "process_start_time_seconds",
            figures.started_unix_s,
            "When the process began, in seconds since 1970.",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancers::MAX_BALANCERS;
    use crate::instance::{Failure, Lsn, Receiver, Recovery, Replication};
    use crate::reason::Reason;
    use crate::reply::MAX_DOCUMENT_BYTES;
    use crate::tally::Tally;
    use crate::verdict::Path;

    fn page(observation: &Observation) -> String {
        text(observation, None, &[], &Tally::new().figures())
    }

    fn has(page: &str, name: &str) -> bool {
        page.contains(name)
    }

    #[test]
    fn what_was_not_observed_is_absent() {
        let down = page(&Observation::failed(Failure::new(Reason::ConnectionRefused, "")));
        assert!(down.starts_with("# HELP pgsqlchk_up "), "{down}");
        assert!(down.contains("\npgsqlchk_up 0\n"), "{down}");
        for name in
            ["primary", "standby", "draining", "timeline", "replication_lag", "wal_receiver", "replay"]
        {
            assert!(!has(&down, &format!("pgsqlchk_{name}")), "{name}: {down}");
        }

        let replication =
            Replication { replayed: Some(Lsn(100)), received: Some(Lsn(160)), ..Replication::default() };
        let standby = |receiver| {
            let replication = Some(Replication { receiver, ..replication.clone() });
            let recovery = Some(Recovery { is_paused: true, ..Recovery::default() });
            let timeline = Some(3);
            let sighting = Sighting { recovery, replication, timeline, ..Sighting::of_role(Role::Standby) };
            page(&Observation::new(Drain::Off, Some(Ok(sighting)), None))
        };
        let silent = standby(None);
        assert!(silent.contains("\npgsqlchk_wal_receiver 0\n"), "{silent}");
        assert!(!has(&silent, "pgsqlchk_replication_lag"), "{silent}");
        let behind = standby(Some(Receiver::default()));
        for line in [
            "primary 0",
            "standby 1",
            "draining 0",
            "timeline 3",
            "replication_lag_bytes 60",
            "wal_receiver 1",
            "replay_paused 1",
        ] {
            assert!(behind.contains(&format!("\npgsqlchk_{line}\n")), "{line}: {behind}");
        }
        // No commit was replayed since the start, so nobody knows how old the data is.
        assert!(!has(&behind, "pgsqlchk_replication_lag_seconds"), "{behind}");
        // PostgreSQL 10 and 11 hide it.
        assert!(!has(&behind, "pgsqlchk_replay_delay_seconds"), "{behind}");
    }

    #[test]
    fn bounds_are_said_in_seconds_without_an_exponent() {
        let page = page(&Observation::failed(Failure::new(Reason::ConnectionRefused, "")));
        let bounds: Vec<&str> =
            page.split("le=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let expected = "0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 +Inf";
        assert_eq!(bounds.join(" "), expected);
    }

    /// It has so many lines and no more; only the numbers in them grow. None is longer than 32 characters: the longest
    /// are seconds that were counted as a 64-bit number of something smaller.
    #[test]
    fn no_page_is_longer_than_a_document_may_be() {
        let tally = Tally::new();
        for path in Path::ALL.map(Some).into_iter().chain([None]) {
            for code in [200, 206, 400, 404, 405, 408, 413, 431, 503] {
                tally.requests.count(path, code);
            }
        }
        let replication = Replication {
            replayed: Some(Lsn(1)),
            received: Some(Lsn(2)),
            receiver: Some(Receiver::default()),
            ..Replication::default()
        };
        let delay = Some(ReplayDelay::Of(std::time::Duration::MAX));
        let sighting = Sighting {
            recovery: Some(Recovery { delay, ..Recovery::default() }),
            replication: Some(replication),
            timeline: Some(u32::MAX),
            ..Sighting::of_role(Role::Standby)
        };
        let observation = Observation::new(Drain::On, Some(Ok(sighting)), None);
        let said: Vec<Said> = (0..MAX_BALANCERS).map(|_| Said::longest()).collect();
        let page = text(&observation, None, &said, &tally.figures());
        let numbers = page.lines().filter(|line| !line.starts_with('#')).count();
        assert!(numbers > 140, "{numbers} samples: {page}");
        assert!(page.len() + 32 * numbers < MAX_DOCUMENT_BYTES, "{} bytes, {numbers} samples", page.len());
    }

    #[test]
    fn a_page_fits_what_is_set_aside_for_it() {
        let page = page(&Observation::failed(Failure::new(Reason::ConnectionRefused, "")));
        assert!(page.len() < USUAL_BYTES, "{} bytes", page.len());
        assert!(!page.ends_with('\n'), "the reply adds it");
    }
}
