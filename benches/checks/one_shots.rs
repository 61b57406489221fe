//! The homes under xinetd: a process per check beside the script it replaces, and one for all beside standalone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::client::{CHECK, PATIENCE, buffer, exchange, exchange_many, timed};
use crate::report::{heading, median, micros, row, say, timing_row};
use crate::support::process::children_of;
use crate::support::{Agent, Cluster, eventually, secs};
use crate::xinetd::{Xinetd, is_reset};

/// Both, in turns; `checks` is the number of the whole run.
pub fn measure(checks: usize, title: &str) {
    let primary = Cluster::primary();
    OneShots::start(&primary).measure((checks / 1000).max(20)).print(title);

    let standalone = Agent::start(&["--dsn", &primary.dsn()]);
    let waiting = Xinetd::waiting_agent(&primary);
    let turns = checks / 40;
    exchange_many(turns / 10, standalone.addr());
    exchange_many(turns / 10, waiting.addr());
    let [mut unit, mut timings] = [(); 2].map(|()| Vec::with_capacity(turns));
    let mut buffer = buffer();
    for _ in 0..turns {
        unit.push(timed(|| exchange(standalone.addr(), CHECK, "200", &mut buffer)));
        timings.push(timed(|| exchange(waiting.addr(), CHECK, "200", &mut buffer)));
    }
    heading(&format!("one process for all, {title}"));
    let middle = median(&mut unit);
    timing_row("check, standalone", &mut unit, middle, "the unit");
    timing_row("check, xinetd wait = yes", &mut timings, middle, "at most 1.30");
    say("");
}

/// Super-servers that start a process for every check.
struct OneShots<'a> {
    primary: &'a Cluster,
    kinds: Vec<OneShot>,
    logins: Vec<Duration>,
}

/// One of them.
struct OneShot {
    name: &'static str,
    xinetd: Xinetd,
    timings: Vec<Duration>,
    resets: usize,
    /// Processor time per check, in seconds.
    cpu: f64,
    wall_goal: &'static str,
    cpu_goal: &'static str,
}

impl<'a> OneShots<'a> {
    fn start(primary: &'a Cluster) -> OneShots<'a> {
        let kind = |name, xinetd, wall_goal, cpu_goal| OneShot {
            name,
            xinetd,
            timings: Vec::new(),
            resets: 0,
            cpu: 0.0,
            wall_goal,
            cpu_goal,
        };
        let mut kinds = vec![
            kind("pgsqlchk --mode xinetd", Xinetd::agent(primary), "the unit", "the unit"),
            kind("the script, psql itself", Xinetd::script(primary), "at least 3.50", "at least 7.00"),
        ];
        let wrapper = Xinetd::script_with_wrapper(primary);
        let wrapper = wrapper
            .map(|xinetd| kind("the script, Debian's psql", xinetd, "at least 10.00", "at least 7.00"));
        kinds.extend(wrapper);
        OneShots { primary, kinds, logins: Vec::new() }
    }

    /// One of each, in turns, and a login of our own: what PostgreSQL itself needs for a new session.
    fn measure(mut self, turns: usize) -> Self {
        let postmaster = self.primary.postmaster_pid();
        let without_sessions = children_of(postmaster).len();
        // The process and the session of one check end after its reply: that is no cost of the next one.
        let wait_for_quiet = || {
            eventually(secs(10), "the session before has ended", || {
                children_of(postmaster).len() <= without_sessions
            });
        };
        for _ in 0..turns {
            for kind in &mut self.kinds {
                wait_for_quiet();
                let addr = kind.xinetd.addr();
                let mut is_reset = false;
                kind.timings.push(timed(|| is_reset = exchange_or_reset(addr)));
                kind.resets += usize::from(is_reset);
                kind.xinetd.wait_for_servers();
            }
            wait_for_quiet();
            self.logins.push(timed(|| self.primary.connect()));
        }
        for kind in &mut self.kinds {
            kind.cpu = kind.xinetd.cpu_of_servers() / turns as f64;
        }
        self
    }

    fn print(mut self, title: &str) {
        heading(&format!("a process per check, {title}"));
        let unit = median(&mut self.kinds[0].timings);
        let unit_cpu = self.kinds[0].cpu;
        for kind in &mut self.kinds {
            timing_row(
                &format!("check, xinetd wait = no: {}", kind.name),
                &mut kind.timings,
                unit,
                kind.wall_goal,
            );
        }
        timing_row("a login alone: PostgreSQL's own part of each", &mut self.logins, unit, "");
        say(&format!(
            "{:<52}{:>10}{:>18}  goal",
            "processor time per check, children included", "mean", "ratio"
        ));
        for OneShot { name, cpu, cpu_goal, .. } in &self.kinds {
            let mean = micros(Duration::from_secs_f64(*cpu));
            say(&format!("{name:<52}{mean:>10}{:>18.2}  {cpu_goal}", cpu / unit_cpu));
        }
        for OneShot { name, resets, timings, .. } in &self.kinds {
            let value = format!("{resets} of {}", timings.len());
            row(&format!("connections reset: {name}"), &value, "0");
        }
        say("");
    }
}

/// Like `exchange`; says whether the other side broke the connection instead of closing it, which can lose a reply.
fn exchange_or_reset(addr: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(addr).expect("connect to xinetd");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.write_all(CHECK.as_bytes()).expect("send the check");
    let mut reply = Vec::new();
    match stream.read_to_end(&mut reply) {
        Ok(_) => {
            let is_primary = reply.starts_with(b"HTTP/1.1 200 ");
            assert!(is_primary, "{}", String::from_utf8_lossy(&reply));
            false
        }
        Err(error) if is_reset(&error) => true,
        Err(error) => panic!("read the reply: {error}"),
    }
}
