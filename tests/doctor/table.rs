//! The planted problems: what is wrong, the line that says so, and what the line says to type.

use super::plants;
use super::site::{Said, Site};

pub struct Row {
    /// What is wrong.
    pub problem: &'static str,
    /// Makes it so.
    pub plant: fn(&mut Site),
    /// `warning` or `problem`.
    pub grade: &'static str,
    /// What its line says.
    pub says: &'static str,
    /// What it says to type.
    pub remedy: &'static str,
}

impl Row {
    #[track_caller]
    pub fn assert_found(&self, said: &Said) {
        let is_it = |line: &&String| {
            line.split_once("; remedy: ").is_some_and(|(what, remedy)| {
                what.starts_with(self.grade) && what.contains(self.says) && remedy.contains(self.remedy)
            })
        };
        assert!(
            said.lines.iter().any(|line| is_it(&line)),
            "{}: {:?} ({:?})\n{said}",
            self.problem,
            self.says,
            self.remedy
        );
        let worst = if said.lines.iter().any(|line| line.starts_with("problem ")) { 2 } else { 1 };
        assert_eq!(said.code, worst, "{}: {said}", self.problem);
    }
}

const fn row(problem: &'static str, plant: fn(&mut Site), [grade, says, remedy]: [&'static str; 3]) -> Row {
    Row { problem, plant, grade, says, remedy }
}

pub const CONFIGURATION: &[Row] = &[
    row(
        "a misspelled option",
        |site| site.add("timout = 2s"),
        [
            "problem",
            "pgsqlchk.conf:3: unknown option \"timout\"; did you mean timeout?",
            "systemctl restart pgsqlchk",
        ],
    ),
    row(
        "a value without a unit",
        |site| site.add("\n\nmax-lag-time = 10"),
        ["problem", "pgsqlchk.conf:5: max-lag-time = \"10\": a duration needs a unit", "mend it"],
    ),
    row(
        "a file that its user may not read",
        plants::unreadable_configuration,
        ["problem", "permission denied", "chown root:pgsqlchk"],
    ),
    row(
        "a deadline longer than HAProxy waits",
        |site| site.add("timeout = 5s"),
        ["warning", "timeout = 5s is longer than HAProxy waits", "timeout check 6s"],
    ),
    row(
        "a limit on the lag below wal_receiver_timeout",
        |site| site.add("max-lag-time = 10s"),
        [
            "warning",
            "max-lag-time = 10s is shorter than wal_receiver_timeout = 60s",
            "wal_receiver_timeout = 10s",
        ],
    ),
    row(
        "allow shuts out a peer",
        plants::allow_without_peer,
        ["problem", "allow shuts out the peer 127.0.0.1", "allow = 127.0.0.1"],
    ),
    row(
        "allow shuts out the watchdog",
        |site| site.add("allow = 192.0.2.0/24"),
        ["warning", "allow shuts out this host itself", "allow = ::1"],
    ),
    row(
        "a password for everybody to read",
        plants::open_password,
        ["warning", "holds a password, and everybody on this host may read it", "chmod 640"],
    ),
    row(
        "a drain file that the service cannot see",
        |site| site.add("drain-file = /tmp/pgsqlchk-no-such/drain"),
        ["warning", "lies where systemd's service cannot see it", "drain-file = /var/lib/pgsqlchk/drain"],
    ),
];

pub const POSTGRESQL: &[Row] = &[
    row(
        "PostgreSQL is stopped",
        plants::stopped_server,
        ["problem", "PostgreSQL: connection-refused", "systemctl start postgresql"],
    ),
    row(
        "PostgreSQL listens on another port",
        plants::another_port,
        ["problem", ".s.PGSQL.1: No such file", "a server listens on port"],
    ),
    row(
        "the postmaster is frozen",
        plants::frozen_postmaster,
        ["problem", "PostgreSQL: postmaster-not-answering", "kill -CONT PID"],
    ),
    row(
        "there is no such role",
        plants::missing_role,
        ["problem", "role \"pgsqlchk\" does not exist", "createuser"],
    ),
    row(
        "there is no such database",
        plants::missing_database,
        ["problem", "PostgreSQL: database-missing", "dbname=postgres"],
    ),
    row(
        "a passfile that others may read",
        plants::open_passfile,
        ["problem", "PostgreSQL: authentication-failed", "chmod 600"],
    ),
    row(
        "the role has no connection left",
        plants::connection_limit,
        ["problem", "PostgreSQL: too-many-clients", "ALTER ROLE pgsqlchk CONNECTION LIMIT -1"],
    ),
    row(
        "the role sees only a part",
        plants::no_monitor,
        ["warning", "pgsqlchk lacks pg_monitor", "GRANT pg_monitor TO pgsqlchk"],
    ),
    row(
        "nearly all connections are taken",
        plants::few_connections,
        ["warning", "of 10 connections are taken", "pg_stat_activity"],
    ),
    row(
        "every knock is logged",
        |site| site.server.configure(&[("log_connections", "on")]),
        ["warning", "log_connections = on", "knock-interval = 10s"],
    ),
    row(
        "a smart shutdown waits for a client",
        plants::smart_shutdown,
        ["problem", "PostgreSQL: shutting-down", "pg_ctl stop -m fast"],
    ),
    row(
        "a standby that lets nobody in",
        plants::cold_standby,
        ["problem", "PostgreSQL: not-accepting-connections", "hot_standby = on"],
    ),
    row(
        "a primary that would be a standby that lets nobody in",
        plants::cold_primary,
        ["warning", "hot_standby = off", "ALTER SYSTEM SET hot_standby = on"],
    ),
    row(
        "transactions start read-only",
        |site| {
            site.server.configure(&[("default_transaction_read_only", "on")]);
        },
        [
            "warning",
            "/read-write says 503 read-only, although this is a primary",
            "ALTER SYSTEM RESET default_transaction_read_only",
        ],
    ),
    row(
        "a password that ends",
        plants::ending_password,
        ["warning", "the password of pgsqlchk ends in 3 days", "VALID UNTIL"],
    ),
    row(
        "a standby without a WAL receiver",
        plants::cut_off_standby,
        ["warning", "no WAL receiver runs on this standby", "SHOW primary_conninfo"],
    ),
];

pub const PORT_AND_HOMES: &[Row] = &[
    row(
        "nobody listens",
        Site::stop_agent,
        [
            "problem",
            "nobody listens there, so every HAProxy takes this node for down",
            "systemctl restart pgsqlchk.service",
        ],
    ),
    row(
        "somebody else listens",
        plants::other_program,
        ["problem", "which is not the agent", "listen = [::]:PORT"],
    ),
    row(
        "no home is switched on",
        |site| {
            site.remove("etc/systemd/system/multi-user.target.wants/pgsqlchk.service");
        },
        ["warning", "home: none is switched on", "systemctl enable --now pgsqlchk.service"],
    ),
    row(
        "service and socket are switched on",
        |site| {
            site.plant("etc/systemd/system/sockets.target.wants/pgsqlchk-inetd.socket", "");
        },
        [
            "problem",
            "pgsqlchk.service and pgsqlchk-inetd.socket are switched on together",
            "systemctl disable --now",
        ],
    ),
    row(
        "xinetd and systemd want the port",
        |site| plants::xinetd(site, "cps = 1000 1"),
        [
            "problem",
            "pgsqlchk.service and xinetd (/etc/xinetd.d/pgsqlchk) are switched on together",
            "disable = yes in /etc/xinetd.d/pgsqlchk",
        ],
    ),
    row(
        "xinetd's own rate",
        plants::xinetd_alone,
        ["warning", "with cps = 50 10 the port is closed for 10 s", "cps = 1000 1 in /etc/xinetd.d/pgsqlchk"],
    ),
    row(
        "few processes of xinetd",
        |site| plants::xinetd(site, "instances = 10"),
        ["warning", "with instances = 10", "instances = 60"],
    ),
    row(
        "few processes for each HAProxy, by xinetd's defaults",
        |site| {
            site.plant("etc/xinetd.conf", "defaults\n{\n\tper_source = 10\n}\n");
            plants::xinetd(site, "cps = 1000 1");
        },
        ["warning", "with per_source = 10", "per_source = 50"],
    ),
    row(
        "only_from beside wait = yes",
        |site| plants::xinetd(site, "only_from = 192.0.2.0\n\twait = yes"),
        ["problem", "only_from together with wait = yes makes xinetd spin", "allow = 192.0.2.0"],
    ),
    row(
        "only_from without a peer",
        |site| {
            site.add("peer = 192.0.2.77:23267");
            plants::xinetd(site, "only_from = 127.0.0.1 192.0.2.1");
        },
        [
            "problem",
            "only_from = 127.0.0.1 192.0.2.1 shuts out the peer 192.0.2.77",
            "only_from += 192.0.2.77",
        ],
    ),
    row(
        "xinetd's process is told nothing",
        |site| plants::xinetd(site, "server_args ="),
        ["problem", "without --mode xinetd", "server_args = --mode xinetd"],
    ),
    row(
        "xinetd starts what is not there",
        |site| plants::xinetd(site, "server = /usr/sbin/no-such/pgsqlchk"),
        ["problem", "which there is not", "server = /usr/bin/pgsqlchk"],
    ),
    row(
        "xinetd still starts the old script",
        plants::xinetd_with_script,
        ["problem", "xinetd answers checks with /usr/lib/pgcheck.sh", "docs/moving.md"],
    ),
    row(
        "the old script comes first in PATH",
        plants::script_in_path,
        ["problem", "comes first in PATH", "type -a pgsqlchk"],
    ),
    row(
        "the old script is still there",
        plants::script_beside,
        ["warning", "is still there, and another PATH would find it first", ".old"],
    ),
];

pub const DRAIN_AND_PEERS: &[Row] = &[
    row("the node drains", plants::drained, ["warning", "this node drains", "sudo pgsqlchk undrain"]),
    row(
        "everybody may drain it",
        plants::open_drain_folder,
        ["warning", "everybody may write in", "chmod o-w"],
    ),
    row(
        "the agent's user cannot look for the drain file",
        plants::closed_drain_folder,
        ["problem", "503 drain-unknown", "chmod o+x"],
    ),
    row(
        "a peer is down",
        |site| site.add(&format!("peer = 127.0.0.1:{}", super::support::free_port())),
        ["problem", "is not reached: nobody listens there", "curl -i http://127.0.0.1:"],
    ),
    row(
        "a peer's host swallows everything",
        plants::swallowing_peer,
        ["problem", "is not reached: no answer in time", "firewall"],
    ),
    row(
        "a peer's name is not known",
        |site| site.add("peer = no-such-host.invalid:23267"),
        ["problem", "no-such-host.invalid:23267 is not reached: the name", "peer = ADDRESS:23267"],
    ),
    row(
        "a peer lets nobody ask",
        plants::closing_peer,
        ["problem", "is not reached: closed without an answer", "only_from under xinetd"],
    ),
    row(
        "a peer is still the old script",
        plants::script_as_peer,
        ["problem", "which is no agent's", "docs/moving.md"],
    ),
    row(
        "a peer of another cluster",
        plants::foreign_peer,
        ["problem", "is of another cluster", "take peer = "],
    ),
    row("two primaries", plants::two_primaries, ["problem", "are primaries at the same time", "pg_rewind"]),
    row(
        "a peer of another version",
        |site| plants::peer_that_says(site, "agent_version", "\"0.0.1\""),
        ["warning", "is version 0.0.1, and this one", "install the same on both"],
    ),
    row(
        "a peer with another PostgreSQL",
        |site| plants::peer_that_says(site, "server_version", "\"9.6.1 (x)\""),
        ["warning", "PostgreSQL of 127.0.0.1:", "standbys first"],
    ),
    row(
        "a peer with another clock",
        |site| {
            plants::peer_that_says(site, "time", "\"2020-01-01T00:00:00.000Z\"");
        },
        ["warning", "s behind this one", "timedatectl set-ntp true"],
    ),
    row(
        "a peer that does not know this node",
        plants::one_sided_peer,
        ["warning", "does not name this node among its own peers", "peer = THIS-NODE:"],
    ),
    row(
        "the old script answers at the port",
        plants::script_at_the_port,
        ["problem", "as all paths do: this is not pgsqlchk", "sudo ss -ltnp"],
    ),
    row(
        "the agent is frozen",
        plants::frozen_agent,
        ["problem", "answers: http://127.0.0.1:", "kill -CONT PID"],
    ),
    row(
        "the agent's own login fails",
        plants::agent_without_role,
        ["problem", "/ says 503 authentication-failed", "docs/answers.md#reasons"],
    ),
];
