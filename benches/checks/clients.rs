//! What it costs to see to it that clients can work: commits, and a pooler that is knocked at.

use std::time::Duration;

use crate::client::PATIENCE;
use crate::peers::print;
use crate::report::{heading, say};
use crate::support::pgbouncer::{Pgbouncer, Pool, PoolMode};
use crate::support::{Agent, Cluster, eventually, http};

/// The agents, each with what is aimed at.
const ROWS: [(&str, &str); 4] = [
    ("/primary without either", "the unit"),
    ("/primary with --write-probe 10s", "1.00"),
    ("/primary with --pooler", "at most 1.05"),
    ("/primary with both", "at most 1.05"),
];

/// One check of each, in turns, so many times, back to back.
pub fn measure(turns: usize, title: &str) {
    let primary = Cluster::primary();
    primary.psql("CREATE ROLE app LOGIN");
    let pool = Pool { mode: PoolMode::Transaction, forced_user: None, size: 4, more: "" };
    let bouncer = Pgbouncer::before(&primary, pool);
    let pooler = bouncer.address().to_string();
    let (writes, knocks) = (["--write-probe", "10s"], ["--pooler", &pooler]);
    let both = [writes, knocks].concat();
    let options: [&[&str]; 4] = [&[], &writes, &knocks, &both];
    let agents = options.map(|more| Agent::start(&[&["--dsn", &primary.dsn()], more].concat()));
    for agent in &agents {
        let is_up = || http::get(agent.addr(), "/primary").is_ok_and(|reply| reply.status == 200);
        eventually(PATIENCE, "a commit comes back", is_up);
    }
    heading(&format!("whether clients can work, {title}"));
    print([0, 1, 2, 3].map(|agent| (agents[agent].addr(), ROWS[agent])), turns, Duration::ZERO);
    say("");
}
