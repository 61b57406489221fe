//! A strict reader of Prometheus' text format 0.0.4 ("Exposition formats" in its documentation).

use std::collections::BTreeSet;

/// The samples: name with labels, and value. Panics at anything that the format, or good sense, forbids: a family
/// without HELP and TYPE, one that stands in two places, a series given twice, a histogram that does not add up.
pub(crate) fn read(text: &str) -> Vec<(String, f64)> {
    let mut samples: Vec<(String, f64)> = Vec::new();
    let (mut seen, mut families) = (BTreeSet::new(), BTreeSet::new());
    let mut lines = text.split('\n').peekable();
    while let Some(line) = lines.next() {
        let help =
            line.strip_prefix("# HELP ").unwrap_or_else(|| panic!("a family begins with HELP: {line:?}"));
        let (family, help) = help.split_once(' ').expect("a text");
        assert!(is_name(family) && !help.is_empty() && !help.contains('\\'), "{line:?}");
        assert!(families.insert(family.to_owned()), "{family} in two places");
        let kind =
            lines.next().and_then(|line| line.strip_prefix("# TYPE ")?.strip_prefix(family)).expect("a TYPE");
        let kind = kind.trim_start();
        assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
        assert_eq!(kind == "counter", family.ends_with("_total"), "{family}");

        let first = samples.len();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("a number: {line:?}"));
            assert!(value.is_finite() && value >= 0.0, "{line:?}");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            assert_labels(labels);
            let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line:?} among {family}"));
            assert!(
                suffix.is_empty() || kind == "histogram" && ["_bucket", "_sum", "_count"].contains(&suffix)
            );
            assert!(seen.insert(series.to_owned()), "{series} twice");
            samples.push((series.to_owned(), value));
        }
        assert!(samples.len() > first, "{family} has samples");
        if kind == "histogram" {
            assert_histogram(family, &samples[first..]);
        }
    }
    samples
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}

/// `name="value",name="value"}`, or nothing but the brace.
fn assert_labels(labels: &str) {
    let labels = labels.strip_suffix('}').expect("the closing brace");
    let mut names = BTreeSet::new();
    for label in labels.split(',').filter(|label| !label.is_empty()) {
        let (name, value) = label.split_once("=\"").expect("a value in quotes");
        assert!(is_name(name) && !name.contains(':') && names.insert(name), "{labels:?}");
        let value = value.strip_suffix('"').expect("the closing quote");
        assert!(!value.contains(['"', '\\', '\n']), "{labels:?}");
    }
}

fn assert_histogram(family: &str, samples: &[(String, f64)]) {
    let prefix = format!("{family}_bucket{{le=\"");
    let (mut last_bound, mut last_count) = (f64::NEG_INFINITY, 0.0);
    for (series, count) in samples {
        let Some(bound) = series.strip_prefix(&prefix) else { continue };
        let bound: f64 = bound.trim_end_matches("\"}").trim_start_matches('+').parse().expect("a bound");
        assert!(bound > last_bound && *count >= last_count, "{series}");
        (last_bound, last_count) = (bound, *count);
    }
    assert_eq!(last_bound, f64::INFINITY);
    let count = samples.iter().find(|(series, _)| *series == format!("{family}_count"));
    assert_eq!(count.map(|(_, count)| *count), Some(last_count));
}
