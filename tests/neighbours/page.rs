//! docs/compatibility.md says with which versions this was tried: held against what the tests have run.

use std::process::Command;

use crate::support::haproxy;
use crate::support::pages::{page, table};
use crate::support::postgresql::run;

/// Every software named here has a row in the page's table, and its version begins as one of the row's.
#[track_caller]
pub fn assert_tried(ran: &[(&str, &str)]) {
    let rows = table(&page("docs/compatibility.md"), "| software | versions | what is tried |");
    for (software, version) in ran {
        let row = rows.iter().find(|row| row[0] == *software);
        let row = row.unwrap_or_else(|| panic!("no row for {software} in docs/compatibility.md"));
        let is_it = |listed: &str| *version == listed || version.starts_with(&format!("{listed}."));
        assert!(row[1].split(", ").any(is_it), "docs/compatibility.md says {row:?}, and this was {version}");
    }
}

/// HAProxy's version, as it says it: `HAProxy version 2.6.12-1+deb12u4 2026/...`.
pub fn haproxy_version() -> String {
    let text = run(Command::new(haproxy::program()).arg("-v"));
    let word = text.split_whitespace().nth(2).expect("HAProxy version N");
    word.split('-').next().expect("a number").to_owned()
}
