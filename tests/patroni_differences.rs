//! Patroni and the agent are asked the same on every node, in every state: where they differ is the table of
//! docs/moving.md, no more and no less. psql tells which state it is; nothing is asked before it has said so.

mod support;

use std::collections::BTreeSet;
use std::thread;

use support::pages::{code, page, table};
use support::patroni::{Node, Patroni, patiently};
use support::peers::{Ring, line};
use support::{Agent, Frozen, Signal, eventually, secs, signal};

/// What a `haproxy.cfg` for Patroni may ask.
const PATHS: [&str; 18] = [
    "/",
    "/primary",
    "/master",
    "/leader",
    "/read-write",
    "/replica",
    "/replica?lag=1MB",
    "/read-only",
    "/read-only?lag=1MB",
    "/sync",
    "/async",
    "/async?lag=1MB",
    "/read-only-sync",
    "/standby-leader",
    "/health",
    "/liveness",
    "/readiness",
    "/readiness?lag=1MB",
];

/// The last line of a look in Patroni's log.
const LOOKED: &str = " INFO: no action. I am";

/// The lines that Patroni's looks have left in its log; those of its API aside.
fn looks(node: &Node) -> usize {
    let is_look = |line: &&str| line.contains(" INFO: ") && !line.contains("establishing a new patroni");
    node.log().lines().filter(is_look).count()
}

/// More than the limit in the paths.
const WRITE_3_MB: &str = "SELECT pg_logical_emit_message(true, 'x', repeat('x', 3000000))";

/// The heading of the table, whose rows name the states by these words.
const HEADING: &str = "| in this state | beside the | asked for | Patroni | pgsqlchk | why |";
const HEALTHY: &str = "all is well";
const REPLAY_FROZEN: &str = "replay is frozen, 3 MB wait";
const SENDER_FROZEN: &str = "the walsender is frozen, 3 MB were written just now";
const SENDER_FROZEN_LONG: &str = "the same, and Patroni has looked";
const PRIMARY_FROZEN: &str = "the primary's postmaster is frozen";
const STANDBY_FROZEN: &str = "the standby's postmaster is frozen";
const PRIMARY_KILLED: &str = "the primary's postmaster was killed just now";
const STANDBY_KILLED: &str = "the standby's postmaster was killed just now";
const SWITCHED_OVER: &str = "a switchover is done";
const STATES: [&str; 9] = [
    HEALTHY,
    REPLAY_FROZEN,
    SENDER_FROZEN,
    SENDER_FROZEN_LONG,
    PRIMARY_FROZEN,
    STANDBY_FROZEN,
    PRIMARY_KILLED,
    STANDBY_KILLED,
    SWITCHED_OVER,
];

/// Beside which node a path was asked for, and what Patroni and the agent said.
type Difference = [String; 4];

/// The rows of the table for one state.
fn documented(state: &str) -> BTreeSet<Difference> {
    let rows = table(&page("docs/moving.md"), HEADING);
    let of_state = rows.iter().filter(|row| row[0] == state);
    of_state
        .flat_map(|row| {
            let [_, beside, asked, patroni, ours, why] = &row[..] else { panic!("{row:?}") };
            assert!(!why.is_empty(), "unexplained: {row:?}");
            let [ours] = code(ours)[..] else { panic!("one answer in backticks, please: {row:?}") };
            let paths = code(asked);
            assert!(!paths.is_empty(), "no path in backticks: {row:?}");
            paths.into_iter().map(move |path| [beside, path, patroni, ours].map(str::to_owned))
        })
        .collect()
}

/// Two nodes, each with its Patroni and an agent that is set up as the page says.
struct Site {
    agents: [Agent; 2],
    patroni: Patroni,
}

/// Places of the nodes.
const FIRST: usize = 0;
const SECOND: usize = 1;

impl Site {
    fn start() -> Site {
        let patroni = Patroni::start();
        let ring = Ring::of(2);
        let agent = |index: usize| patroni.nodes[index].agent(&ring, index, &["--root-path", "/primary"]);
        Site { agents: [FIRST, SECOND].map(agent), patroni }
    }

    fn node(&self, index: usize) -> &Node {
        &self.patroni.nodes[index]
    }

    /// Waits until psql, Patroni and the agents see a primary and a standby that has all of its WAL.
    #[track_caller]
    fn wait_until_well(&self, primary: usize) {
        let standby = 1 - primary;
        let caught_up = "SELECT count(*) FROM pg_stat_replication
                         WHERE state = 'streaming' AND pg_current_wal_lsn() - replay_lsn < 100000";
        patiently("the standby has everything", || {
            self.node(primary).write().is_ok() && self.node(primary).psql(caught_up).as_deref() == Ok("1")
        });
        for (index, path) in [
            (primary, "/primary"),
            (primary, "/readiness"),
            (standby, "/readiness"),
            (standby, "/async?lag=1MB"),
        ] {
            patiently(path, || self.node(index).says_200(path) && self.agents[index].get(path).status == 200);
        }
    }

    /// What arrives at the standby tells Patroni only with the sender's next message, or after its own next look.
    #[track_caller]
    fn wait_until_both_see_the_lag(&self) {
        let path = "/replica?lag=1MB";
        patiently("both see the lag", || {
            self.node(SECOND).api(path).is_ok_and(|code| code == 503)
                && line(&self.agents[SECOND], path) == "503 lag-exceeded"
        });
    }

    /// Asks both the same beside each node, all at once.
    fn differences(&self, primary: usize, but: &[(usize, &str)]) -> BTreeSet<Difference> {
        let asked = [FIRST, SECOND].into_iter().flat_map(|index| PATHS.map(|path| (index, path)));
        let asked = asked.filter(|asked| !but.contains(asked));
        thread::scope(|scope| {
            let ask = |(index, path): (usize, &'static str)| {
                let patroni = self
                    .node(index)
                    .api(path)
                    .map_or_else(|error| error.to_string(), |code| code.to_string());
                let reply = self.agents[index].get(path);
                let beside = if index == primary { "primary" } else { "standby" };
                (patroni != reply.status.to_string())
                    .then(|| [beside.to_owned(), path.to_owned(), patroni, reply.line()])
            };
            let threads: Vec<_> = asked.map(|asked| scope.spawn(move || ask(asked))).collect();
            threads.into_iter().filter_map(|thread| thread.join().expect("an answer")).collect()
        })
    }

    /// What is found is what the page says.
    #[track_caller]
    fn assert_documented(&self, state: &str, primary: usize) {
        assert_eq!(
            self.differences(primary, &[]),
            documented(state),
            "{state}: found (left), docs/moving.md (right)"
        );
    }

    /// The same once the agents have seen what `happens`, and before a node's Patroni looks at its cluster again; where that
    /// was sooner, all is done again. What is frozen stays so.
    #[track_caller]
    fn assert_documented_between_looks(
        &self,
        state: &str,
        of: usize,
        but: &[(usize, &str)],
        happens: impl Fn() -> Option<Frozen>,
        is_seen: impl Fn() -> bool,
    ) -> Option<Frozen> {
        // Five seconds are between two looks, and two are enough on a machine with nothing else to do.
        for _ in 0..10 {
            self.wait_until_well(FIRST);
            let looks = || looks(self.node(of));
            let before = self.node(of).log().matches(LOOKED).count();
            patiently("Patroni looks", || self.node(of).log().matches(LOOKED).count() > before);
            let last = looks();
            let frozen = happens();
            patiently(state, || is_seen() || looks() != last);
            let found = self.differences(FIRST, but);
            if looks() == last {
                assert_eq!(found, documented(state), "{state}: found (left), docs/moving.md (right)");
                return frozen;
            }
        }
        panic!("{state}: Patroni always looked meanwhile");
    }

    /// Kills a PostgreSQL.
    fn kill(&self, index: usize) -> Option<Frozen> {
        signal(self.node(index).postmaster_pid().expect("it runs"), Signal::KILL);
        None
    }

    /// Freezes what sends to the standby, and writes.
    fn freeze_sender_and_write(&self) -> Option<Frozen> {
        let sender = self.node(FIRST).psql("SELECT pid FROM pg_stat_replication").expect("it streams");
        let frozen = Frozen::new(sender.parse().expect("a pid"));
        self.node(FIRST).psql(WRITE_3_MB).expect("it writes");
        Some(frozen)
    }
}

#[test]
fn where_patroni_and_the_agent_differ_is_written_down() {
    let site = Site::start();
    let [first, second] = &site.patroni.nodes;
    let [beside_first, beside_second] = &site.agents;

    site.wait_until_well(FIRST);
    site.assert_documented(HEALTHY, FIRST);

    // A pause would last until Patroni's next look: it resumes replay.
    let replays = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'";
    let replays = second.psql(replays).expect("it replays");
    let frozen = Frozen::new(replays.parse().expect("a pid"));
    first.psql(WRITE_3_MB).expect("it writes");
    let waits = "SELECT pg_last_wal_receive_lsn() - pg_last_wal_replay_lsn() > 2000000";
    patiently("psql sees it received and not replayed", || second.psql(waits).as_deref() == Ok("t"));
    site.wait_until_both_see_the_lag();
    site.assert_documented(REPLAY_FROZEN, FIRST);
    frozen.thaw();

    let frozen = site.assert_documented_between_looks(
        SENDER_FROZEN,
        SECOND,
        &[],
        || site.freeze_sender_and_write(),
        || line(beside_second, "/replica?lag=1MB") == "503 lag-exceeded",
    );
    site.wait_until_both_see_the_lag();
    site.assert_documented(SENDER_FROZEN_LONG, FIRST);
    drop(frozen);
    site.wait_until_well(FIRST);

    let frozen = Frozen::new(first.postmaster_pid().expect("it runs"));
    assert!(first.write().is_err(), "nobody is let in");
    eventually(secs(20), "the agent sees it", || {
        line(beside_first, "/primary") == "503 postmaster-not-answering"
    });
    eventually(secs(20), "and the other one", || line(beside_second, "/async") == "503 sync-state-unknown");
    site.assert_documented(PRIMARY_FROZEN, FIRST);
    frozen.thaw();
    site.wait_until_well(FIRST);

    let frozen = Frozen::new(second.postmaster_pid().expect("it runs"));
    assert!(second.psql("SELECT 1").is_err(), "nobody is let in");
    eventually(secs(20), "the agent sees it", || {
        line(beside_second, "/replica") == "503 postmaster-not-answering"
    });
    site.assert_documented(STANDBY_FROZEN, FIRST);
    frozen.thaw();

    let is_dead = |agent: &Agent| line(agent, "/health") == "503 connection-refused";
    site.assert_documented_between_looks(
        PRIMARY_KILLED,
        FIRST,
        &[],
        || site.kill(FIRST),
        // What the agent beside the primary said last is believed for a second.
        || is_dead(beside_first) && line(beside_second, "/replica?lag=1MB") == "503 lag-unknown",
    );
    site.assert_documented_between_looks(
        STANDBY_KILLED,
        SECOND,
        // Here Patroni tries to connect again and again, and answers after its next look.
        &[(SECOND, "/readiness"), (SECOND, "/readiness?lag=1MB")],
        || site.kill(SECOND),
        || is_dead(beside_second),
    );

    site.wait_until_well(FIRST);
    site.patroni.switch_over();
    site.wait_until_well(SECOND);
    site.assert_documented(SWITCHED_OVER, SECOND);
}

#[test]
fn the_table_of_differences_names_no_other_state() {
    let rows = table(&page("docs/moving.md"), HEADING);
    let unknown = rows.iter().find(|row| !STATES.contains(&row[0].as_str()));
    assert_eq!(unknown, None);
}
