//! What the README promises is held against the program: its tables against `--help`, the library's closed list
//! of reasons and the answers of a real agent, its HAProxy configuration against a real HAProxy.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};

use pgsqlchk::reason::Reason;
use support::folder::Folder;
use support::{Agent, Cluster, StopMode, agent, haproxy, readme};

/// The rows of the table with this heading, each as its trimmed cells.
fn table(readme: &str, heading: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        // A `\|` is a bar inside a cell.
        let line = line.trim().trim_matches('|').replace("\\|", "\u{0}");
        line.split('|').map(|cell| cell.replace('\u{0}', "|").trim().to_owned()).collect()
    };
    let mut lines = readme.lines().skip_while(|line| line.trim() != heading);
    assert!(lines.next().is_some(), "README.md has no table {heading}");
    let rows: Vec<_> =
        lines.skip(1).take_while(|line| line.trim_start().starts_with('|')).map(cells).collect();
    assert!(!rows.is_empty(), "the table {heading} is empty");
    let columns = cells(heading).len();
    for row in &rows {
        assert_eq!(row.len(), columns, "a row of the table {heading}: {row:?}");
    }
    rows
}

/// The parts of a cell that are in backticks.
fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The fenced blocks of a language, in order.
fn fenced<'a>(readme: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let blocks = readme.split(fence.as_str()).skip(1);
    blocks.map(|rest| rest.split_once("```").expect("a closing fence").0).collect()
}

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
fn the_readme_lists_the_options_of_help_with_their_defaults() {
    let rows = table(&readme(), "| option | default | meaning |");
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
    assert_eq!(documented, known, "README.md (left) and --help (right)");
}

#[test]
fn the_readme_explains_every_reason_and_no_other() {
    let rows = table(&readme(), "| reason | meaning | what to do |");
    let mut documented = BTreeSet::new();
    for row in &rows {
        let [word] = code(&row[0])[..] else { panic!("one reason in backticks, please: {row:?}") };
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
        assert!(documented.insert(word), "{word} is explained twice");
    }
    let known: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.word()).collect();
    assert_eq!(documented, known, "README.md (left) and the program (right)");
}

/// Every path there is; users have them in their haproxy.cfg, so this list only ever grows.
const PATHS: [&str; 14] = [
    "/",
    "*",
    "/primary",
    "/master",
    "/leader",
    "/read-write",
    "/replica",
    "/standby",
    "/read-only",
    "/health",
    "/readiness",
    "/liveness",
    "/status",
    "/metrics",
];

/// Asked for the row "anything else".
const OTHER: &str = "/anything-else";

/// A path of the README's table and what it says for a primary, a standby and no server.
struct Promise {
    path: String,
    cells: [String; 3],
}

fn promises(readme: &str) -> Vec<Promise> {
    let rows = table(readme, "| path | primary | standby | cannot be verified |");
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
fn the_readme_says_what_every_path_answers() {
    let promises = promises(&readme());
    let documented: BTreeSet<&str> = promises.iter().map(|promise| promise.path.as_str()).collect();
    assert_eq!(documented, PATHS.into_iter().chain([OTHER]).collect(), "README.md (left)");
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

#[test]
fn the_haproxy_configuration_of_the_readme_is_valid_as_it_stands() {
    let readme = readme();
    let blocks = fenced(&readme, "haproxy");
    let folder = Folder::new("readme");
    let config = folder.write("haproxy.cfg", blocks.first().expect("a ```haproxy block"));
    let output = Command::new(haproxy::program())
        .arg("-c")
        .arg("-f")
        .arg(&config)
        .stdin(Stdio::null())
        .output()
        .expect("run haproxy -c");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    for complaint in ["[ALERT]", "[WARNING]"] {
        assert!(!said.contains(complaint), "{said}");
    }
}

#[test]
fn the_haproxy_configuration_of_the_readme_asks_for_what_the_agent_has() {
    let readme = readme();
    let blocks = fenced(&readme, "haproxy");
    let classic = blocks.first().expect("a ```haproxy block");
    let default = &options_of_help()["--listen"];
    let port = default.split([' ', ',']).next().and_then(|address| address.rsplit(':').next());
    let port = port.expect("a port in the default of --listen");
    assert!(classic.contains(&format!("port {port}")), "the checks go to the default port {port}");
    assert!(classic.contains("http-check expect status 200"), "a standby's 206 must not pass for a primary");

    let known: BTreeSet<String> = promises(&readme).into_iter().map(|promise| promise.path).collect();
    for line in blocks.iter().flat_map(|block| block.lines()) {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let asked = words.iter().skip_while(|word| **word != "httpchk").find(|word| word.starts_with('/'));
        if let Some(path) = asked {
            assert!(known.contains(*path), "{line}: no such path");
        }
    }
}

/// As GitHub makes anchors: small letters, blanks to hyphens, punctuation gone.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    heading.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn the_links_within_the_readme_lead_somewhere() {
    let readme = readme();
    let headings: BTreeSet<String> = readme
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect();
    let links: Vec<&str> = readme.split("](#").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(!links.is_empty(), "there are links");
    for link in links {
        assert!(headings.contains(link), "#{link} is no heading of README.md: {headings:#?}");
    }
}

#[test]
fn the_readme_explains_every_exit_code_of_a_check() {
    let rows = table(&readme(), "| exit code | meaning | for Nagios |");
    let codes: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(codes, ["0", "1", "2", "3"]);
}

#[test]
fn the_files_that_the_readme_installs_are_there() {
    let readme = readme();
    let is_part = |c: char| c.is_ascii_alphanumeric() || "@.-".contains(c);
    for folder in ["systemd/", "xinetd/"] {
        let names: BTreeSet<&str> = readme
            .split(&format!("`{folder}"))
            .skip(1)
            .filter_map(|rest| rest.split(|c| !is_part(c)).next())
            .filter(|name| !name.is_empty())
            .collect();
        assert!(!names.is_empty(), "README.md installs files of {folder}");
        for name in names {
            let path = format!("{}/{folder}{name}", env!("CARGO_MANIFEST_DIR"));
            assert!(fs::metadata(&path).is_ok_and(|file| file.is_file()), "{folder}{name} is no file");
        }
    }
}
