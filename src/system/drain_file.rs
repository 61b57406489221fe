//! The drain file: while there is anything of that name, the node drains. What it is and what it holds do not matter.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Of folders made here: whoever runs the agent has to get through, whatever umask the administrator has.
const FOLDER_MODE: u32 = 0o755;
/// Of the file: nobody but its owner may write it, whatever the umask; the agent only asks whether it is there.
const FILE_MODE: u32 = 0o644;

/// Whether there is anything of that name: a file, a folder, a FIFO, a symbolic link to nothing. `Err` where the
/// system would not say. Blocks for as long as the file system pleases.
///
/// A link is not followed: so this, [`create`] and [`remove`] are always about the same thing.
pub fn exists(path: &Path) -> io::Result<bool> {
    fs::symlink_metadata(path).map(|_| true).or_else(|error| absent(error, false))
}

/// Creates the file and, where they are missing, the folders it lies in, for everybody to see. Says whether nothing
/// of that name was there before.
pub fn create(path: &Path) -> io::Result<bool> {
    if let Some(folder) = path.parent() {
        create_folders(folder)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the file; a link, not what it leads to. Says whether it was there.
pub fn remove(path: &Path) -> io::Result<bool> {
    fs::remove_file(path).map(|()| true).or_else(|error| absent(error, false))
}

/// Only folders that were missing get their mode from here.
fn create_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        create_folders(above)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE)),
        // Somebody else was faster, or it is no folder; then opening the file says so.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// That there is no such thing is an answer, too.
fn absent<T>(error: io::Error, answer: T) -> io::Result<T> {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Ok(answer),
        _ => Err(error),
    }
}
