//! Which form of a document a client likes better (RFC 9110, 12.5.1). Pure.
//!
//! A browser says `text/html,…,*/*;q=0.8`, curl says `*/*`. What cannot be understood is passed over: nobody is
//! refused for his taste.

use crate::reply::Media;

/// The form for these `Accept` fields, in their order. JSON where both are liked the same, and where neither is: an
/// answer in another form serves better than none.
pub(crate) fn preferred<'a>(fields: impl Iterator<Item = &'a [u8]> + Clone) -> Media {
    let html = quality(fields.clone(), "text", "html");
    let json = quality(fields, "application", "json");
    if html > json { Media::Html } else { Media::Json }
}

/// How much a media type is liked, in thousandths. The most specific range that fits decides.
fn quality<'a>(fields: impl Iterator<Item = &'a [u8]>, kind: &str, subtype: &str) -> u16 {
    let ranges = fields.filter_map(|field| std::str::from_utf8(field).ok());
    let ranges = ranges.flat_map(|field| split_outside_quotes(field, ','));
    let fitting = ranges.filter_map(|range| fit(range, kind, subtype));
    fitting.max_by_key(|(rank, _)| *rank).map_or(0, |(_, quality)| quality)
}

/// Whether a range such as `text/*;q=0.5` fits the media type: how specific it is, and its quality.
fn fit(range: &str, kind: &str, subtype: &str) -> Option<(u8, u16)> {
    let mut parts = split_outside_quotes(range, ';');
    let (range_kind, range_subtype) = parts.next()?.trim().split_once('/')?;
    let mut rank = match (range_kind, range_subtype) {
        ("*", "*") => 0,
        (range_kind, "*") if range_kind.eq_ignore_ascii_case(kind) => 1,
        (range_kind, range_subtype)
            if range_kind.eq_ignore_ascii_case(kind) && range_subtype.eq_ignore_ascii_case(subtype) =>
        {
            2
        }
        _ => return None,
    };
    let mut quality = 1000;
    for parameter in parts.map(str::trim).filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=')?;
        if name.eq_ignore_ascii_case("q") {
            quality = thousandths(value)?;
        } else if name.eq_ignore_ascii_case("charset")
            && value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        {
            rank += 1;
        } else {
            // A variant that we do not have, such as level=1.
            return None;
        }
    }
    Some((rank, quality))
}

/// `0`, `0.5`, `1.000`: RFC 9110, 12.4.2.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if !matches!(whole, "0" | "1")
        || decimals.len() > 3
        || !decimals.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let value = format!("{whole}{decimals:0<3}").parse().ok()?;
    (value <= 1000).then_some(value)
}

fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |character| {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        character == separator && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preferred_of(fields: &[&str]) -> Media {
        preferred(fields.iter().map(|field| field.as_bytes()))
    }

    #[test]
    fn browsers_get_html_and_programs_get_json() {
        let chromium = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,\
                        */*;q=0.8,application/signed-exchange;v=b3;q=0.7";
        let firefox = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for html in [
            &[chromium][..],
            &[firefox],
            &["text/html"],
            &["TEXT/HTML"],
            &["text/*"],
            &["text/html;charset=utf-8"],
            &["text/html; charset=\"UTF-8\" ; q=0.5, application/json;q=0.499"],
            &["application/json;q=0.9", "text/html"],
            &["text/*;q=0.3, */*;q=0.2"],
            &["application/json;q=0, */*;q=0.1"],
            &["application/*;q=0.5, */*"],
            &["image/png;a=\"x,\\\",application/json\", text/html;q=0.1"],
            &["application/json;q=2, text/html;q=0.1"],
        ] {
            assert_eq!(preferred_of(html), Media::Html, "{html:?}");
        }
        for json in [
            &[][..],
            &[""],
            &["*/*"],
            &["application/json"],
            &["application/json, text/html"],
            &["text/html, application/json"],
            &["text/html;q=0.5, */*"],
            &["text/html;q=0, text/*"],
            &["text/html;level=1"],
            &["text/html;q=0.8;level=1, */*;q=0.1"],
            &["application/json, text/*;q=0.999"],
            &["image/png"],
            &["text/html;q=1.001"],
            &["text/html;q=0.1234"],
            &["text/html;q=x"],
            &["text/html;q"],
            &["text"],
            &[",,;"],
        ] {
            assert_eq!(preferred_of(json), Media::Json, "{json:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_passed_over() {
        let fields: [&[u8]; 2] = [b"text/html\xff", b"text/html;q=0.1"];
        assert_eq!(preferred(fields.into_iter()), Media::Html);
    }
}
