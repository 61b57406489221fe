//! Clients that are slow, greedy, broken or malicious. Whatever they do, the agent lives, a well-behaved check
//! beside them is answered in time, memory stays bounded, and nothing of them remains when they are gone.

mod support;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use support::siege::{CHECK, Footprint, Siege, check, processor_time, waiting_check};
use support::wire::{End, PATIENCE, Received, Wire, head, reply};
use support::{Agent, Cluster, Frozen, eventually, millis, secs};

/// How long a head may take.
const HEAD_DEADLINE: Duration = secs(5);

/// More than any limit of the agent, little enough for a test: what a flood sends at most.
const FLOOD: usize = 32 << 20;

/// How long a flooding client waits for the agent to take more.
const STALL: Duration = secs(1);

/// The first line of a reply.
fn status_line(received: &Received) -> String {
    received.text().lines().next().unwrap_or_default().to_owned()
}

#[test]
fn five_hundred_idle_clients_do_not_disturb_a_check() {
    let siege = Siege::begin(&[]);
    let crowd = siege.crowd(500);
    siege.wait_for_checks(100);
    drop(crowd);
    siege.end();
}

/// With room for all of them, each holds its place until the time for its head is over; having sent nothing,
/// it gets nothing.
#[test]
fn an_idle_client_is_closed_without_a_byte_after_the_time_for_a_head() {
    let siege = Siege::begin(&["--max-connections", "1000"]);
    let begin = Instant::now();
    let mut crowd = siege.crowd(500);
    // They are accepted in the order they came.
    crowd.last().expect("a crowd").wait_accepted();
    siege.wait_for_checks(10);
    for wire in &mut crowd {
        let received = wire.receive(PATIENCE);
        assert_eq!((received.text().as_str(), received.end), ("", End::Fin));
        let held = begin.elapsed();
        assert!(held > HEAD_DEADLINE - millis(500), "closed after {held:?}");
        assert!(held < HEAD_DEADLINE + secs(3), "closed after {held:?}");
    }
    drop(crowd);
    siege.end();
}

#[test]
fn a_client_that_sends_a_byte_a_second_gets_408_after_five_seconds() {
    let siege = Siege::begin(&[]);
    let mut wire = siege.connect();
    let begin = Instant::now();
    for byte in b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".chunks(1) {
        wire.send(byte);
        if wire.wait_readable(secs(1)) {
            break;
        }
    }
    let answered = begin.elapsed();
    let received = wire.receive(PATIENCE);
    assert_eq!(received.end, End::Fin);
    let text = received.text();
    let (_, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    assert!(body.starts_with("Request Timeout: "), "{text:?}");
    assert_eq!(text, reply("408 Request Timeout", body));
    assert!((HEAD_DEADLINE - millis(500)..HEAD_DEADLINE + secs(1)).contains(&answered), "after {answered:?}");
    siege.end();
}

#[test]
fn a_body_of_a_terabyte_is_refused_and_not_read() {
    flood_and_expect(
        &[(b"GET / HTTP/1.1\r\nContent-Length: 1000000000000\r\n\r\n", &[b'b'; 65536])],
        &["HTTP/1.1 413 Content Too Large"],
    );
}

#[test]
fn an_endless_chunked_body_is_refused_and_not_read() {
    let chunk = [b"8000\r\n".as_slice(), &[b'c'; 0x8000], b"\r\n"].concat();
    flood_and_expect(
        &[(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", &chunk)],
        &["HTTP/1.1 413 Content Too Large"],
    );
}

#[test]
fn an_endless_head_is_refused_and_not_kept() {
    let headers = b"X-Padding: padding padding padding padding padding padding\r\n".repeat(1000);
    flood_and_expect(
        &[
            (b"GET / HTTP/1.1\r\n", &headers),
            (b"GET / HTTP/1.1\r\nX: ", &[b'x'; 65536]),
            (b"GET /", &[b'a'; 65536]),
        ],
        &["HTTP/1.1 431 Request Header Fields Too Large"],
    );
}

#[test]
fn endless_empty_lines_are_refused_and_not_kept() {
    flood_and_expect(
        &[(b"\r\n", &b"\r\n".repeat(32768)), (b"\n", &[b'\n'; 65536])],
        &["HTTP/1.1 431 Request Header Fields Too Large", "HTTP/1.1 400 Bad Request"],
    );
}

/// Eight clients at once for each kind of flood: the front of it, then the rest again and again. Each has to be
/// able to read the refusal, and the connection has to end.
fn flood_and_expect(floods: &[(&[u8], &[u8])], refusals: &[&str]) {
    let siege = Siege::begin(&[]);
    thread::scope(|scope| {
        for (front, rest) in floods.iter().flat_map(|flood| [flood; 8]) {
            let mut reading = siege.connect();
            let mut writing = reading.second_handle();
            scope.spawn(move || {
                writing.send(front);
                writing.flood(rest, FLOOD, STALL);
            });
            scope.spawn(move || {
                let received = reading.receive(PATIENCE);
                assert_ne!(received.end, End::Open, "the connection ends");
                let line = status_line(&received);
                assert!(refusals.contains(&line.as_str()), "{:?}", received.text());
            });
        }
    });
    siege.end();
}

#[test]
fn a_client_that_pipelines_without_reading_costs_no_memory() {
    let mut siege = Siege::begin(&[]);
    let requests = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    let mut crowd = siege.crowd(8);
    thread::scope(|scope| {
        for wire in &mut crowd {
            let requests = &requests;
            scope.spawn(move || wire.flood(requests, FLOOD, STALL));
        }
    });
    siege.wait_for_checks(10);
    // The clients are still there and would send more: it is the agent that lets go.
    siege.wait_for_footprint();
    drop(crowd);
    siege.finish();
}

#[test]
fn a_client_that_never_reads_and_never_closes_is_let_go() {
    let mut siege = Siege::begin(&[]);
    let mut crowd = siege.crowd(200);
    for (number, wire) in crowd.iter_mut().enumerate() {
        wire.shrink_receive_buffer();
        // The agent may have chosen it to give way to another: then it takes nothing.
        let _ = wire.try_send(if number % 2 == 0 {
            CHECK
        } else {
            "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"
        });
    }
    siege.wait_for_checks(50);
    siege.wait_for_footprint();
    drop(crowd);
    siege.finish();
}

#[test]
fn thousands_of_connections_reset_before_accept_do_no_harm() {
    let siege = Siege::begin(&[]);
    for round in 0..4000 {
        let mut wire = siege.connect();
        match round % 4 {
            0 | 1 => {}
            2 => wire.send("GET / HT"),
            _ => wire.send(CHECK),
        }
        wire.reset();
    }
    siege.end();
}

/// The connections are reset while they wait in the kernel's queue: the agent is stopped meanwhile.
#[test]
fn connections_reset_while_the_agent_was_not_looking_do_no_harm() {
    let siege = Siege::begin(&[]);
    for _ in 0..20 {
        let agent = Frozen::new(siege.agent.pid());
        for mut wire in siege.crowd(50) {
            wire.send(CHECK);
            wire.reset();
        }
        agent.thaw();
        siege.wait_for_checks(2);
    }
    siege.end();
}

#[test]
fn clients_that_leave_while_their_check_runs_do_no_harm() {
    let siege = Siege::begin(&[]);
    for round in 0..500 {
        let mut wire = siege.connect();
        wire.send(CHECK);
        wire.wait_consumed();
        match round % 2 {
            0 => wire.reset(),
            _ => drop(wire),
        }
    }
    siege.end();
}

#[test]
fn random_bytes_are_refused_or_ignored() {
    let siege = Siege::begin(&[]);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        // xorshift64: the same bytes in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let alphabet = b"GET /primary HTTP/1.1\r\n\r\n: Content-Length: Transfer-Encoding: chunked\0\xff\n\n\t?%";
    for round in 0..600 {
        let length = usize::try_from(next() % 300).expect("below 300");
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                let number = next();
                let place = usize::try_from(number >> 32).expect("32 bits") % alphabet.len();
                if round % 2 == 0 { alphabet[place] } else { number.to_le_bytes()[0] }
            })
            .collect();
        let mut wire = siege.connect();
        let _ = wire.try_send(&bytes);
        wire.half_close();
        let received = wire.receive(PATIENCE);
        assert_ne!(received.end, End::Open, "{bytes:?}: the connection ends");
        let refused = status_line(&received).starts_with("HTTP/1.1 4");
        assert!(refused || received.bytes.is_empty(), "{bytes:?} got {:?}", received.text());
    }
    siege.end();
}

/// With few descriptors and a crowd that takes them all the agent neither dies, nor spins, nor fills the log;
/// a check that comes meanwhile waits its turn, and all is well when the crowd has gone.
#[test]
fn running_out_of_descriptors_ends_when_the_clients_go() {
    let primary = Cluster::primary();
    let mut agent = Agent::start(&["--dsn", &primary.dsn()]);
    let before = Footprint::at_rest(&agent);
    let lines = agent.log().lines().count();
    limit_descriptors(&agent, agent.descriptors() as u64 + 8);
    let crowd: Vec<Wire> = (0..100).map(|_| Wire::connect(agent.addr())).collect();

    assert_rests(&agent, crowd.last().expect("a crowd"));

    let mut waiting = Wire::connect(agent.addr());
    waiting.send(CHECK);
    let received = waiting.receive(PATIENCE);
    assert!(is_answer_with_few_descriptors(&received), "{received:?}");

    drop(crowd);
    eventually(secs(3), "service returns", || check(agent.addr()).is_ok());
    for _ in 0..20 {
        check(agent.addr()).expect("a check after the crowd has gone");
    }
    before.wait_for_return(&agent);
    assert!(agent.is_alive());
    let written = agent.log().lines().count() - lines;
    assert!(written <= 4, "a crowd writes no log: {}", agent.log());
}

/// Not a single one left, and nobody who could give way: all it can do is wait, and not in circles.
#[test]
fn an_agent_that_cannot_accept_at_all_rests_and_returns() {
    let primary = Cluster::primary();
    let dsn = primary.dsn();
    let mut agent = Agent::start(&["--dsn", &dsn, "--timeout", "8s", "--knock-interval", "10ms"]);
    let before = Footprint::at_rest(&agent);
    let lines = agent.log().lines().count();
    let postmaster = Frozen::new(primary.postmaster_pid());
    let mut served: Vec<Wire> = (0..4).map(|_| waiting_check(agent.addr())).collect();
    let limit = limit_descriptors(&agent, lowest_free_descriptor(&agent));

    let mut crowd: Vec<Wire> = (0..50).map(|_| Wire::connect(agent.addr())).collect();
    crowd.iter_mut().for_each(|wire| wire.send(CHECK));
    assert_rests(&agent, &crowd[0]);

    limit_descriptors(&agent, limit);
    postmaster.thaw();
    for wire in served.iter_mut().chain(&mut crowd) {
        assert_eq!(wire.receive(PATIENCE).text(), reply("200 Primary", "Primary\n"));
    }
    drop((served, crowd));
    before.wait_for_return(&agent);
    assert!(agent.is_alive());
    let written = agent.log().lines().count() - lines;
    assert!(written <= 4, "a crowd writes no log: {}", agent.log());
}

/// The number the next descriptor would get.
fn lowest_free_descriptor(agent: &Agent) -> u64 {
    let taken = |number: &u64| Path::new(&format!("/proc/{}/fd/{number}", agent.pid())).is_symlink();
    (0..).find(|number| !taken(number)).expect("a number")
}

/// Watches the agent for a second in which `bystander` gets nothing: it may use a tenth of a processor at most.
fn assert_rests(agent: &Agent, bystander: &Wire) {
    let used = processor_time(agent.pid());
    let window = Instant::now();
    bystander.wait_readable(secs(1));
    let used = processor_time(agent.pid()) - used;
    assert!(used < window.elapsed() / 10, "{used:?} of processor time in {:?}", window.elapsed());
}

/// Fewer than it needs for itself, from the beginning: it says so to whoever asks, and to the log.
#[test]
fn an_agent_started_with_too_few_descriptors_answers_and_lives() {
    let primary = Cluster::primary();
    let dsn = primary.dsn();
    let mut agent = Agent::start_under(&["prlimit", "--nofile=24:24"], |command| {
        command.args(["--dsn", &dsn]);
    });
    for _ in 0..20 {
        let crowd: Vec<Wire> = (0..20).map(|_| Wire::connect(agent.addr())).collect();
        drop(crowd);
        let mut wire = Wire::connect(agent.addr());
        wire.send(CHECK);
        let received = wire.receive(PATIENCE);
        assert!(is_answer_with_few_descriptors(&received), "{received:?}");
    }
    assert!(agent.is_alive());
}

/// 200, or the reason why not.
fn is_answer_with_few_descriptors(received: &Received) -> bool {
    let good = reply("200 Primary", "Primary\n");
    let short = reply("503 agent-out-of-resources", "Down: agent-out-of-resources\n");
    [good, short].contains(&received.text())
}

/// Sets the soft limit of a running agent and returns the old one; descriptors above it stay open.
fn limit_descriptors(agent: &Agent, limit: u64) -> u64 {
    let pid = i32::try_from(agent.pid()).ok().and_then(Pid::from_raw);
    let hard = getrlimit(Resource::Nofile).maximum;
    let old =
        prlimit(pid, Resource::Nofile, Rlimit { current: Some(limit), maximum: hard }).expect("prlimit");
    old.current.or(hard).expect("a limit")
}

#[test]
fn over_max_connections_the_oldest_client_still_sending_its_head_gives_way() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn(), "--max-connections", "3"]);
    let mut waiting: Vec<Wire> = (0..3)
        .map(|_| {
            let mut wire = Wire::connect(agent.addr());
            wire.send("GET /liveness HT");
            wire.wait_consumed();
            wire
        })
        .collect();
    check(agent.addr()).expect("a new client is served");
    let oldest = waiting.remove(0).receive(PATIENCE);
    assert_eq!(oldest.text(), "", "who gives way gets nothing");
    assert!(oldest.elapsed < secs(1), "it gave way when the new client came: {:?}", oldest.elapsed);
    for mut wire in waiting {
        assert!(!wire.wait_readable(millis(1)), "only one had to give way");
        wire.send("TP/1.1\r\n\r\n");
        assert_eq!(wire.receive(PATIENCE).text(), reply("200 Alive", "Alive\n"));
    }
}

#[test]
fn over_max_connections_a_new_client_is_closed_when_all_others_wait_for_their_answer() {
    let primary = Cluster::primary();
    let args = ["--max-connections", "2", "--timeout", "4s", "--knock-interval", "10ms"];
    let agent = Agent::start(&[&["--dsn", primary.dsn().as_str()], args.as_slice()].concat());
    check(agent.addr()).expect("a check before the freeze");
    let postmaster = Frozen::new(primary.postmaster_pid());
    let mut waiting = [waiting_check(agent.addr()), waiting_check(agent.addr())];
    let late = Wire::connect(agent.addr()).receive(PATIENCE);
    assert_eq!(late.text(), "");
    assert!(late.elapsed < secs(1), "closed at once, not after {:?}", late.elapsed);

    postmaster.thaw();
    for wire in &mut waiting {
        assert_eq!(wire.receive(PATIENCE).text(), reply("200 Primary", "Primary\n"));
    }
}

/// A connection that was answered and waits for the client's end counts no more than one that still sends its
/// head, or HAProxy's next check would find the door closed.
#[test]
fn with_one_connection_allowed_one_check_after_the_other_is_answered() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn(), "--max-connections", "1"]);
    let mut answered = Vec::new();
    for number in 0..200 {
        check(agent.addr()).unwrap_or_else(|failure| panic!("check {number}: {failure}"));
        // Some clients keep their side open for a while.
        if number % 10 == 0 {
            let mut wire = Wire::connect(agent.addr());
            wire.send("HEAD /liveness HTTP/1.1\r\n\r\n");
            assert_eq!(wire.receive(PATIENCE).text(), head("200 Alive", "Alive\n"));
            answered.push(wire);
        }
    }
}
