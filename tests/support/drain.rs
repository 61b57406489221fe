//! A drain file of a test's own, and the program as its switch.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::folder::Folder;
use super::{Agent, agent, postgresql};

/// A drain file in a folder of its own, which is not there yet.
pub struct Switch {
    /// The folder.
    pub folder: Folder,
}

impl Switch {
    /// Without the file.
    pub fn new() -> Switch {
        Switch { folder: Folder::new("drain") }
    }

    /// Where the file would be.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("drain")
    }

    /// The same, for an option.
    pub fn text(&self) -> String {
        self.path().display().to_string()
    }

    /// Makes the file.
    pub fn on(&self) {
        self.folder.write("drain", "");
    }

    /// Removes it.
    pub fn off(&self) {
        fs::remove_file(self.path()).expect("remove the drain file");
    }

    /// An agent that looks for it.
    pub fn agent(&self, dsn: &str) -> Agent {
        Agent::start(&["--dsn", dsn, "--drain-file", &self.text(), "--timeout=1s", "--knock-interval=100ms"])
    }
}

/// Exit code, stdout and stderr.
pub type Outcome = (i32, String, String);

/// The program to its end.
pub fn run(arguments: &[&str]) -> Outcome {
    run_under(&[], arguments)
}

/// The same under another program; with an empty configuration file unless the arguments name one.
#[track_caller]
pub fn run_under(wrapper: &[&str], arguments: &[&str]) -> Outcome {
    let command = agent::command();
    let program = command.get_program().to_str().expect("a path");
    let words: Vec<&str> = wrapper.iter().copied().chain([program]).collect();
    let mut command = Command::new(words[0]);
    postgresql::without_pg_variables(&mut command);
    command.args(&words[1..]).args(arguments).stdin(Stdio::null());
    if !arguments.contains(&"--config") {
        command.args(["--config", "/dev/null"]);
    }
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

/// `--mode drain` or `--mode undrain` of this file.
pub fn switch_with(mode: &str, path: &Path) -> Outcome {
    run(&["--mode", mode, "--drain-file", path.to_str().expect("a path")])
}

/// Root gets through every folder, so it has to give that up.
pub fn without_privileges() -> &'static [&'static str] {
    match rustix::process::geteuid().is_root() {
        true => &["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
        false => &[],
    }
}

/// Gives the folder these permissions.
pub fn chmod(folder: &Folder, mode: u32) {
    fs::set_permissions(folder.path(), Permissions::from_mode(mode)).expect("chmod");
}
