//! docs/compatibility.md says with which versions this was tried: held against what the tests have run.

use std::process::Command;

use crate::support::haproxy;
use crate::support::pages::{page, table};
use crate::support::postgresql::run;
use crate::support::versions::{is_meant, version_in};

/// Every software named here has a row in the page's table, and its version begins as one of the row's.
#[track_caller]
pub fn assert_tried(ran: &[(&str, &str)]) {
    let rows = table(&page("docs/compatibility.md"), "| software | versions | what is tried |");
    for (software, version) in ran {
        let row = rows.iter().find(|row| row[0] == *software);
        let row = row.unwrap_or_else(|| panic!("no row for {software} in docs/compatibility.md"));
        let is_tried = row[1].split(", ").any(|listed| is_meant(listed, version));
        assert!(is_tried, "docs/compatibility.md says {row:?}, and this was {version}");
    }
}

/// HAProxy's version.
pub fn haproxy_version() -> String {
    version_in(&run(Command::new(haproxy::program()).arg("-v")))
}
