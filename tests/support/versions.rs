//! Which version a program is, and whether docs/compatibility.md means it.

/// What a program says of its version: the first number in it, and what follows behind its points.
pub fn version_in(text: &str) -> String {
    let begins = |at: &usize| {
        let before = text[..*at].chars().next_back();
        text[*at..].starts_with(|first: char| first.is_ascii_digit())
            && !before.is_some_and(|before| before.is_ascii_alphanumeric() && before != 'v' || before == '.')
    };
    let at =
        text.char_indices().map(|(at, _)| at).find(begins).unwrap_or_else(|| panic!("no version: {text}"));
    let number = text[at..].split(|other: char| !other.is_ascii_digit() && other != '.').next();
    number.expect("a number").trim_end_matches('.').to_owned()
}

/// `15` means 15.3, too, and `3.4+` 3.4 or newer.
pub fn is_meant(listed: &str, ran: &str) -> bool {
    let numbers = |version: &str| -> Vec<u32> {
        version.split('.').map(|part| part.parse().expect("a number")).collect()
    };
    match listed.strip_suffix('+') {
        Some(oldest) => numbers(ran) >= numbers(oldest),
        None => numbers(ran).starts_with(&numbers(listed)),
    }
}
