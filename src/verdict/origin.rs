//! The form of a request target in which it is read: `/path?query` (RFC 9112, 3.2.1). Pure.

use std::borrow::Cow;

/// Turns the absolute form into the origin form; the authority is ours, whatever name it was given, however long. Slashes
/// at the end of a path do not count, nor more of them than one in a row, as with Patroni. What is neither stays as it is.
pub fn origin_form(request_target: &str) -> Cow<'_, str> {
    let Some(rest) = strip_scheme(request_target) else { return without_spare_slashes(request_target) };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match path.as_bytes().first() {
        _ if authority.is_empty() => request_target.into(),
        None => "/".into(),
        Some(b'/') => without_spare_slashes(path),
        Some(b'?') => format!("/{path}").into(),
        Some(_) => request_target.into(),
    }
}

fn without_spare_slashes(origin: &str) -> Cow<'_, str> {
    let (path, query) = origin.split_at(origin.find('?').unwrap_or(origin.len()));
    let has_spare = path.contains("//") || path.len() > 1 && path.ends_with('/');
    if !path.starts_with('/') || !has_spare {
        return origin.into();
    }
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    format!("/{}{query}", segments.join("/")).into()
}

/// What comes after `http://`, if the target begins with that.
pub(super) fn strip_scheme(request_target: &str) -> Option<&str> {
    let (scheme, rest) = request_target.split_at_checked("http://".len())?;
    scheme.eq_ignore_ascii_case("http://").then_some(rest)
}
