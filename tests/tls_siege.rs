//! The attacks of `hostile.rs` and `siege.rs` on a port of HTTPS, and those that only such a port knows: handshakes that come
//! to no end, records in pieces, floods of handshakes. The bounds are the same, and 64 KiB for each client.

mod support;

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use pgsqlchk::tls::{files, provider::provider};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use support::certificates::Wish;
use support::https::{Talk, Trust, exchange, hello, rest, talk, tls_addr};
use support::siege::Siege;
use support::wire::{End, PATIENCE, Wire, reply};
use support::{Agent, secs};

/// What a client may cost more than one that speaks no TLS.
const KIB_FOR_EACH: u64 = 64;

/// The attacker's number of connections.
const CROWD: usize = 2000;

/// What a flood sends at most.
const FLOOD: usize = 16 << 20;

const CHECK: &[u8] = b"OPTIONS / HTTP/1.0\r\n\r\n";

/// An agent under attack on its port of HTTPS; beside the attackers HAProxy and another client check the plain one.
struct Field {
    siege: Siege,
    address: SocketAddr,
    config: Arc<ClientConfig>,
    _trust: Trust,
}

impl Field {
    #[track_caller]
    fn open(args: &[&str]) -> Field {
        let trust = Trust::new();
        let options = trust.options();
        Field::with(trust, &options, args)
    }

    #[track_caller]
    fn mutual(args: &[&str]) -> Field {
        let trust = Trust::new();
        let options = trust.mutual();
        Field::with(trust, &options, args)
    }

    fn with(trust: Trust, options: &[String], args: &[&str]) -> Field {
        let options: Vec<&str> = options.iter().map(String::as_str).chain(args.iter().copied()).collect();
        let siege = Siege::begin_with_room(&options, KIB_FOR_EACH);
        let (address, config) = (tls_addr(&siege.agent), trust.client_config());
        Field { siege, address, config, _trust: trust }
    }

    /// A connection without a word of TLS so far.
    fn connect(&self) -> Wire {
        Wire::connect(self.address)
    }

    /// A connection that has shaken hands.
    #[track_caller]
    fn shake_hands(&self) -> Talk {
        let mut talk = talk(&self.config, self.address).expect("connect");
        while talk.conn.is_handshaking() {
            talk.conn.complete_io(&mut talk.sock).expect("shake hands");
        }
        talk
    }
}

/// Without tickets: each handshake is a whole one.
fn whole(config: &Arc<ClientConfig>) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(config);
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

#[test]
fn two_thousand_handshakes_that_never_end() {
    let field = Field::open(&[]);
    let hello = hello(&field.config);
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        let mut wire = field.connect();
        // All of it, a part of it, the first byte.
        let length = [hello.len(), hello.len() / 2, 5, 1][number % 4];
        let _ = wire.try_send(&hello[..length]);
        crowd.push(wire);
    }
    field.siege.wait_for_checks(50);
    drop(crowd);
    field.siege.end();
}

/// With room for all of them each holds its place for as long as a head may take, and gets nothing in plain.
#[test]
fn a_handshake_that_never_ends_is_closed_after_the_time_for_a_head() {
    let field = Field::open(&["--max-connections", "1000"]);
    let hello = hello(&field.config);
    let mut crowd: Vec<(Wire, Instant)> = (0..500)
        .map(|_| {
            let (mut wire, begin) = (field.connect(), Instant::now());
            wire.send(&hello);
            (wire, begin)
        })
        .collect();
    field.siege.wait_for_checks(10);
    for (wire, begin) in &mut crowd {
        let received = wire.receive(PATIENCE);
        assert!(received.bytes.first() == Some(&22) && received.end == End::Fin, "{received:?}");
        assert!((secs(4)..secs(8)).contains(&begin.elapsed()), "closed after {:?}", begin.elapsed());
    }
    drop(crowd);
    // One that has shaken hands and says nothing, or half of what it wants, is treated as in plain.
    let (mut silent, mut half) = (field.shake_hands(), field.shake_hands());
    half.write_all(b"GET / HTTP").expect("send");
    assert_eq!(rest(&mut silent), "");
    assert!(rest(&mut half).starts_with("HTTP/1.1 408 Request Timeout\r\n"));
    field.siege.end();
}

/// A handshake byte by byte, and a head with a record for each byte.
#[test]
fn records_that_drip() {
    let field = Field::open(&[]);
    let hello = hello(&field.config);
    let mut crowd: Vec<Wire> = (0..100).map(|_| field.connect()).collect();
    for byte in hello.chunks(1).take(100) {
        crowd.iter_mut().for_each(|wire| drop(wire.try_send(byte)));
    }
    field.siege.wait_for_checks(20);
    drop(crowd);
    let mut talk = field.shake_hands();
    for byte in CHECK.chunks(1) {
        talk.write_all(byte).expect("send");
        talk.flush().expect("send");
    }
    assert_eq!(rest(&mut talk), reply("200 Primary", "Primary\n"));
    // 8 KiB of a head in such records are ten times as many bytes.
    let mut talk = field.shake_hands();
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(7000));
    let is_cut_off = long.as_bytes().chunks(1).any(|byte| talk.write_all(byte).is_err());
    assert!(is_cut_off || rest(&mut talk).is_empty());
    field.siege.end();
}

/// Each ends with an alert and the end of the connection, however much follows.
#[test]
fn junk_in_place_of_records() {
    let field = Field::open(&[]);
    let hello = hello(&field.config);
    let record =
        |kind: u8, length: u16, rest: &[u8]| [&[kind, 3, 3][..], &length.to_be_bytes(), rest].concat();
    let endless = [b'x'; 65536];
    let junk: Vec<Vec<u8>> = vec![
        endless.to_vec(),
        record(22, 0xffff, &endless),
        record(22, 0, b""),
        record(22, 4, b"\x01\xff\xff\xff"),
        // A hello of 16 MB, in records of the largest size.
        [record(22, 0x4000, b"\x01\xff\xff\xff"), vec![0; 0x3ffc], record(22, 0x4000, &[0; 0x4000])].concat(),
        record(21, 2, b"\x02\x28"),
        record(20, 1, b"\x01").repeat(1000),
        record(23, 0x4000, &[0; 0x4000]),
        record(24, 3, b"\x01\x40\x00"),
        // SSLv2 and an early version.
        b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10".repeat(10),
        b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec(),
    ];
    thread::scope(|scope| {
        for (ahead, junk) in
            [&b""[..], &hello].into_iter().flat_map(|ahead| junk.iter().map(move |junk| (ahead, junk)))
        {
            let (mut reading, shown) = (field.connect(), junk[..junk.len().min(16)].escape_ascii());
            let mut writing = reading.second_handle();
            scope.spawn(move || {
                let _ = writing.try_send(ahead);
                writing.flood(junk, FLOOD.min(junk.len() * 100), secs(1));
            });
            scope.spawn(move || {
                let received = reading.receive(PATIENCE);
                assert_ne!(received.end, End::Open, "{shown}");
                assert!(!received.text().contains("HTTP/1.1 200"), "{shown}: {received:?}");
            });
        }
    });
    field.siege.end();
}

#[test]
fn what_is_no_tls_at_all() {
    let field = Field::open(&[]);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..600 {
        let bytes: Vec<u8> = (0..round % 300)
            .map(|_| {
                // xorshift64: the same bytes in every run.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[0]
            })
            .collect();
        let mut wire = field.connect();
        let _ = wire.try_send(&bytes);
        wire.half_close();
        let received = wire.receive(PATIENCE);
        assert_ne!(received.end, End::Open, "{bytes:?}: the connection ends");
        let text = received.text();
        let is_alert = received.bytes.first().is_none_or(|first| *first == 21);
        assert!(is_alert || text.starts_with("HTTP/1.1 400 "), "{bytes:?} got {text:?}");
    }
    field.siege.end();
}

/// More than there are places, each with a whole handshake: the processor's time is what they want.
#[test]
fn a_flood_of_whole_handshakes() {
    let field = Field::open(&[]);
    let config = whole(&field.config);
    let end = Instant::now() + secs(5);
    let made: usize = thread::scope(|scope| {
        let flooders: Vec<_> = (0..8)
            .map(|number| {
                let (config, address) = (&config, field.address);
                scope.spawn(move || {
                    let mut made = 0;
                    while Instant::now() < end {
                        let Ok(mut talk) = talk(config, address) else { continue };
                        let request: &[u8] =
                            if number % 2 == 0 { CHECK } else { b"GET /metrics HTTP/1.1\r\n\r\n" };
                        made += usize::from(talk.write_all(request).is_ok() && !rest(&mut talk).is_empty());
                    }
                    made
                })
            })
            .collect();
        flooders.into_iter().map(|flooder| flooder.join().expect("a flooder")).sum()
    });
    assert!(made > 100, "{made} handshakes");
    field.siege.end();
}

/// Hellos are cheap for those who send them, and with such a key each costs the agent milliseconds.
#[test]
fn a_flood_of_hellos_whose_answers_nobody_reads() {
    let mut trust = Trust::new();
    trust.server = trust.servers.issue_with(Wish::local("node1"), &["-newkey", "rsa:4096"]);
    let options = trust.options();
    let field = Field::with(trust, &options, &[]);
    let hello = hello(&field.config);
    let end = Instant::now() + secs(5);
    thread::scope(|scope| {
        for _ in 0..4 {
            let (hello, address) = (&hello, field.address);
            scope.spawn(move || {
                let mut crowd = std::collections::VecDeque::new();
                while Instant::now() < end {
                    let Ok(mut wire) = Wire::try_connect(address) else { continue };
                    let _ = wire.try_send(hello);
                    crowd.push_back(wire);
                    if crowd.len() > 100 {
                        crowd.pop_front().expect("the oldest").reset();
                    }
                }
            });
        }
    });
    field.siege.end();
}

#[test]
fn heads_and_bodies_without_an_end() {
    let field = Field::open(&[]);
    let header = b"X-Padding: padding padding padding padding padding padding\r\n".repeat(1000);
    let chunk = [b"8000\r\n".as_slice(), &[b'c'; 0x8000], b"\r\n"].concat();
    let floods: [(&[u8], &[u8], &str); 5] = [
        (b"GET / HTTP/1.1\r\n", &header, "HTTP/1.1 431 "),
        (b"GET /", &[b'a'; 65536], "HTTP/1.1 431 "),
        (b"\r\n", &[b'\n'; 65536], "HTTP/1.1 4"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", &chunk, "HTTP/1.1 413 "),
        (b"GET / HTTP/1.1\r\nContent-Length: 1000000000000\r\n\r\n", &[b'b'; 65536], "HTTP/1.1 413 "),
    ];
    thread::scope(|scope| {
        for (front, more, expected) in floods.into_iter().flat_map(|flood| [flood; 4]) {
            let mut talk = field.shake_hands();
            scope.spawn(move || {
                talk.write_all(front).expect("send");
                // As much as one that is cut off afterwards takes, and no more than the socket's buffers hold.
                for _ in 0..4 {
                    let _ = talk.write_all(more);
                }
                let text = rest(&mut talk);
                assert!(text.starts_with(expected), "{text:?}");
            });
        }
    });
    field.siege.end();
}

/// The longest replies there are, to clients that take nothing of them.
#[test]
fn documents_that_are_asked_for_and_never_read() {
    let mut field = Field::open(&[]);
    let mut crowd = Vec::new();
    for number in 0..400 {
        let mut talk = talk(&field.config, field.address).expect("connect");
        rustix::net::sockopt::set_socket_recv_buffer_size(&talk.sock, 1).expect("SO_RCVBUF");
        let asked =
            [&b"GET /metrics HTTP/1.1\r\n\r\n"[..], b"GET /status HTTP/1.1\r\nAccept: text/html\r\n\r\n"];
        // The handshake needs what it reads; the reply stays where it is.
        let _ = talk.write_all(&asked[number % 2].repeat(20));
        crowd.push(talk);
    }
    field.siege.wait_for_checks(50);
    field.siege.wait_for_footprint();
    drop(crowd);
    field.siege.finish();
}

#[test]
fn clients_that_leave_anywhere_do_no_harm() {
    let field = Field::open(&[]);
    let hello = hello(&field.config);
    for round in 0..200 {
        match round % 5 {
            0 => {
                let mut wire = field.connect();
                let _ = wire.try_send(&hello);
                wire.reset();
            }
            1 => {
                let mut wire = field.connect();
                wire.send(&hello);
                wire.half_close();
                assert_eq!(wire.receive(PATIENCE).end, End::Fin);
            }
            2 => drop(field.shake_hands()),
            3 => {
                let mut talk = field.shake_hands();
                talk.write_all(CHECK).expect("send");
                drop(talk);
            }
            // Having said that nothing more comes, it waits for its answer.
            _ => {
                let mut talk = field.shake_hands();
                talk.write_all(CHECK).expect("send");
                talk.conn.send_close_notify();
                while talk.conn.wants_write() {
                    talk.conn.write_tls(&mut talk.sock).expect("send");
                }
                talk.sock.shutdown(Shutdown::Write).expect("shut down");
                assert_eq!(rest(&mut talk), reply("200 Primary", "Primary\n"));
            }
        }
    }
    field.siege.end();
}

/// The end of each reply is said in TLS, and no reset comes before the client has it.
#[test]
fn whole_replies_whoever_else_is_there() {
    let field = Field::open(&["--max-connections", "1000"]);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    for (request, last) in [
                        (&b"GET / HTTP/1.1\r\n\r\n"[..], "Primary\n"),
                        (b"GET /metrics HTTP/1.1\r\n\r\n", "\n"),
                        (b"GET /status HTTP/1.1\r\nAccept: text/html\r\n\r\n", "</html>\n"),
                        (b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", "Primary\n"),
                    ] {
                        let text = exchange(&field.config, field.address, request).expect("a whole reply");
                        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with(last), "{text}");
                    }
                }
            });
        }
    });
    field.siege.end();
}

/// A chain of certificates that is longer than all that may come.
fn bloated(trust: &Trust, copies: usize) -> Arc<ClientConfig> {
    let roots = files::authorities(&trust.servers.certificate()).expect("the authority");
    let mut chain = files::certificates(&trust.client.certificate).expect("a certificate");
    let one = chain[0].clone();
    chain.extend(std::iter::repeat_n(one, copies));
    let key = files::key(&trust.client.key).expect("a key");
    let pair = CertifiedKey::from_der(chain, key, &provider()).expect("a pair");
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_root_certificates(roots);
    Arc::new(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair))))
}

#[test]
fn chains_of_certificates_without_an_end() {
    let field = Field::mutual(&["--max-connections", "500"]);
    for copies in [0, 8] {
        let config = bloated(&field._trust, copies);
        let text = exchange(&config, field.address, CHECK).expect("a reply");
        assert_eq!(text, reply("200 Primary", "Primary\n"), "{copies} more certificates");
    }
    let config = bloated(&field._trust, 110);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let text = exchange(&config, field.address, CHECK);
                    assert!(text.is_err(), "{text:?}");
                }
            });
        }
    });
    field.siege.end();
}

/// What the agent holds for so many clients that are all at the point where each is most expensive.
#[test]
fn a_client_costs_64_kib_more_than_in_plain_at_most() {
    const CLIENTS: usize = 400;
    let trust = Trust::new();
    let cost =
        |what: &str, options: &[String], bring: &dyn Fn(&Agent, SocketAddr) -> Box<dyn std::any::Any>| {
            let agent = Trust::agent(options, &["--max-connections", "1000"]);
            let address = tls_addr(&agent);
            exchange(&trust.client_config(), address, CHECK).ok();
            let before = agent.rss_kib();
            let held: Vec<_> = (0..CLIENTS).map(|_| bring(&agent, address)).collect();
            let after = agent.peak_rss_kib();
            drop(held);
            let each = after.saturating_sub(before) * 1024 / CLIENTS as u64;
            (what.to_owned(), each)
        };
    let config = trust.client_config();
    let head = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(8000));
    let (_, plain) = cost("plain, half a head", &trust.options(), &|agent, _| {
        let mut wire = Wire::connect(agent.addr());
        wire.send(&head);
        wire.wait_consumed();
        Box::new(wire)
    });
    let hello = hello(&config);
    let mut costs = Vec::new();
    costs.push(cost("a hello", &trust.options(), &|_, address| {
        let mut wire = Wire::connect(address);
        wire.send(&hello);
        wire.wait_consumed();
        Box::new(wire)
    }));
    costs.push(cost("half a head", &trust.options(), &|_, address| {
        let mut talk = talk(&config, address).expect("connect");
        talk.write_all(head.as_bytes()).expect("send");
        Box::new(talk)
    }));
    let bloated = bloated(&trust, 40);
    costs.push(cost("a long chain and half a head", &trust.mutual(), &|_, address| {
        let mut talk = talk(&bloated, address).expect("connect");
        let _ = talk.write_all(head.as_bytes());
        Box::new(talk)
    }));
    // A message over several records, none of which is the last.
    let endless =
        [&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &[0; 0x3ffc], &[22, 3, 1, 0x40, 0], &[0; 0x3f00]]
            .concat();
    costs.push(cost("a hello that does not end", &trust.options(), &|_, address| {
        let mut wire = Wire::connect(address);
        wire.send(&endless);
        wire.wait_consumed();
        Box::new(wire)
    }));
    for (what, each) in costs {
        assert!(each <= plain + KIB_FOR_EACH * 1024, "{what}: {each} bytes each, in plain {plain}");
    }
}
