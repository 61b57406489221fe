//! What packaging/install-dependencies has unpacked or fetched, and not installed.

use std::path::{Path, PathBuf};

/// A file or folder of that, by its path somewhere in Cargo's target folder.
#[track_caller]
pub fn unpacked(path: &str) -> PathBuf {
    let mut folders = Path::new(env!("CARGO_TARGET_TMPDIR")).ancestors().map(|folder| folder.join(path));
    folders.find(|path| path.exists()).unwrap_or_else(|| panic!("{path}: run make test, which puts it there"))
}
