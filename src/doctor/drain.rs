//! The drain file and its folder: as who is asked sees them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use super::Finding;
use crate::system::drain_file;

/// Whether everybody may write, and whether they may then take away each other's files only.
const EVERYBODY_WRITES: u32 = 0o002;
const GROUP_WRITES: u32 = 0o020;

/// Looks at both; blocks for as long as the file system pleases.
pub fn look(file: &Path) -> Vec<Finding> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let mut findings = vec![judge_folder(folder)];
    let shown = file.display();
    findings.push(match drain_file::exists(file) {
        Ok(false) => Finding::ok(format_args!("drain: {shown} is not there: this node does not drain")),
        Ok(true) => {
            let since = fs::symlink_metadata(file).and_then(|metadata| metadata.modified());
            let age = since.ok().and_then(|since| SystemTime::now().duration_since(since).ok());
            let since = age.map_or(String::new(), |age| format!(" for {} min", age.as_secs() / 60));
            Finding::warning(format_args!("drain: this node drains: {shown} is there{since}, and each path about the role is 404 draining"), format_args!("sudo pgsqlchk undrain"))
        }
        Err(error) => {
            let remedy = match error.kind() {
                ErrorKind::PermissionDenied => {
                    format!("chmod o+x {} (and the folders above it: namei -l {shown})", folder.display())
                }
                _ => format!("mend the file system, or name another place: drain-file = /var/lib/pgsqlchk/drain ({shown})"),
            };
            Finding::problem(format_args!("drain: nobody knows whether this node drains, which is 503 drain-unknown: {shown}: {error}"), format_args!("{remedy}"))
        }
    });
    findings
}

fn judge_folder(folder: &Path) -> Finding {
    let shown = folder.display();
    let metadata = match fs::metadata(folder) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Finding::ok(format_args!(
                "drain: {shown} is not there yet: sudo pgsqlchk drain makes it"
            ));
        }
        Err(error) => {
            return Finding::problem(
                format_args!("drain: {shown} cannot be looked at: {error}"),
                format_args!(
                    "let the agent's user through: chmod o+x on each folder of {shown} (namei -l {shown})"
                ),
            );
        }
    };
    if !metadata.is_dir() {
        return Finding::problem(
            format_args!("drain: {shown} is no folder, so that this node can never drain"),
            format_args!(
                "drain-file = /run/pgsqlchk/drain in /etc/pgsqlchk/pgsqlchk.conf, then systemctl restart pgsqlchk"
            ),
        );
    }
    let mode = metadata.mode() & 0o7777;
    if mode & EVERYBODY_WRITES != 0 {
        return Finding::warning(
            format_args!(
                "drain: everybody may write in {shown} (mode {mode:04o}), so that everybody can take this node out"
            ),
            format_args!("chmod o-w {shown}"),
        );
    }
    let writers = match mode & GROUP_WRITES {
        0 => format!("user {}", metadata.uid()),
        _ => format!("user {} and group {}", metadata.uid(), metadata.gid()),
    };
    Finding::ok(format_args!("drain: {shown} (mode {mode:04o}) may be written by {writers} and root"))
}
