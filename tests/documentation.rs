//! What the documents promise is held against the program: their tables against `--help`, the library's closed list
//! of reasons and the answers of a real agent, their HAProxy configuration against a real HAProxy.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};

use pgsqlchk::reason::Reason;
use support::folder::Folder;
use support::pages::{code, fenced, page, pages, table};
use support::{Agent, Cluster, StopMode, agent, haproxy};

/// The options of `--help` and their defaults; none is an empty text.
fn options_of_help() -> BTreeMap<String, String> {
    let output = agent::command().arg("--help").output().expect("run the agent");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = text.lines().filter(|line| line.trim_start().starts_with("--"));
    lines
        .map(|line| {
            let name = line.split_whitespace().next().expect("a name");
            let default = line.rsplit_once("(default: ").map_or("", |(_, rest)| rest.trim_end_matches(')'));
            (name.to_owned(), default.to_owned())
        })
        .collect()
}

#[test]
fn the_options_of_help_are_documented_with_their_defaults() {
    let rows = table(&page("docs/configuration.md"), "| option | default | meaning |");
    let documented: BTreeMap<String, String> = rows
        .iter()
        .map(|row| {
            let names = code(&row[0]);
            let name = names.first().and_then(|option| option.split([' ', '=']).next());
            let name = name.unwrap_or_else(|| panic!("no option in backticks: {row:?}"));
            assert!(!row[2].is_empty(), "{name} has no meaning");
            (name.to_owned(), row[1].replace('`', ""))
        })
        .collect();
    assert_eq!(documented.len(), rows.len(), "an option stands there twice");
    let mut known = options_of_help();
    // Who reads a table of options has no use for this one.
    known.remove("--help").expect("--help names itself");
    assert_eq!(documented, known, "docs/configuration.md (left) and --help (right)");
}

#[test]
fn every_reason_is_explained_and_no_other() {
    let rows = table(&page("docs/answers.md"), "| reason | meaning | what to do |");
    let mut documented = BTreeSet::new();
    for row in &rows {
        let [word] = code(&row[0])[..] else { panic!("one reason in backticks, please: {row:?}") };
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
        assert!(documented.insert(word), "{word} is explained twice");
    }
    let known: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.word()).collect();
    assert_eq!(documented, known, "docs/answers.md (left) and the program (right)");
}

/// Every path there is; users have them in their haproxy.cfg, so this list only ever grows.
const PATHS: [&str; 26] = [
    "/",
    "*",
    "/primary",
    "/master",
    "/leader",
    "/read-write",
    "/replica",
    "/standby",
    "/read-only",
    "/synchronous",
    "/sync",
    "/asynchronous",
    "/async",
    "/quorum",
    "/read-only-sync",
    "/read-only-synchronous",
    "/read-only-quorum",
    "/standby-leader",
    "/standby_leader",
    "/health",
    "/readiness",
    "/liveness",
    "/status",
    "/metrics",
    "/node",
    "/cluster",
];

/// Asked for the row "anything else".
const OTHER: &str = "/anything-else";

/// A path of a table and what that says for a primary, a standby and no server.
struct Promise {
    path: String,
    cells: [String; 3],
}

/// The rows of the whole table of paths.
fn promises() -> Vec<Promise> {
    read_promises(table(&page("docs/answers.md"), "| path | primary | standby | cannot be verified |"))
}

fn read_promises(rows: Vec<Vec<String>>) -> Vec<Promise> {
    let cell = |text: &String| code(text).first().map_or(text.clone(), |code| (*code).to_owned());
    rows.iter()
        .flat_map(|row| {
            let mut paths: Vec<String> = code(&row[0]).into_iter().map(str::to_owned).collect();
            if paths.is_empty() {
                assert!(row[0].contains("else"), "no path in backticks: {row:?}");
                paths.push(OTHER.to_owned());
            }
            let cells = [cell(&row[1]), cell(&row[2]), cell(&row[3])];
            paths.into_iter().map(move |path| Promise { path, cells: cells.clone() })
        })
        .collect()
}

/// Asks for every path; column 0 is the primary's, 1 the standby's, 2 that of no server.
fn broken_promises(agent: &Agent, promises: &[Promise], column: usize) -> Vec<String> {
    let mut broken = Vec::new();
    for Promise { path, cells } in promises {
        let reply = agent.ask(format!("OPTIONS {path} HTTP/1.0\r\n\r\n").as_bytes());
        let promised = &cells[column];
        let kept = match promised.strip_suffix("<reason>") {
            None => *promised == reply.line(),
            Some(code) => {
                let known = Reason::ALL.iter().any(|reason| reason.word() == reply.reason);
                known && reply.line() == format!("{code}{}", reply.reason) && reply.body.starts_with("Down: ")
            }
        };
        if !kept {
            broken.push(format!("{path}: promised {promised:?}, answered {:?}", reply.line()));
        }
    }
    broken
}

#[test]
fn every_path_answers_what_is_documented() {
    let mut promises = promises();
    let documented: BTreeSet<&str> = promises.iter().map(|promise| promise.path.as_str()).collect();
    assert_eq!(documented, PATHS.into_iter().chain([OTHER]).collect(), "docs/answers.md (left)");
    let short = table(&page("README.md"), "| asked | primary | standby | cannot be verified |");
    promises.extend(read_promises(short));
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let beside_primary = Agent::start(&["--dsn", &primary.dsn()]);
    let beside_standby = Agent::start(&["--dsn", &standby.dsn()]);
    let none: [String; 0] = [];
    assert_eq!(broken_promises(&beside_primary, &promises, 0), none, "beside a primary");
    assert_eq!(broken_promises(&beside_standby, &promises, 1), none, "beside a standby");
    standby.stop(StopMode::Fast);
    primary.stop(StopMode::Fast);
    assert_eq!(broken_promises(&beside_primary, &promises, 2), none, "beside a stopped primary");
    assert_eq!(broken_promises(&beside_standby, &promises, 2), none, "beside a stopped standby");
}

/// The pages whose first block of configuration is one for HAProxy to start with.
const CONFIGURATIONS: [&str; 2] = ["README.md", "docs/haproxy.md"];

#[test]
fn every_haproxy_configuration_is_valid_as_it_stands() {
    let folder = Folder::new("pages");
    for path in CONFIGURATIONS {
        let blocks = fenced(&page(path), "haproxy");
        let config = folder.write("haproxy.cfg", blocks.first().expect("a ```haproxy block"));
        let mut command = Command::new(haproxy::program());
        command.arg("-c").arg("-f").arg(&config).stdin(Stdio::null());
        let output = command.output().expect("run haproxy -c");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{path}: {said}");
        for complaint in ["[ALERT]", "[WARNING]"] {
            assert!(!said.contains(complaint), "{path}: {said}");
        }
    }
}

#[test]
fn every_haproxy_configuration_asks_for_what_the_agent_has() {
    let default = &options_of_help()["--listen"];
    let port = default.split([' ', ',']).next().and_then(|address| address.rsplit(':').next());
    let port = port.expect("a port in the default of --listen");
    for path in CONFIGURATIONS {
        let first = fenced(&page(path), "haproxy").swap_remove(0);
        assert!(first.contains(&format!("port {port}")), "{path}: the checks go to the default port {port}");
        assert!(
            first.contains("http-check expect status 200"),
            "{path}: a standby must not pass for a primary"
        );
    }
    let known: BTreeSet<String> = promises().into_iter().map(|promise| promise.path).collect();
    let mut asked = 0;
    for page in pages() {
        let blocks = fenced(&page.text, "haproxy");
        for line in blocks.iter().flat_map(|block| block.lines()) {
            let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
            let path = words.iter().skip_while(|word| **word != "httpchk").find(|word| word.starts_with('/'));
            if let Some(path) = path.and_then(|path| path.split('?').next()) {
                asked += 1;
                assert!(known.contains(path), "{}: {line}: no such path", page.path);
            }
        }
    }
    assert!(asked >= 6, "{asked} lines ask for a path");
}

#[test]
fn every_exit_code_of_a_check_is_explained() {
    let rows = table(&page("docs/homes.md"), "| exit code | meaning | for Nagios |");
    let codes: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(codes, ["0", "1", "2", "3"]);
}

#[test]
fn the_files_of_the_homes_are_there() {
    let homes = page("docs/homes.md");
    let is_part = |c: char| c.is_ascii_alphanumeric() || "@.-".contains(c);
    for folder in ["systemd/", "xinetd/"] {
        let names: BTreeSet<&str> = homes
            .split(&format!("`{folder}"))
            .skip(1)
            .filter_map(|rest| rest.split(|c| !is_part(c)).next())
            .filter(|name| !name.is_empty())
            .collect();
        assert!(!names.is_empty(), "docs/homes.md names files of {folder}");
        for name in names {
            let path = format!("{}/{folder}{name}", env!("CARGO_MANIFEST_DIR"));
            assert!(fs::metadata(&path).is_ok_and(|file| file.is_file()), "{folder}{name} is no file");
        }
    }
}
