//! `--mode check`, run once.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::folder::Folder;
use super::process::wait_for_exit;
use super::{agent, secs};

/// How it ended.
#[derive(Debug)]
pub struct OneCheck {
    /// The exit code.
    pub code: i32,
    /// What it printed to stdout, without the final newline.
    pub line: String,
    /// How long it took.
    pub elapsed: Duration,
}

impl OneCheck {
    /// Runs it to its end with an empty configuration and no passfile.
    #[track_caller]
    pub fn run(dsn: &str, arguments: &[&str]) -> OneCheck {
        let home = Folder::new("check");
        let config = home.write("pgsqlchk.conf", "");
        let mut command = agent::command();
        command.env("HOME", home.path()).args(["--mode", "check", "--dsn", dsn, "--config"]).arg(config);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn().expect("run the agent");
        if wait_for_exit(&mut child, secs(10)).is_none() {
            let _ = child.kill();
            panic!("no end within 10 s: {command:?}: {:?}", child.wait_with_output());
        }
        let elapsed = began.elapsed();
        let output = child.wait_with_output().expect("its output");
        let stdout = String::from_utf8(output.stdout).expect("UTF-8");
        let line = stdout.strip_suffix('\n').unwrap_or(&stdout).to_owned();
        OneCheck { code: output.status.code().expect("an exit code"), line, elapsed }
    }

    /// It could not verify the role, for this reason, and says all of these.
    #[track_caller]
    pub fn assert_says(&self, reason: &str, parts: &[&str]) {
        assert_eq!(self.code, 2, "{self:?}");
        assert!(self.line.starts_with(&format!("unavailable ({reason}): ")), "{self:?}");
        for part in parts {
            assert!(self.line.contains(part), "{part}\nis not in\n{}", self.line);
        }
    }
}
