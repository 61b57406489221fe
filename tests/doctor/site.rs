//! A healthy node that something can be planted on: a server, its agent, and the system's files in a folder of their own.

use std::any::Any;
use std::fmt;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::support::folder::Folder;
use super::support::postgresql::ServerUser;
use super::support::process::wait_for_exit;
use super::support::{Agent, Cluster, agent, free_port, secs};

/// What doctor said.
#[derive(Debug)]
pub struct Said {
    pub lines: Vec<String>,
    pub stderr: String,
    pub code: i32,
    pub elapsed: Duration,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {} after {:?}\n{}\n{}", self.code, self.elapsed, self.lines.join("\n"), self.stderr)
    }
}

pub struct Site {
    // What was planted goes first: frozen processes are thawed before they are stopped.
    held: Vec<Box<dyn Any>>,
    agent: Option<Agent>,
    pub server: Cluster,
    /// The system's files.
    pub root: Folder,
    /// The configuration file's folder, and HOME.
    pub home: Folder,
    pub port: u16,
    dsn: String,
    lines: Vec<String>,
    /// Of doctor.
    pub environment: Vec<(String, String)>,
}

impl Site {
    pub fn healthy() -> Site {
        Site::beside(Cluster::primary(), free_port(), &[])
    }

    /// With these lines in the configuration file, which the agent has read.
    pub fn beside(server: Cluster, port: u16, lines: &[String]) -> Site {
        let (root, home) = (Folder::new("doctor-root"), Folder::new("doctor-home"));
        let dsn = server.dsn();
        let mut site = Site {
            held: Vec::new(),
            agent: None,
            server,
            root,
            home,
            port,
            dsn,
            lines: lines.to_vec(),
            environment: Vec::new(),
        };
        let user = ServerUser::current().switch();
        let (uid, gid) = user
            .unwrap_or_else(|| (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()));
        let passwd = format!("pgsqlchk:x:{uid}:{gid}::{}:/bin/false\n", site.home.path().display());
        site.plant("etc/passwd", &passwd);
        site.plant("etc/systemd/system/multi-user.target.wants/pgsqlchk.service", "");
        fs::create_dir_all(site.root.path().join("usr/local/bin")).expect("make a folder");
        symlink(agent::program(), site.root.path().join("usr/local/bin/pgsqlchk")).expect("make a link");
        site.write();
        site.start_agent();
        site
    }

    /// Starts the agent with the configuration as it is now.
    #[track_caller]
    pub fn start_agent(&mut self) {
        let config = self.config();
        self.agent = None;
        self.agent = Some(Agent::start_with(|command| {
            // The first --config names an empty file, and may be given only once.
            let mut arguments: Vec<_> = command.get_args().map(|argument| argument.to_owned()).collect();
            arguments.truncate(2);
            let listen = format!("127.0.0.1:{}", self.port);
            let program = command.get_program().to_owned();
            *command = std::process::Command::new(program);
            super::support::postgresql::without_pg_variables(command);
            command.args(arguments).args(["--listen", &listen, "--config"]).arg(config);
            command.env("HOME", self.home.path()).stdin(Stdio::null()).stdout(Stdio::null());
        }));
    }

    pub fn agent(&self) -> &Agent {
        self.agent.as_ref().expect("an agent runs")
    }

    pub fn stop_agent(&mut self) {
        self.agent = None;
    }

    /// Keeps what was planted until the end.
    pub fn hold(&mut self, thing: impl Any) {
        self.held.push(Box::new(thing));
    }

    fn config(&self) -> std::path::PathBuf {
        self.home.path().join("pgsqlchk.conf")
    }

    /// Adds lines to the configuration file; the agent that runs does not know them.
    pub fn add(&mut self, lines: &str) {
        self.lines.extend(lines.lines().map(str::to_owned));
        self.write();
    }

    pub fn set_dsn(&mut self, dsn: &str) {
        self.dsn = dsn.to_owned();
        self.write();
    }

    fn write(&self) {
        let text =
            format!("listen = 127.0.0.1:{}\ndsn = {}\n{}\n", self.port, self.dsn, self.lines.join("\n"));
        self.home.write("pgsqlchk.conf", &text);
    }

    /// A file of the system.
    pub fn plant(&self, name: &str, text: &str) {
        let path = self.root.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("make folders");
        fs::write(&path, text).expect("write a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("let everybody run it");
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.root.path().join(name)).expect("remove a file");
    }

    #[track_caller]
    pub fn doctor(&self, arguments: &[&str]) -> Said {
        self.doctor_with(&self.config(), arguments)
    }

    #[track_caller]
    pub fn doctor_with(&self, config: &Path, arguments: &[&str]) -> Said {
        let mut command = agent::command();
        command.env("HOME", self.home.path()).env("PGSQLCHK_TEST_ROOT", self.root.path());
        command.env("PATH", self.root.path().join("usr/local/bin"));
        command.envs(self.environment.iter().cloned());
        command.args(["doctor", "--config"]).arg(config).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn().expect("run doctor");
        if wait_for_exit(&mut child, secs(15)).is_none() {
            let _ = child.kill();
            panic!("no end within 15 s: {command:?}: {:?}", child.wait_with_output());
        }
        let elapsed = began.elapsed();
        let output = child.wait_with_output().expect("its output");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        let code = output.status.code().expect("an exit code");
        Said { lines: text.lines().map(str::to_owned).collect(), stderr, code, elapsed }
    }
}
