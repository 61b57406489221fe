use super::*;

fn status(bytes: &[u8]) -> &'static str {
    match read_head(bytes) {
        Head::Incomplete => "incomplete",
        Head::Complete(_) => "complete",
        Head::Refused(refusal) if refusal.reply == HttpReply::content_too_large() => "413",
        Head::Refused(refusal) if refusal.reply == HttpReply::head_too_large() => "431",
        Head::Refused(_) => "400",
    }
}

#[test]
fn heads_are_told_apart() {
    let table: &[(&[u8], &str)] = &[
        (b"", "incomplete"),
        (b"\r\n\r\n", "incomplete"),
        (b"hello", "incomplete"),
        (b"hello\r\n", "incomplete"),
        (b"hello, World!\n", "incomplete"),
        (b"GET /primary\r\n", "incomplete"),
        (b"hello\r\n\r", "400"),
        (b"hello\0", "400"),
        (b"GET / HTTP/1.1\r\n", "incomplete"),
        (b"GET / HTTP/1.1\r\n\r", "incomplete"),
        (b"GET / HTTP/1.1\r\n\r\n", "complete"),
        (b"OPTIONS / HTTP/1.0\r\n\r\n", "complete"),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", "complete"),
        (b"GET / HTTP/1.0\n\n", "complete"),
        (b"\r\nGET / HTTP/1.1\r\n\r\n", "complete"),
        (b"GET / HTTP/1.1\r\nconnection: close\r\n\r\nGET", "complete"),
        (b"GET / HTTP/1.1\r\nX: \xff\xfe\r\n\r\n", "complete"),
        (b"GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", "complete"),
        (b"GET / HTTP/1.1\r\nContent-Length: 000\r\n\r\n", "complete"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n", "incomplete"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n\0", "complete"),
        (b"GET / HTTP/1.1\r\nContent-Length: 0002\r\n\r\n\r\n", "complete"),
        (b"HEAD / HTTP/1.0\nContent-Length: 3\n\nabcdef", "complete"),
        (b"OPTIONS / HTTP/1.0\r\nContent-Length: 3\r\n\r\nab", "incomplete"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1024\r\n\r\n", "incomplete"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1025\r\n\r\n", "413"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "413"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", "413"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: identity\r\n\r\n", "413"),
        (b"GET / HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", "413"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n", "413"),
        (b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "complete"),
        (b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999999\r\n\r\n", "413"),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "413"),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nA\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nA: \0\r\n\r\n", "400"),
        (b"GET /\r\n\r\n", "400"),
        (b"GET  / HTTP/1.1\r\n\r\n", "400"),
        (b"GET / HTTP/1.1 \r\n\r\n", "400"),
        (b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", "400"),
        (b"G@T / HTTP/1.1\r\n\r\n", "400"),
        (b"GET / HTTP/0.9\r\n\r\n", "400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"),
        (b"\x16\x03\x01\x02\x00", "400"),
    ];
    for (bytes, expected) in table {
        assert_eq!(status(bytes), *expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn no_refusal_of_head_has_a_body() {
    let end = |head: &[u8]| match read_head(head) {
        Head::Refused(refusal) => refusal.to_bytes().ends_with(b"\r\n\r\n"),
        Head::Incomplete | Head::Complete(_) => panic!("{}", head.escape_ascii()),
    };
    let long = [b"HEAD /".as_slice(), &[b'x'; MAX_HEAD_BYTES]].concat();
    for head in [
        b"HEAD / HTTP/1.1\r\nA: \x01".as_slice(),
        b"HEAD / HTTP/1.1\r\nA: b\rc\r\n",
        b"\r\nHEAD /\xe4 HTTP/1.1\r\n\r\n",
        b"HEAD / HTTP/1.2\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nA\r\n\r\n",
        &long,
    ] {
        assert!(end(head), "{}", head.escape_ascii());
    }
    assert!(!end(b"HEADER / HTTP/1.1 \r\n\r\n"));
}

#[test]
fn the_preferred_form_is_read_from_all_accept_fields() {
    for (fields, expected) in [
        ("", Media::Json),
        ("Accept: text/html\r\n", Media::Html),
        ("accept:text/html;q=0.5\r\nX: y\r\nACCEPT: */*;q=0.4\r\n", Media::Html),
        ("Accept: text/html\r\nAccept: application/json\r\n", Media::Json),
        ("X-Accept: text/html\r\n", Media::Json),
    ] {
        let head = format!("GET /status HTTP/1.1\r\n{fields}\r\n");
        let Head::Complete(request) = read_head(head.as_bytes()) else { panic!("{head}") };
        assert_eq!(request.media, expected, "{head}");
    }
}

#[test]
fn how_long_somebody_waits_is_read_strictly_or_not_at_all() {
    for (fields, expected_ms) in [
        ("", None),
        ("Pgsqlchk-Wait-Ms: 200\r\n", Some(200)),
        ("pgsqlchk-wait-ms:1\r\n", Some(1)),
        ("Pgsqlchk-Wait-Ms: 0\r\n", None),
        ("Pgsqlchk-Wait-Ms:\r\n", None),
        ("Pgsqlchk-Wait-Ms: -1\r\n", None),
        ("Pgsqlchk-Wait-Ms: 2s\r\n", None),
        ("Pgsqlchk-Wait-Ms: 99999999999\r\n", None),
        ("Pgsqlchk-Wait-Ms: 200\r\nPgsqlchk-Wait-Ms: 300\r\n", None),
    ] {
        let head = format!("GET /node HTTP/1.1\r\n{fields}\r\n");
        let Head::Complete(request) = read_head(head.as_bytes()) else { panic!("{head}") };
        let expected = expected_ms.map(std::time::Duration::from_millis);
        assert_eq!(request.patience, expected, "{head}");
    }
}

#[test]
fn the_limit_is_exact() {
    let head = |length: usize| {
        let frame = "GET / HTTP/1.1\r\nA: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(length - frame)).into_bytes()
    };
    assert_eq!(status(&head(MAX_HEAD_BYTES)), "complete");
    assert_eq!(status(&head(MAX_HEAD_BYTES + 1)), "431");
    let shortest = [b"GET / HTTP/1.1\n".as_slice(), &b"A:\n".repeat(2725), b"\n"].concat();
    assert_eq!(status(&shortest), "complete");
    assert_eq!(status(&shortest[..shortest.len() - 2]), "incomplete");
    // The longest head and the longest body are limits of their own.
    let announced = |body: usize| {
        let frame = "GET / HTTP/1.1\r\nA: \r\nContent-Length: 1024\r\n\r\n".len();
        let padding = "x".repeat(MAX_HEAD_BYTES - frame);
        let head = format!("GET / HTTP/1.1\r\nA: {padding}\r\nContent-Length: 1024\r\n\r\n");
        [head.into_bytes(), vec![0; body]].concat()
    };
    assert_eq!(status(&announced(MAX_BODY_BYTES - 1)), "incomplete");
    assert_eq!(status(&announced(MAX_BODY_BYTES)), "complete");
}
