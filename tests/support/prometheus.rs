//! A real Prometheus, its promtool, and what a page of metrics holds.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::{fs, thread};

use super::folder::Folder;
use super::process::wait_for_exit;
use super::{Agent, eventually, free_port, http, secs, show_log};

/// One answer to `/metrics`.
#[derive(Debug, Clone)]
pub struct Page {
    /// The body.
    pub text: String,
    /// The values by series, spelled as on the page: `pgsqlchk_probes_total{outcome="primary"}`.
    pub series: BTreeMap<String, f64>,
}

impl Page {
    /// Asks the agent.
    #[track_caller]
    pub fn of(agent: &Agent) -> Page {
        let reply = agent.get("/metrics");
        assert_eq!(reply.line(), "200 OK");
        assert_eq!(reply.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Page::parse(&reply.body)
    }

    /// Reads a body.
    #[track_caller]
    pub fn parse(text: &str) -> Page {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let series: Vec<(String, f64)> = samples
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line:?}"));
                (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line:?}")))
            })
            .collect();
        let count = series.len();
        let series: BTreeMap<String, f64> = series.into_iter().collect();
        assert_eq!(series.len(), count, "a series stands there twice: {text}");
        Page { text: text.to_owned(), series }
    }

    /// The value of a series, if it is there.
    pub fn get(&self, series: &str) -> Option<f64> {
        self.series.get(series).copied()
    }

    /// The value of a series that has to be there.
    #[track_caller]
    pub fn value(&self, series: &str) -> f64 {
        self.get(series).unwrap_or_else(|| panic!("no {series} on the page: {}", self.text))
    }

    /// The sum of all series of a name.
    pub fn sum(&self, name: &str) -> f64 {
        let prefix = format!("{name}{{");
        self.series.iter().filter(|(series, _)| series.starts_with(&prefix)).map(|(_, value)| value).sum()
    }

    /// Name and type of each family.
    pub fn families(&self) -> BTreeMap<String, String> {
        let heads = self.text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        heads.filter_map(|head| head.split_once(' ')).map(|(name, kind)| (name.into(), kind.into())).collect()
    }

    /// Asserts that `promtool check metrics` finds nothing to say.
    #[track_caller]
    pub fn assert_clean(&self) {
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "metrics"]);
        let said = run_with_input(promtool, &self.text);
        assert_eq!(said, "", "promtool check metrics says this about: {}", self.text);
    }
}

/// Runs a promtool command on a file; it has to be content. Gives what it said.
#[track_caller]
pub fn promtool(arguments: &[&str], file: &std::path::Path) -> String {
    let mut promtool = Command::new("promtool");
    promtool.args(arguments).arg(file).current_dir(file.parent().expect("a folder"));
    run_with_input(promtool, "")
}

#[track_caller]
fn run_with_input(mut command: Command, input: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; run make test: it installs it"));
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    let input = input.to_owned();
    let writer = thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("wait for promtool");
    writer.join().expect("the writer").expect("promtool reads everything");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// A running Prometheus; killed when dropped.
pub struct Prometheus {
    child: Child,
    folder: Folder,
    addr: SocketAddr,
}

impl Prometheus {
    /// Starts it with a configuration file of this content, and waits until it answers.
    #[track_caller]
    pub fn start(config: &str) -> Prometheus {
        let folder = Folder::new("prometheus");
        let config = folder.write("prometheus.yml", config);
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let log = fs::File::create(folder.path().join("log")).expect("create Prometheus' log");
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={addr}"));
        command.current_dir(folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; run make test: it installs it"));
        let mut prometheus = Prometheus { child, folder, addr };
        eventually(secs(30), "Prometheus is ready", || {
            let ended = prometheus.child.try_wait().expect("wait for Prometheus");
            assert!(ended.is_none(), "Prometheus ended: {ended:?}");
            http::get(addr, "/-/ready").is_ok_and(|reply| reply.status == 200)
        });
        prometheus
    }

    /// The answer of its HTTP API to an instant query, as JSON. `expression` has to fit a URL as it is.
    pub fn query(&self, expression: &str) -> String {
        let reply = http::get(self.addr, &format!("/api/v1/query?query={expression}"));
        reply.map(|reply| reply.body).unwrap_or_default()
    }

    /// Its answer for every second from `start` to `end`, in seconds since 1970.
    #[track_caller]
    pub fn query_range(&self, expression: &str, start: u64, end: u64) -> serde_json::Value {
        let escaped: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/api/v1/query_range?query={escaped}&start={start}&end={end}&step=1");
        let reply = http::get(self.addr, &path).unwrap_or_else(|error| panic!("{expression}: {error}"));
        let json = match reply.header("Transfer-Encoding") {
            None => reply.body,
            Some(_) => unchunked(&reply.body),
        };
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{expression}: {error}: {json}"))
    }
}

/// A body without the lines that say how long its chunks are.
fn unchunked(body: &str) -> String {
    let mut whole = String::new();
    let mut rest = body;
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("the length of a chunk");
        whole.push_str(&after[..length]);
        rest = after[length..].trim_start();
    }
    whole
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = wait_for_exit(&mut self.child, secs(5));
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        show_log("log of Prometheus", &log);
    }
}
