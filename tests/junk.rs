//! A server that answers with junk of every kind, at the knock, during login and to the query: 503 with the right
//! reason, in time, every time; memory stays bounded, nothing is logged per request, and a real server in its place is
//! seen at once.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use support::junk::{Act, Junk, Script, columns, data_row, done, message, settings_done, welcome};
use support::patience::{SLACK, TIMEOUT, agent, ask, assert_heals};
use support::process::try_status_number;
use support::{Cluster, Signal, eventually, http, secs};

/// What a fast sender gets rid of while the agent waits, and far more than the agent may keep.
const GIGABYTE: usize = 1 << 30;

/// The most memory the agent may ever have had.
const MAX_PEAK_KIB: u64 = 16 * 1024;

/// The agent's threads five seconds after the start, when tiny_http has let go of those it had to spare.
const THREADS_AT_REST: u64 = 18;

/// Requests of each case.
const REQUESTS: usize = 5;

/// Cases at the same time: most of them wait for a deadline.
const AT_ONCE: usize = 12;

/// The bound that the agent gives itself.
const MAX_DATA_KIB: u64 = 1024 * 1024;

/// What a fake does, and which reasons are true of it.
struct Case {
    name: &'static str,
    script: Script,
    reasons: &'static [&'static str],
}

fn at_login(name: &'static str, reasons: &'static [&'static str], session: Vec<Act>) -> Case {
    Case { name, reasons, script: Script { knock: vec![Act::Send(b"N".to_vec())], session } }
}

/// The login succeeds; the answer to the query is junk.
fn at_query(name: &'static str, reasons: &'static [&'static str], answer: Vec<Act>) -> Case {
    let begin = [Act::Send(welcome()), Act::AwaitQuery, Act::Send(settings_done()), Act::AwaitQuery];
    at_login(name, reasons, begin.into_iter().chain(answer).collect())
}

fn at_knock(name: &'static str, reasons: &'static [&'static str], knock: Vec<Act>) -> Case {
    Case { name, reasons, script: Script { knock, session: vec![Act::Silence] } }
}

fn rows(rows: &[Vec<u8>]) -> Vec<Act> {
    vec![Act::Send([rows.concat(), done()].concat()), Act::Silence]
}

fn send(bytes: &[u8]) -> Act {
    Act::Send(bytes.to_vec())
}

/// The first bytes of a message as long as can be.
fn longest(tag: u8) -> Vec<u8> {
    [&[tag], i32::MAX.to_be_bytes().as_slice()].concat()
}

fn garbage() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..1000).flat_map(|_| next()).collect()
}

/// Runs every case with an agent of its own, a few at the same time, and names all that fail.
fn run(at_once: usize, cases: Vec<Case>) {
    let real = Cluster::primary();
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if panic::catch_unwind(AssertUnwindSafe(|| check(case, &real))).is_err() {
                        failed.lock().expect("nobody panics here").push(case.name);
                    }
                }
            });
        }
    });
    assert_eq!(failed.into_inner().expect("nobody panicked"), Vec::<&str>::new());
}

fn check(case: &Case, real: &Cluster) {
    let name = case.name;
    let junk = Junk::start(case.script.clone());
    let mut agent = agent(&junk.dsn());
    for number in 0..REQUESTS {
        let reply = ask(&agent);
        assert_eq!(reply.status, 503, "{name}, request {number}: {reply:?}");
        assert!(case.reasons.contains(&reply.reason.as_str()), "{name}, request {number}: {reply:?}");
    }
    assert_eq!(agent.get("/liveness").line(), "200 Alive", "{name}");
    let peak = agent.peak_rss_kib();
    assert!(peak <= MAX_PEAK_KIB, "{name}: {peak} KiB");

    junk.replace_by(&real.socket_path());
    assert_heals(&agent);
    eventually(secs(10), "the threads of sessions that were given up end", || {
        agent.threads() <= THREADS_AT_REST
    });
    agent.terminate();
    // A change of the reason is news, and so is a session that is given up; requests are not.
    let log = agent.log();
    let news = log.lines().filter(|line| !line.contains(" -> ")).count();
    assert!(log.matches(" -> ").count() <= 4, "{name}: {log}");
    assert!(news <= 6, "{name}: {log}");
}

#[test]
fn junk_at_the_knock_is_503_with_its_reason() {
    run(
        AT_ONCE,
        vec![
            at_knock("a gigabyte", &["not-postgresql"], vec![Act::Flood(b"X".to_vec(), GIGABYTE)]),
            at_knock(
                "a gigabyte that begins well",
                &["deadline-passed"],
                vec![Act::Flood(b"N".to_vec(), GIGABYTE)],
            ),
            at_knock("S, then silence", &["deadline-passed"], vec![send(b"S"), Act::Silence]),
            at_knock("G, then closed", &["deadline-passed"], vec![send(b"G"), Act::Close]),
            at_knock("garbage", &["not-postgresql"], vec![send(&garbage()), Act::Silence]),
            at_knock("a zero byte", &["not-postgresql"], vec![send(&[0]), Act::Silence]),
            at_knock("closed", &["connection-lost"], vec![Act::Close]),
            at_knock("silence", &["postmaster-not-answering"], vec![Act::Silence]),
            at_knock(
                "an error",
                &["not-accepting-connections"],
                vec![send(&message(b'E', b"\0")), Act::Close],
            ),
        ],
    );
}

#[test]
fn junk_during_login_is_503_with_its_reason() {
    run(
        AT_ONCE,
        vec![
            at_login("closed", &["connection-lost"], vec![Act::Close]),
            at_login("silence", &["deadline-passed"], vec![Act::Silence]),
            at_login(
                "half a message, then closed",
                &["connection-lost"],
                vec![send(b"R\0\0\0\x08\0"), Act::Close],
            ),
            at_login(
                "half a message, then silence",
                &["deadline-passed"],
                vec![send(b"R\0\0\0\x08\0"), Act::Silence],
            ),
            at_login(
                "a slow drip",
                &["deadline-passed"],
                vec![send(&message(b'R', &[0; 4])), Act::Drip(parameter(1))],
            ),
            at_login(
                "a notice before all",
                &["not-postgresql"],
                vec![send(&message(b'N', b"\0")), Act::Silence],
            ),
            at_login(
                "a message of 2 GB, then silence",
                &["deadline-passed"],
                vec![send(&longest(b'R')), Act::Silence],
            ),
            at_login(
                "a message of 2 GB, dripping",
                &["deadline-passed"],
                vec![send(&longest(b'E')), Act::Drip(vec![0])],
            ),
            at_login("a length of 3", &["not-postgresql"], vec![send(b"R\0\0\0\x03"), Act::Silence]),
            at_login(
                "a negative length",
                &["not-postgresql"],
                vec![send(b"R\xff\xff\xff\xff"), Act::Silence],
            ),
            at_login(
                "an unknown message",
                &["not-postgresql"],
                vec![send(&message(b'!', b"")), Act::Silence],
            ),
            at_login("garbage", &["not-postgresql", "deadline-passed"], vec![send(&garbage()), Act::Silence]),
            at_login(
                "text",
                &["not-postgresql", "deadline-passed"],
                vec![send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Act::Silence],
            ),
            at_login(
                "an unknown kind of authentication",
                &["not-postgresql"],
                vec![send(&message(b'R', &[0, 0, 0, 99])), Act::Silence],
            ),
            at_login(
                "an authentication that this build does not speak",
                &["authentication-failed"],
                vec![send(&message(b'R', &[0, 0, 0, 7])), Act::Silence],
            ),
            at_login(
                "an empty list of SASL mechanisms",
                &["authentication-failed"],
                vec![send(&message(b'R', &[0, 0, 0, 10, 0])), Act::Silence],
            ),
            at_login(
                "authentication without its kind",
                &["not-postgresql"],
                vec![send(&message(b'R', b"")), Act::Silence],
            ),
            at_login("a row", &["not-postgresql"], vec![send(&data_row(&[Some(b"f")])), Act::Silence]),
            at_login("ready at once", &["not-postgresql"], vec![send(&message(b'Z', b"I")), Act::Silence]),
            at_login(
                "an error without SQLSTATE",
                &["not-postgresql"],
                vec![send(&message(b'E', b"SFATAL\0Mno\0\0")), Act::Close],
            ),
            at_login(
                "an error without fields",
                &["not-postgresql"],
                vec![send(&message(b'E', b"\0")), Act::Close],
            ),
            at_login(
                "an error without its end",
                &["not-postgresql"],
                vec![send(&message(b'E', b"SFATAL")), Act::Close],
            ),
            at_login(
                "an error with line breaks",
                &["login-failed"],
                vec![send(&message(b'E', b"SFATAL\0CXX000\0Ma\r\n\x1b[2Jb\0\0")), Act::Close],
            ),
            at_login(
                "a SQLSTATE of any length",
                &["login-failed"],
                vec![
                    send(&message(b'E', &[b"SFATAL\0C".as_slice(), &[b'5'; 10_000], b"\0Mx\0\0"].concat())),
                    Act::Close,
                ],
            ),
        ],
    );
}

#[test]
fn junk_in_place_of_the_role_is_503_with_its_reason() {
    let role = |value: &'static [u8]| data_row(&[Some(value)]);
    run(
        AT_ONCE,
        vec![
            at_query("closed", &["connection-lost"], vec![Act::Close]),
            at_query("silence", &["deadline-passed"], vec![Act::Silence]),
            at_query(
                "half a row, then silence",
                &["deadline-passed"],
                vec![send(&columns(1)), send(b"D\0\0"), Act::Silence],
            ),
            at_query(
                "a row, and never ready",
                &["deadline-passed"],
                vec![send(&columns(1)), send(&role(b"f")), Act::Silence],
            ),
            at_query("a role that is neither", &["query-failed"], rows(&[columns(1), role(b"true")])),
            at_query("a role that is empty", &["query-failed"], rows(&[columns(1), role(b"")])),
            at_query("a role in binary", &["query-failed"], rows(&[columns(1), role(&[0])])),
            at_query("a role that is no text", &["query-failed"], rows(&[columns(1), role(b"\xff\xfe")])),
            at_query("a role that is NULL", &["query-failed"], rows(&[columns(1), data_row(&[None])])),
            at_query("no row", &["query-failed"], rows(&[columns(1)])),
            at_query("nothing but done", &["query-failed"], rows(&[])),
            at_query(
                "two rows that disagree",
                &["query-failed"],
                rows(&[columns(1), role(b"f"), role(b"t")]),
            ),
            at_query("two rows that agree", &["query-failed"], rows(&[columns(1), role(b"f"), role(b"f")])),
            at_query(
                "two answers",
                &["query-failed"],
                rows(&[columns(1), role(b"f"), message(b'C', b"SELECT 1\0"), columns(1), role(b"t")]),
            ),
            at_query(
                "two columns",
                &["query-failed"],
                rows(&[columns(2), data_row(&[Some(b"f"), Some(b"t")])]),
            ),
            at_query("no column", &["query-failed"], rows(&[columns(0), data_row(&[])])),
            at_query("fewer columns than announced", &["not-postgresql"], rows(&[columns(2), role(b"f")])),
            at_query("a row without the column", &["not-postgresql"], rows(&[columns(1), data_row(&[])])),
            at_query(
                "more columns than announced",
                &["not-postgresql"],
                rows(&[columns(1), data_row(&[Some(b"f"), Some(b"t")])]),
            ),
            at_query("a row without its description", &["not-postgresql"], rows(&[role(b"f")])),
            at_query(
                "a column that is longer than its row",
                &["not-postgresql"],
                rows(&[columns(1), message(b'D', b"\0\x01\x7f\xff\xff\xfff")]),
            ),
            at_query(
                "a column of negative length",
                &["not-postgresql"],
                rows(&[columns(1), message(b'D', b"\0\x01\xff\xff\xff\xf0f")]),
            ),
            at_query(
                "columns without names",
                &["not-postgresql"],
                rows(&[message(b'T', b"\0\x01"), role(b"f")]),
            ),
            at_query(
                "an unknown message",
                &["not-postgresql", "deadline-passed"],
                vec![send(&message(b'!', b"")), Act::Silence],
            ),
            at_query("a length of 0", &["not-postgresql"], vec![send(b"D\0\0\0\0"), Act::Silence]),
            at_query(
                "COPY",
                &["not-postgresql"],
                rows(&[message(b'H', b"\0\0\x01\0\0"), message(b'd', b"f\n"), message(b'c', b"")]),
            ),
            at_query(
                "garbage",
                &["query-failed", "not-postgresql", "deadline-passed"],
                vec![send(&garbage()), Act::Silence],
            ),
            at_query(
                "an error without SQLSTATE",
                &["not-postgresql"],
                rows(&[message(b'E', b"SERROR\0Mno\0\0")]),
            ),
            at_query("a slow drip", &["deadline-passed"], vec![Act::Drip(columns(1))]),
        ],
    );
}

fn parameter(number: u64) -> Vec<u8> {
    message(b'S', format!("parameter_{number}\0value\0").as_bytes())
}

/// What never ends costs no more than a bound: either it is not kept and the requests are answered, or the agent gives
/// up as a whole, for the driver keeps whatever a server sends. Whoever started it starts it again.
#[test]
fn what_never_ends_costs_no_more_than_the_bound_on_memory() {
    let notice = message(b'N', b"SNOTICE\0C00000\0Mhello\0\0");
    let notification = message(b'A', b"\0\0\0\x01channel\0payload\0");
    let authenticated = message(b'R', &[0; 4]);
    let begun = |tag| [send(&longest(tag)), Act::Flood(vec![0; 1024], 2 * GIGABYTE)];
    let flood = |bytes: &[u8]| vec![Act::Flood(bytes.to_vec(), GIGABYTE), Act::Silence];
    let login = |begin: &[u8], acts| at_login("", FLOODED, [vec![send(begin)], acts].concat()).script;
    let query = |begin: &[u8], acts| at_query("", FLOODED, [vec![send(begin)], acts].concat()).script;
    let parameters = || vec![Act::FloodOf(parameter, GIGABYTE), Act::Silence];
    for (name, script) in [
        ("notices at login", login(&authenticated, flood(&notice))),
        ("parameters at login", login(&authenticated, parameters())),
        ("authentication", login(b"", flood(&authenticated))),
        ("a message of 2 GB", login(b"", begun(b'R').to_vec())),
        ("rows", query(&columns(1), flood(&data_row(&[Some(b"f")])))),
        ("a row of 2 GB", query(&columns(1), begun(b'D').to_vec())),
        ("notifications", query(b"", flood(&notification))),
        ("notices", query(b"", flood(&notice))),
        ("parameters", query(b"", parameters())),
        ("descriptions", query(b"", flood(&columns(1)))),
    ] {
        withstand(name, script);
    }
}

/// The reasons that are true of a server that floods.
const FLOODED: &[&str] = &["deadline-passed", "not-postgresql", "connection-lost"];

fn withstand(name: &str, script: Script) {
    let junk = Junk::start(script);
    let mut agent = agent(&junk.dsn());
    for _ in 0..3 {
        let began = Instant::now();
        let reply = http::get(agent.addr(), "/");
        assert!(began.elapsed() < TIMEOUT + SLACK, "{name}: {reply:?}");
        // It may end at any moment.
        let Some(peak) = try_status_number(agent.pid(), "VmHWM") else { break };
        assert!(peak < MAX_DATA_KIB + MAX_PEAK_KIB, "{name}: {peak} KiB");
        if let Ok(reply) = reply {
            assert!(FLOODED.contains(&reply.reason.as_str()), "{name}: {reply:?}");
        }
    }
    drop(junk);
    match http::get(agent.addr(), "/liveness") {
        Ok(reply) => assert_eq!(reply.line(), "200 Alive", "{name}"),
        Err(_) => {
            assert_eq!(
                agent.wait().signal(),
                Some(Signal::ABORT.as_raw()),
                "{name}: systemd calls it a failure"
            );
            assert!(agent.log().contains("memory allocation of"), "{name}: {}", agent.log());
        }
    }
}
