//! One of several instances on this host (`--instance NAME`): its name chooses the configuration file and where its
//! drain file is looked for.

use std::path::PathBuf;

use crate::spelling::quote;

/// The longest name, in bytes; it is part of file names, of a unit's name and of lines in the journal.
const MAX_BYTES: usize = 64;

/// Where the files of an instance are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Files {
    /// Its configuration file, which has to be there.
    pub(super) config: String,
    /// Its drain file, as long as nothing else is said.
    pub(super) drain: PathBuf,
}

/// The files of the instance of this name. Letters, digits, `_`, `.` and `-` are taken, at most 64 of them; the first is
/// no `.` and no `-`, so that a name is neither a way out of the folder nor an option. An error is one line.
pub(super) fn files(name: &str) -> Result<Files, String> {
    let refuse = |why: &str| Err(format!("--instance {}: {why}", quote(name)));
    let is_taken = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if name.is_empty() || name.len() > MAX_BYTES {
        return refuse("expected a name of 1 to 64 characters (15-main)");
    }
    if !name.bytes().all(is_taken) || name.starts_with(['.', '-']) || name.contains("..") {
        return refuse(
            "a name has letters, digits, \"_\", \".\" and \"-\", and begins with none of the last two (15-main)",
        );
    }
    // Its folder would be the drain file of the agent without a name, which would drain from then on.
    if name == "drain" {
        return refuse("this name is taken: /run/pgsqlchk/drain is a drain file");
    }
    let config = format!("/etc/pgsqlchk/{name}.conf");
    Ok(Files { config, drain: format!("/run/pgsqlchk/{name}/drain").into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_files_in_the_two_folders_and_nowhere_else() {
        for name in ["15-main", "main", "a", "A_b.c-9", &"x".repeat(64)] {
            let config = format!("/etc/pgsqlchk/{name}.conf");
            let drain = format!("/run/pgsqlchk/{name}/drain").into();
            assert_eq!(files(name), Ok(Files { config, drain }));
        }
        let long = "x".repeat(65);
        for name in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "-a",
            "a/b",
            "../a",
            "/a",
            "a b",
            "a\0",
            "a\n",
            "é",
            "a@b",
            "15\\x2dmain",
            "a:b",
            "drain",
            &long,
        ] {
            let error = files(name).unwrap_err();
            assert!(error.starts_with(&format!("--instance {}: ", quote(name))), "{error}");
        }
    }
}
