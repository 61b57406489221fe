//! A strict reader of what goes onto the wire.

/// Holds a reply against its form, byte by byte, and gives its status and its body without the last line feed.
pub(crate) fn read_reply(bytes: &[u8]) -> (u16, &str) {
    let text = std::str::from_utf8(bytes).expect("a reply is UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a reply has a head");
    let mut lines = head.split("\r\n");
    let status_line = lines.next().expect("a status line");
    let rest = status_line.strip_prefix("HTTP/1.1 ").expect("it is HTTP");
    let (code, phrase) = rest.split_once(' ').expect("a code and a phrase");
    assert!(phrase.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{status_line:?}");
    let status = code.parse().expect("a code");
    let fields: Vec<_> = lines.map(|line| line.split_once(": ").expect("a field")).collect();
    let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    let expected: &[&str] = match status {
        405 => &["Content-Type", "Content-Length", "Cache-Control", "Allow", "Connection"],
        _ => &["Content-Type", "Content-Length", "Cache-Control", "Connection"],
    };
    assert_eq!(names, expected);
    assert!(
        fields.iter().all(|(_, value)| value.bytes().all(|byte| (0x20..0x7f).contains(&byte))),
        "{head:?}"
    );
    assert_eq!(fields[1].1, body.len().to_string(), "the length is exact");
    (status, body.strip_suffix('\n').expect("the body ends with a line feed"))
}

/// The same of one whose body is one line.
pub(crate) fn read_line_reply(bytes: &[u8]) -> (u16, &str) {
    let (status, body) = read_reply(bytes);
    assert_one_line(body);
    (status, body)
}

/// One line that a terminal, a log and HAProxy's stats page can show.
pub(crate) fn assert_one_line(text: &str) {
    assert!(!text.is_empty() && !text.contains(char::is_control), "not one line: {text:?}");
}
