//! The agent beside cluster managers that others have written, each the real one (`make test-neighbours`): [`repmgr`] with
//! repmgrd, and [`auto_failover`]. Three nodes, an agent beside each, HAProxy with packaging/examples/cluster.cfg, and a
//! writer that knows which of its commits were confirmed, and by whom.
//!
//! psql at each node is the judge of what the servers are, HAProxy's own view of where writes may go.

mod auto_failover;
mod page;
mod programs;
mod repmgr;
mod site;
#[path = "../support/mod.rs"]
mod support;
mod trees;
mod watch;
mod writer;
