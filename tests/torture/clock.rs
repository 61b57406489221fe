//! The clock on the wall of one node. A time namespace has an offset for the monotonic clock alone, so libfaketime stands
//! before the C library and shifts the other one; it reaches programs that are linked dynamically.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::folder::Folder;

/// Can be told to jump.
pub struct Clock {
    folder: Folder,
    library: PathBuf,
}

impl Clock {
    /// Right for now.
    pub fn new() -> Clock {
        let folders = fs::read_dir("/usr/lib").expect("read /usr/lib").flatten();
        let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
        let library = libraries.find(|path| path.is_file()).expect("libfaketime; run make torture");
        let clock = Clock { folder: Folder::new("clock"), library };
        clock.step(0);
        clock
    }

    /// From now on it is this many seconds ahead.
    pub fn step(&self, seconds: i32) {
        // Renamed, for a file that is only half written would be another time.
        let new = self.folder.write("new", &format!("{seconds:+}"));
        fs::rename(new, self.file()).expect("set the clock");
    }

    /// What is started with this environment goes by this clock. Whoever gives it to a program that becomes another
    /// user first, gets nowhere: libfaketime keeps things that only the user who made them may open.
    pub fn environment(&self) -> Vec<(String, String)> {
        let (library, file) = (self.library.display().to_string(), self.file().display().to_string());
        let variables = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    fn file(&self) -> PathBuf {
        Path::new(self.folder.path()).join("clock")
    }
}
