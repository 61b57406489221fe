//! Several clients at the same time, and what the agent has become after many checks.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, SimpleQueryMessage};

use crate::client::exchange_many;
use crate::report::{row, say};
use crate::support::millis;

/// Clients at the same time.
const CLIENTS: usize = 8;

/// Several clients at the same time, and how many sessions PostgreSQL saw of the agent meanwhile.
#[derive(Default)]
pub struct Crowd {
    checks: usize,
    elapsed: Duration,
    most_sessions: u64,
}

impl Crowd {
    /// `checks` checks, shared by all clients.
    pub fn run(&mut self, checks: usize, agent: SocketAddr, session: &mut Client) {
        let each = checks / CLIENTS;
        let running = AtomicBool::new(true);
        let begin = Instant::now();
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|number| {
                    let own = each + usize::from(number < checks % CLIENTS);
                    scope.spawn(move || exchange_many(own, agent))
                })
                .collect();
            let running = &running;
            let witness = scope.spawn(move || {
                let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgsqlchk'";
                let mut most = 0;
                while running.load(Ordering::SeqCst) {
                    most = most.max(ask(session, sessions).parse().expect("a count"));
                    thread::park_timeout(millis(20));
                }
                most
            });
            clients.into_iter().for_each(|client| client.join().expect("a client"));
            self.elapsed += begin.elapsed();
            running.store(false, Ordering::SeqCst);
            self.most_sessions = self.most_sessions.max(witness.join().expect("the witness"));
        });
        self.checks += checks;
    }

    pub fn print(&self) {
        let rate = self.checks as f64 / self.elapsed.as_secs_f64();
        say(&format!("{:<52}{:>10}{:>20}", "the whole run", "value", "goal"));
        row(&format!("checks per second, {CLIENTS} clients"), &format!("{rate:.0}"), "");
        row("sessions in pg_stat_activity at most", &self.most_sessions.to_string(), "1");
    }
}

/// The single value a query returns.
pub fn ask(session: &mut Client, sql: &str) -> String {
    let messages = session.simple_query(sql).expect("a query");
    let value = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    value.expect("one row with one value").to_owned()
}
