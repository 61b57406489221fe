//! The units, held against systemd's own tools. (Run by a real systemd: tests/system.)

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use support::folder::Folder;

const SERVICES: [&str; 3] = ["pgsqlchk.service", "pgsqlchk@.service", "pgsqlchk-inetd@.service"];
const SOCKETS: [&str; 3] = ["pgsqlchk.socket", "pgsqlchk-agent.socket", "pgsqlchk-inetd.socket"];

fn analyze(args: &[&str], files: &[String]) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(args).args(files).output().expect("systemd-analyze");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn the_services_are_exposed_as_little_as_they_can_be() {
    for service in SERVICES {
        let file = format!("{}/systemd/{service}", env!("CARGO_MANIFEST_DIR"));
        let (is_fine, text) = analyze(&["security", "--offline=true", "--threshold=15"], &[file]);
        assert!(is_fine, "{text}");
    }
}

/// The settings of a unit, `section key=value`, without those of these names.
fn settings(unit: &str, but: &[&str]) -> Vec<String> {
    let text = fs::read_to_string(format!("{}/systemd/{unit}", env!("CARGO_MANIFEST_DIR"))).expect(unit);
    let mut section = "";
    let mut settings = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once('=') {
            Some((name, _)) if but.contains(&name) => {}
            Some(_) => settings.push(format!("{section} {line}")),
            None => section = line,
        }
    }
    settings
}

/// Whoever changes one of the services has to think of the others.
#[test]
fn the_services_differ_in_what_they_are_for_and_in_nothing_else() {
    let own = ["Description", "After", "ExecStart", "ExecStartPre", "SyslogIdentifier"];
    assert_eq!(settings("pgsqlchk@.service", &own), settings("pgsqlchk.service", &own), "instances (left)");

    let settings = |unit| BTreeSet::from_iter(settings(unit, &own));
    let (one, all) = (settings("pgsqlchk-inetd@.service"), settings("pgsqlchk.service"));
    let only = |of: &BTreeSet<String>, other: &BTreeSet<String>| -> Vec<String> {
        let names = of.difference(other).map(|line| line.split('=').next().unwrap_or_default().to_owned());
        BTreeSet::from_iter(names).into_iter().collect()
    };
    // How it is started and ended, and its limits; all that it may not do is the same.
    let limits = ["[Service] LimitNOFILE", "[Service] MemoryMax", "[Service] TasksMax"];
    let one_check = [
        "[Service] RuntimeMaxSec",
        "[Service] StandardError",
        "[Service] StandardInput",
        "[Service] StandardOutput",
    ];
    let kind = ["[Service] Type"];
    let mut expected: Vec<&str> = [&limits[..], &one_check, &kind, &["[Unit] CollectMode"]].concat();
    expected.sort_unstable();
    assert_eq!(only(&one, &all), expected, "only in pgsqlchk-inetd@.service");
    let life = [
        "[Install] WantedBy",
        "[Service] ExecReload",
        "[Service] NotifyAccess",
        "[Service] Restart",
        "[Service] RestartPreventExitStatus",
        "[Service] RestartSec",
        "[Service] TimeoutStartSec",
        "[Service] WatchdogSec",
        "[Unit] StartLimitBurst",
        "[Unit] StartLimitIntervalSec",
    ];
    let mut expected: Vec<&str> = [&limits[..], &life, &kind].concat();
    expected.sort_unstable();
    assert_eq!(only(&all, &one), expected, "only in pgsqlchk.service");
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    let folder = Folder::new("units");
    // The program is not installed here, so its path is another one.
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")).expect("the units") {
        let entry = entry.expect("a unit");
        let text = fs::read_to_string(entry.path()).expect("read a unit");
        let name = entry.file_name();
        folder.write(
            name.to_str().expect("UTF-8"),
            &text.replace("/usr/local/bin/pgsqlchk", env!("CARGO_BIN_EXE_pgsqlchk")),
        );
    }
    let files: Vec<String> =
        SERVICES.iter().chain(&SOCKETS).map(|name| folder.path().join(name).display().to_string()).collect();
    let (is_fine, text) = analyze(&["verify", "--recursive-errors=yes"], &files);
    assert!(is_fine && text.is_empty(), "{text}");
}
