//! A strict reader of the status page: what it takes, every browser reads the same way.

/// Elements without content.
const VOID: [&str; 2] = ["meta", "link"];

/// The elements in their order, with the names of their attributes: `div class`, `/div`. Panics where a tag is not
/// closed, an attribute has no quotes, or a character of markup stands in text.
pub(crate) fn skeleton(page: &str) -> Vec<String> {
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("it is HTML");
    let (mut tags, mut open) = (Vec::new(), Vec::new());
    while let Some(at) = rest.find('<') {
        assert_text(&rest[..at]);
        let end = rest[at..].find('>').expect("a tag ends") + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "elements are nested");
            tags.push(tag.to_owned());
            continue;
        }
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let (name, attributes, is_closed) = match (name.strip_suffix('/'), attributes.strip_suffix('/')) {
            (Some(name), _) => (name, attributes, true),
            (None, Some(attributes)) => (name, attributes, true),
            (None, None) => (name, attributes, VOID.contains(&name)),
        };
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric()), "<{tag}>");
        tags.push(format!("{name} {}", attribute_names(attributes)));
        if !is_closed {
            open.push(name);
        }
        if name == "style" {
            let end = rest.find("</style>").expect("the style sheet ends");
            rest = &rest[end..];
        }
    }
    assert_text(rest);
    assert!(open.is_empty(), "not closed: {open:?}");
    tags
}

fn attribute_names(mut attributes: &str) -> String {
    let mut names = String::new();
    while let Some((name, after)) = attributes.trim_start().split_once("=\"") {
        assert!(name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-'), "{attributes:?}");
        let (value, after) = after.split_once('"').expect("the closing quote");
        assert_text(value);
        names.push_str(name);
        names.push(' ');
        attributes = after;
    }
    assert_eq!(attributes.trim(), "", "attributes have values in quotes");
    names
}

/// Every `&` begins one of the five references that are used.
fn assert_text(text: &str) {
    assert!(!text.contains(['<', '>']), "{text:?}");
    for (at, _) in text.match_indices('&') {
        let references = ["amp;", "lt;", "gt;", "quot;", "#39;"];
        assert!(references.iter().any(|reference| text[at + 1..].starts_with(reference)), "{text:?}");
    }
}
