//! The clock on an agent's wall. A time namespace has an offset for the monotonic clock alone, so libfaketime stands
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

    /// What is started by this program goes by this clock. Not by the one before it: libfaketime keeps things that only
    /// the user who made them may open.
    pub fn wrapper(&self) -> Vec<String> {
        let (library, file) = (self.library.display(), self.file());
        let (preload, file) =
            (format!("LD_PRELOAD={library}"), format!("FAKETIME_TIMESTAMP_FILE={}", file.display()));
        let rest = ["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"].map(str::to_owned);
        [vec!["env".to_owned(), preload, file], rest.to_vec()].concat()
    }

    fn file(&self) -> PathBuf {
        Path::new(self.folder.path()).join("clock")
    }
}
