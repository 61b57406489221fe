//! The units, held against systemd's own tools. (Run by a real systemd: tests/system.)

mod support;

use std::fs;
use std::os::unix;
use std::path::Path;
use std::process::Command;

use support::folder::Folder;

const SERVICES: [&str; 2] = ["pgsqlchk.service", "pgsqlchk@.service"];
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
    // As `systemctl enable pgsqlchk-inetd.socket` makes it.
    let alias = folder.path().join("pgsqlchk-inetd@.service");
    unix::fs::symlink("pgsqlchk@.service", alias).expect("make the alias");
    let files: Vec<String> =
        SERVICES.iter().chain(&SOCKETS).map(|name| folder.path().join(name).display().to_string()).collect();
    let (is_fine, text) = analyze(&["verify", "--recursive-errors=yes"], &files);
    assert!(is_fine && text.is_empty(), "{text}");
}
