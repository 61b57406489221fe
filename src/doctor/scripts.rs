//! The shell script that came before: recognized by what it holds, wherever it lies.

use std::ffi::OsStr;
use std::path::Path;

use super::Finding;
use super::root::{self, Root};

/// Where such scripts were put.
const USUAL: &str = "/usr/local/bin/pgsqlchk";

/// How to move.
pub(super) const MOVING: &str = "docs/moving.md";

/// Whether this is a script that answers checks by itself.
pub(super) fn is_old_script(path: &Path) -> bool {
    root::read(path).is_ok_and(|text| is_script(&text))
}

fn is_script(text: &str) -> bool {
    let answers = ["HTTP/1.1 200", "HTTP/1.1 206", "HTTP/1.0 200", "HTTP/1.0 206"];
    text.starts_with("#!")
        && text.contains("pg_is_in_recovery")
        && answers.iter().any(|answer| text.contains(answer))
}

/// Looks along PATH, and where such scripts usually are.
pub fn look(root: &Root, search_path: Option<&OsStr>) -> Vec<Finding> {
    let folders = search_path.map(std::env::split_paths).into_iter().flatten();
    let found: Vec<_> = folders.map(|folder| folder.join("pgsqlchk")).filter(|path| path.is_file()).collect();
    let first = found.first();
    if let Some(script) = first.filter(|path| is_old_script(path)) {
        let script = script.display();
        return vec![Finding::problem(
            format_args!(
                "old script: {script} comes first in PATH: pgsqlchk starts it instead of this program"
            ),
            format_args!("mv {script} {script}.old; hash -r; type -a pgsqlchk ({MOVING})"),
        )];
    }
    let usual = root.path(USUAL);
    let mut elsewhere: Vec<_> = found.iter().map(|path| path.as_path()).chain([usual.as_path()]).collect();
    elsewhere.dedup();
    match elsewhere.into_iter().find(|path| is_old_script(path)) {
        Some(script) => {
            let script = script.display();
            vec![Finding::warning(
                format_args!("old script: {script} is still there, and another PATH would find it first"),
                format_args!("mv {script} {script}.old; type -a pgsqlchk ({MOVING})"),
            )]
        }
        None => vec![Finding::ok(format_args!("old script: none in PATH"))],
    }
}

#[cfg(test)]
mod tests {
    use super::is_script;

    #[test]
    fn a_script_is_known_by_what_it_does() {
        let script = "#!/bin/bash\nr=$(psql -c 'SELECT pg_is_in_recovery()')\necho -e 'HTTP/1.1 206 OK\\r'\n";
        assert!(is_script(script));
        for other in [
            script.trim_start_matches("#!"),
            "#!/bin/sh\nexec /usr/bin/pgsqlchk \"$@\"\n",
            "#!/bin/sh\n# pg_is_in_recovery\n",
            "\u{7f}ELF pg_is_in_recovery HTTP/1.1 200",
        ] {
            assert!(!is_script(other), "{other}");
        }
    }
}
