//! Who follows whom: promotions, and standbys of another primary.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::history::{Node, Role};
use crate::network::{NODES, address};
use crate::support::{StopMode, millis, secs};
use crate::world::{REVIVAL_LIMIT, World};

/// So long a standby may take to stream from another primary; one that was further than that one never will.
const FOLLOW_LIMIT: Duration = secs(5);

impl World {
    /// Makes a standby a primary.
    pub fn promote(&self, node: Node) {
        self.look(node);
        self.record.promoted(node);
        self.servers[node].cluster.promote();
        self.look(node);
    }

    /// Makes primaries of two standbys that know nothing of each other.
    pub fn promote_both(&self, one: Node, other: Node) {
        [one, other].into_iter().for_each(|node| self.look(node));
        [one, other].into_iter().for_each(|node| self.record.promoted(node));
        let [first, second] = [one, other].map(|node| &self.servers[node].cluster);
        thread::scope(|scope| {
            scope.spawn(|| first.promote());
            second.promote();
        });
        [one, other].into_iter().for_each(|node| self.look(node));
    }

    /// Makes standbys of this primary of all other servers, whatever they are: those that cannot follow it are rebuilt.
    pub fn follow(&mut self, primary: Node) {
        for node in NODES.into_iter().filter(|node| *node != primary) {
            let source = format!(
                "host={} port={} user=postgres",
                address(primary),
                self.servers[primary].cluster.port()
            );
            let cluster = &self.servers[node].cluster;
            cluster.configure(&[("primary_conninfo", &source)]);
            let is_standby = cluster.is_started() && cluster.psql("SELECT pg_is_in_recovery()") == "t";
            if is_standby && self.streams(node, primary, FOLLOW_LIMIT) {
                continue;
            }
            if cluster.is_started() {
                self.stop(node, StopMode::Fast);
            }
            self.rebuild(node, primary);
            assert!(self.streams(node, primary, REVIVAL_LIMIT), "node {node} streams from node {primary}");
        }
    }

    /// Whether a standby comes to stream the primary's own timeline, and to replay what is written on it. One that has
    /// replayed more of the old timeline than the new one has of it seems to stream at first, and would never start again.
    fn streams(&self, node: Node, primary: Node, limit: Duration) -> bool {
        let (standby, source) = (&self.servers[node].cluster, &self.servers[primary].cluster);
        let written = source.psql(
            "SELECT pg_current_wal_lsn() || ' ' ||
                ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int",
        );
        let (lsn, timeline) = written.split_once(' ').expect("a position and a timeline");
        let sql = format!(
            "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming' AND sender_port = {}
                AND received_tli = {timeline} AND pg_last_wal_replay_lsn() >= '{lsn}'",
            source.port()
        );
        let began = Instant::now();
        while began.elapsed() < limit {
            if standby.try_psql(&sql).is_ok_and(|count| count == "1") {
                return true;
            }
            thread::sleep(millis(20));
        }
        false
    }

    /// Makes a standby of a stopped server.
    fn rebuild(&mut self, node: Node, primary: Node) {
        let (cluster, source) = (&self.servers[node].cluster, &self.servers[primary].cluster);
        cluster.rebuild_as_standby_of(source);
        self.servers[node].disk.take_wal(&cluster.data());
        // Where it streams from stands in postgresql.conf, and goes over the network.
        fs::write(cluster.data().join("postgresql.auto.conf"), "").expect("empty postgresql.auto.conf");
        self.start(node, Role::Standby);
    }
}
