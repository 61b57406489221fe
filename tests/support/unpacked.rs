//! Programs that packaging/install-dependencies has unpacked, not installed.

use std::path::{Path, PathBuf};

/// One of them, by its path somewhere in Cargo's target folder.
#[track_caller]
pub fn unpacked(path: &str) -> PathBuf {
    let mut folders = Path::new(env!("CARGO_TARGET_TMPDIR")).ancestors().map(|folder| folder.join(path));
    folders.find(|path| path.is_file()).unwrap_or_else(|| panic!("{path}: run make test, which unpacks it"))
}
