//! The pages among themselves: every link leads somewhere, none is too long to be read, each begins with what it answers,
//! and no fact is defined on two of them. What they promise of the program is held against it in `documentation.rs`.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use support::pages::{Page, code, pages, prose, tables};

/// As GitHub makes anchors: small letters, blanks to hyphens, punctuation gone.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    heading.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The anchors of a page's headings; a second heading of the same words would get another one.
fn anchors(page: &Page) -> BTreeSet<String> {
    let headings = prose(&page.text).filter(|line| line.starts_with('#'));
    let mut found = BTreeSet::new();
    for heading in headings {
        let new = found.insert(anchor(heading.trim_start_matches('#').trim()));
        assert!(new, "{}: {heading:?} stands there twice", page.path);
    }
    found
}

/// Where the links of a page point to, those to other sites aside.
fn links(page: &Page) -> Vec<&str> {
    let links = page.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    links.filter(|link| !link.starts_with("https://")).collect()
}

/// A link's path as seen from the repository, without `..`.
fn resolved(from: &str, path: &str) -> PathBuf {
    let folder = Path::new(from).parent().expect("a file's path");
    let mut resolved = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            Component::ParentDir => assert!(resolved.pop(), "{from}: {path} leaves the repository"),
            other => resolved.push(other),
        }
    }
    resolved
}

/// The links that lead nowhere.
fn dead_links(pages: &[Page]) -> Vec<String> {
    let anchors: BTreeMap<&str, _> = pages.iter().map(|page| (page.path.as_str(), anchors(page))).collect();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut dead = Vec::new();
    for page in pages {
        for link in links(page) {
            let (path, anchor) =
                link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
            let target = if path.is_empty() { PathBuf::from(&page.path) } else { resolved(&page.path, path) };
            let is_file = fs::metadata(source.join(&target)).is_ok_and(|file| file.is_file());
            let has_anchor = anchor.is_none_or(|anchor| {
                let known = target.to_str().and_then(|target| anchors.get(target));
                known.is_some_and(|known| known.contains(anchor))
            });
            if !is_file || !has_anchor {
                dead.push(format!("{}: {link}", page.path));
            }
        }
    }
    dead
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let pages = pages();
    let count: usize = pages.iter().map(|page| links(page).len()).sum();
    assert!(count > 50, "{count} links were found");
    assert_eq!(dead_links(&pages), [""; 0]);

    let odd = |text: &str| Page { path: "docs/odd.md".to_owned(), text: text.to_owned() };
    let odd = odd("# Odd\n[b](#none) [c](none.md) [d](../README.md#none) [e](../README.md)");
    let found = dead_links(&[odd]);
    assert_eq!(found, ["docs/odd.md: #none", "docs/odd.md: none.md", "docs/odd.md: ../README.md#none"]);
}

#[test]
fn every_page_is_short_begins_with_what_it_answers_and_is_found_from_the_first() {
    let pages = pages();
    let (readme, others) = pages.split_first().expect("README.md");
    let index = others.iter().find(|page| page.path == "docs/index.md").expect("an index");
    let from_readme: BTreeSet<PathBuf> =
        links(readme).iter().map(|link| link.split('#').next().expect("a path").into()).collect();
    let from_index: BTreeSet<PathBuf> = links(index)
        .iter()
        .map(|link| resolved(&index.path, link.split('#').next().expect("a path")))
        .collect();
    assert!(readme.text.lines().count() <= 200, "README.md");
    for page in others {
        let mut lines = page.text.lines();
        assert!(page.text.lines().count() <= 250, "{}", page.path);
        assert!(lines.next().is_some_and(|line| line.starts_with("# ")), "{}", page.path);
        let first = lines.find(|line| !line.is_empty()).expect("a sentence");
        assert!(
            first.starts_with(char::is_alphabetic),
            "{} begins with what it answers: {first:?}",
            page.path
        );
        if page.path != index.path {
            let path = Path::new(&page.path);
            assert!(from_readme.contains(path) && from_index.contains(path), "{} is not linked", page.path);
        }
    }
}

/// What the first cell of a row defines, by the heading of the first column.
const KINDS: [&str; 7] = ["option", "reason", "metric", "path", "parameter", "field", "exit code"];

/// Facts that are defined more than once: a kind that has two tables, or a name in two rows of its table.
fn defined_twice(pages: &[Page]) -> Vec<String> {
    let mut places: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    for page in pages {
        for table in tables(&page.text) {
            let first = table.heading.first().map_or("", String::as_str);
            let Some(kind) = KINDS.into_iter().find(|kind| *kind == first) else { continue };
            for row in &table.rows {
                let names = code(&row[0]);
                assert!(!names.is_empty() || row[0].len() < 20, "{}: {row:?}", page.path);
                for name in names {
                    // `--mode MODE` and `pgsqlchk_requests_total{path,code}` are defined by their first words.
                    let name = name.split([' ', '{']).next().unwrap_or_default().to_owned();
                    places.entry((kind, name)).or_default().push(&page.path);
                }
            }
        }
    }
    let twice = places.into_iter().filter(|(_, places)| places.len() > 1);
    twice.map(|((kind, name), places)| format!("{kind} {name}: {places:?}")).collect()
}

#[test]
fn no_option_reason_metric_or_path_is_defined_in_two_places() {
    let mut pages = pages();
    assert_eq!(defined_twice(&pages), [""; 0]);
    for kind in KINDS {
        let tables = pages.iter().flat_map(|page| tables(&page.text));
        let count = tables.filter(|table| table.heading.first().is_some_and(|first| first == kind)).count();
        assert_eq!(count, 1, "tables of {kind}s");
    }
    let text = "| option | why |\n|---|---|\n| `--mode MODE` | once more |\n".to_owned();
    pages.push(Page { path: "docs/odd.md".to_owned(), text });
    assert_eq!(defined_twice(&pages), [r#"option --mode: ["docs/configuration.md", "docs/odd.md"]"#]);
}
