//! What a client meets that logs in now, and agents that are held against it.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cluster::psql_command;
use super::patience::{SLACK, TIMEOUT, at_the_same_time};
use super::process::{Killed, wait_for_exit};
use super::prometheus::Page;
use super::{Agent, Cluster, millis, secs};

/// `--login-interval` of the agents here.
pub const LOGIN_INTERVAL: Duration = millis(500);

/// What the agents here are told: deadline, knocks and logins.
pub const PACE: [&str; 6] = ["--timeout", "1s", "--knock-interval", "100ms", "--login-interval", "500ms"];

/// So much later than new clients the agent may still say what an old session says: an interval, the check that finds
/// it out, and what a busy machine adds.
pub const SOON: Duration = LOGIN_INTERVAL.saturating_add(TIMEOUT).saturating_add(SLACK);

/// So long an answer has to stay: several logins.
const STANDING: Duration = LOGIN_INTERVAL.saturating_mul(5);

/// Between two checks.
const PAUSE: Duration = millis(20);

/// More than anybody waits for a login; libpq knows nothing below two seconds.
const CONNECT_TIMEOUT_S: &str = "2";

/// The paths that say something about PostgreSQL, and its role on each.
pub const PATHS: [&str; 8] =
    ["/", "/primary", "/read-write", "/replica", "/standby", "/read-only", "/health", "/readiness"];

/// An agent that logs in as this role, with the pace of this module.
#[track_caller]
pub fn agent_with(dsn: &str, more: &[&str]) -> Agent {
    Agent::start(&[&["--dsn", dsn], &PACE[..], more].concat())
}

/// A primary with a role of the agent's, an ordinary role of clients', and one that takes connections.
pub fn primary() -> Cluster {
    primary_with(&[])
}

/// The same with settings of its own.
pub fn primary_with(settings: &[(&str, &str)]) -> Cluster {
    let primary = Cluster::primary_with(settings);
    primary.psql("CREATE ROLE pgsqlchk LOGIN; CREATE ROLE app LOGIN");
    primary
}

/// Whether a new client's commit comes back, that of a row of the table `written`. One that hangs is left to the server,
/// as clients are.
pub fn can_commit(dsn: &str) -> bool {
    let mut psql = psql_command();
    psql.env("PGCONNECT_TIMEOUT", "2");
    psql.args(["-q", "-d", dsn, "-c", "INSERT INTO written VALUES (1)"]);
    psql.stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = Killed(psql.spawn().expect("start psql"));
    wait_for_exit(&mut client.0, secs(2)).is_some_and(|status| status.success())
}

/// A new client's whole errand: it logs in, asks for the role and leaves. What psql says where it can't.
pub fn errand(dsn: &str) -> Result<&'static str, String> {
    let mut psql = psql_command();
    psql.env("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT_S);
    psql.args(["-d", dsn, "-c", "SELECT pg_is_in_recovery()"]);
    let output = psql.output().unwrap_or_else(|error| panic!("{psql:?}: {error}"));
    match (output.status.success(), String::from_utf8_lossy(&output.stdout).trim_end()) {
        (true, "f") => Ok("primary"),
        (true, "t") => Ok("standby"),
        _ => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// New clients are refused, and this is what they read.
#[track_caller]
pub fn assert_refused(dsn: &str, message: &str) {
    let refusal = errand(dsn).expect_err("a refusal");
    assert!(refusal.contains(message), "{message:?} is not in {refusal:?}");
}

/// The answer becomes this one soon, no check takes longer than its deadline, and from then on it is no other.
#[track_caller]
pub fn assert_becomes(agent: &Agent, line: &str) {
    let began = Instant::now();
    loop {
        let asked = began.elapsed();
        let said = timely(agent, "/");
        if said == line {
            break;
        }
        assert!(asked < SOON, "{said} to a check {asked:?} later, and not {line}");
        thread::sleep(PAUSE);
    }
    assert_stays(agent, line);
}

/// The answer is this one for several logins.
#[track_caller]
pub fn assert_stays(agent: &Agent, line: &str) {
    let began = Instant::now();
    while began.elapsed() < STANDING {
        let at = began.elapsed();
        assert_eq!(timely(agent, "/"), line, "{at:?} later");
        thread::sleep(PAUSE);
    }
}

/// Every path about PostgreSQL says this; at the same time, for a check may wait for a login.
#[track_caller]
pub fn assert_every_path(agent: &Agent, line: &str) {
    at_the_same_time(PATHS, |path| assert_eq!(timely(agent, path), line, "{path}"));
}

/// One answer, within the deadline.
#[track_caller]
pub fn timely(agent: &Agent, path: &str) -> String {
    let reply = agent.get(path);
    assert!(reply.elapsed < TIMEOUT + SLACK, "{path}: within the deadline: {reply:?}");
    reply.line()
}

/// The document of `/status`.
#[track_caller]
pub fn status(agent: &Agent) -> Value {
    let reply = agent.get("/status");
    serde_json::from_str(&reply.body).unwrap_or_else(|error| panic!("{error}: {reply:?}"))
}

/// What `/status` and `/metrics` say about refused logins: the reason's word and the gauge.
#[track_caller]
pub fn refused_login(agent: &Agent) -> (Option<String>, f64) {
    let login = status(agent)["login"].clone();
    let word = login["refused"].as_str().map(str::to_owned);
    assert_eq!(word.is_some(), login["since"].is_string(), "refused and since belong together: {login}");
    (word, Page::of(agent).value("pgsqlchk_login_refused"))
}

/// How many lines its log has after its first answer, whose own line may be a moment later than the answer.
#[track_caller]
pub fn log_lines(agent: &Agent) -> usize {
    agent.wait_for_log("unknown -> ");
    agent.log().lines().count()
}

/// The lines of its log from the given number on.
pub fn log_since(agent: &Agent, lines: usize) -> Vec<String> {
    agent.log().lines().skip(lines).map(str::to_owned).collect()
}
