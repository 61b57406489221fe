use super::*;
use std::io::Write;
use std::os::unix::net::UnixStream;

#[test]
fn who_takes_nothing_of_a_reply_gives_way_before_one_that_has_not_asked_yet() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let now = Instant::now();
    let mut client = Client::new(ours.into(), Protocol::Http, now);
    let heading = client.dispensability();
    client.enter(Phase::Asking { is_head: false, has_sent_more: true }, None, now);
    assert_eq!(client.dispensability(), None, "who waits for an answer never gives way");
    // More than any buffer holds.
    assert_eq!(client.reply(vec![b'x'; 16 << 20], now), Next::Wait);
    let stalled = client.dispensability();
    client.enter(Phase::Lingering { discarded: 0 }, None, now);
    let lingering = client.dispensability();
    assert!(lingering.is_some() && lingering < stalled && stalled < heading);
}

#[test]
fn only_who_sent_its_request_and_nothing_else_is_done_with_the_reply() {
    let request = "GET / HTTP/1.1\r\n\r\n";
    let reply = |at_once: &str, later: Option<&str>, length: usize| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let now = Instant::now();
        let mut client = Client::new(ours.into(), Protocol::Http, now);
        theirs.write_all(format!("{request}{at_once}").as_bytes()).unwrap();
        assert!(matches!(client.on_ready(now), Next::Ask(_)));
        if let Some(later) = later {
            theirs.write_all(later.as_bytes()).unwrap();
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(client.on_ready(now), Next::Wait);
            assert_eq!(client.poll_flags(), PollFlags::empty(), "not told twice");
        }
        client.reply(vec![b'x'; length], now)
    };
    assert_eq!(reply("", None, 100), Next::Close);
    assert_eq!(reply("", None, MAX_SHORT_REPLY_BYTES + 1), Next::Wait);
    for (at_once, later) in [("\n", None), (request, None), ("", Some("j")), ("", Some(""))] {
        assert_eq!(reply(at_once, later, 100), Next::Wait, "{at_once:?} and {later:?}");
    }
}
