//! What the agent says about a real primary and a real standby, and about one on its way to being the other.

mod support;

use support::Cluster;

/// The ground the other tests stand on: servers start, stream, and are told apart.
#[test]
fn a_standby_streams_from_its_primary() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    assert_eq!(primary.psql("SELECT pg_is_in_recovery()"), "f");
    assert_eq!(standby.psql("SELECT pg_is_in_recovery()"), "t");
}
