//! The documents: `README.md` and the pages in `docs/`.

use std::fs;
use std::path::Path;

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// A document.
pub struct Page {
    /// Its path in the repository, for example `docs/answers.md`.
    pub path: String,
    pub text: String,
}

/// The text of one page by its path in the repository.
pub fn page(path: &str) -> String {
    fs::read_to_string(Path::new(SOURCE).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All of them, `README.md` first.
pub fn pages() -> Vec<Page> {
    let entries = fs::read_dir(Path::new(SOURCE).join("docs")).expect("docs/");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    let mut paths: Vec<String> = names.map(|name| format!("docs/{name}")).collect();
    paths.sort();
    paths.insert(0, "README.md".to_owned());
    paths.into_iter().map(|path| Page { text: page(&path), path }).collect()
}

/// A table: the cells of its heading and of its rows, trimmed.
pub struct Table {
    pub heading: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

fn cells(line: &str) -> Vec<String> {
    // A `\|` is a bar inside a cell.
    let line = line.trim().trim_matches('|').replace("\\|", "\u{0}");
    line.split('|').map(|cell| cell.replace('\u{0}', "|").trim().to_owned()).collect()
}

/// Every table of a page, in order.
pub fn tables(text: &str) -> Vec<Table> {
    let lines: Vec<&str> = prose(text).collect();
    let is_row = |line: &&str| line.trim_start().starts_with('|');
    let parts = lines.split(|line| !is_row(line)).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let heading = cells(part[0]);
            let rows: Vec<_> = part.iter().skip(2).map(|line| cells(line)).collect();
            assert!(!rows.is_empty(), "the table {heading:?} is empty");
            for row in &rows {
                assert_eq!(row.len(), heading.len(), "a row of the table {heading:?}: {row:?}");
            }
            Table { heading, rows }
        })
        .collect()
}

/// The rows of the table with this heading.
pub fn table(text: &str, heading: &str) -> Vec<Vec<String>> {
    let wanted = cells(heading);
    let mut found = tables(text).into_iter().filter(|table| table.heading == wanted);
    let rows = found.next().unwrap_or_else(|| panic!("there is no table {heading}")).rows;
    assert!(found.next().is_none(), "the table {heading} stands there twice");
    rows
}

/// The parts of a cell that are in backticks.
pub fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The lines that are not inside a fenced block.
pub fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_inside = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_inside ^= is_fence;
        !is_inside && !is_fence
    })
}

/// The fenced blocks of a language, in order.
pub fn fenced(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let blocks = text.split(fence.as_str()).skip(1);
    blocks.map(|rest| rest.split_once("```").expect("a closing fence").0.to_owned()).collect()
}
