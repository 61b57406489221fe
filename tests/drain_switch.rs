//! `pgsqlchk drain` and `pgsqlchk undrain`: the switch of the drain file, from the line it prints to its exit code.

mod support;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use support::agent;
use support::drain::{Switch, chmod, run, run_under, switch_with, without_privileges};
use support::servers::servers;

#[test]
fn the_switch_can_be_pressed_twice_and_its_line_says_what_follows_in_haproxy() {
    let servers = servers();
    let switch = Switch::new();
    let (path, agent) = (switch.path(), switch.agent(&servers.primary.dsn()));
    for begun in ["draining: ", "draining already: "] {
        let (code, line, error) = switch_with("drain", &path);
        assert_eq!((code, error.as_str(), line.lines().count()), (0, "", 1), "{line}");
        assert!(line.starts_with(&format!("{begun}{} exists", path.display())), "{line}");
        for word in ["404", "disable-on-404", "goes down", "agent-check", "pgsqlchk undrain"] {
            assert!(line.contains(word), "{word}: {line}");
        }
        assert_eq!(agent.get("/").line(), "404 draining");
    }
    for begun in ["draining no more: ", "not draining: "] {
        let (code, line, error) = switch_with("undrain", &path);
        assert_eq!((code, error.as_str(), line.lines().count()), (0, "", 1), "{line}");
        assert!(line.starts_with(begun) && line.contains(path.to_str().expect("a path")), "{line}");
        assert_eq!(agent.get("/").line(), "200 Primary");
    }
}

#[test]
fn the_switch_finds_the_file_where_the_agents_configuration_says() {
    let switch = Switch::new();
    let (of_file, of_command_line) = (switch.folder.path().join("a"), switch.path());
    let config = switch.folder.write("pgsqlchk.conf", &format!("drain-file = {}\n", of_file.display()));
    let config = config.to_str().expect("a path");
    assert_eq!(run(&["--mode", "drain", "--config", config]).0, 0);
    assert!(of_file.is_file() && !of_command_line.exists());
    assert_eq!(run(&["--mode", "drain", "--config", config, "--drain-file", &switch.text()]).0, 0);
    assert!(of_command_line.is_file());
    assert_eq!(run(&["--mode", "undrain", "--config", config]).0, 0);
    assert!(!of_file.exists() && of_command_line.is_file());
}

/// An administrator's umask of 077 would give the agent's user a folder that it cannot look into, and HAProxy a 503.
#[test]
fn a_missing_folder_is_made_so_that_the_agent_sees_into_it_whatever_the_umask() {
    let switch = Switch::new();
    for umask in ["000", "022", "077"] {
        let above = switch.folder.path().join(umask);
        let path = above.join("below").join("drain");
        let program = agent::command();
        let shell = format!("umask {umask} && exec \"$@\"");
        let wrapper = ["sh", "-c", &shell, "sh"];
        assert!(
            program.get_envs().all(|(_, value)| value.is_none()),
            "nothing but the program is taken over"
        );
        let outcome = run_under(&wrapper, &["--mode=drain", "--drain-file", path.to_str().expect("a path")]);
        assert_eq!(outcome.0, 0, "{outcome:?}");
        let mode = |path: &Path| fs::metadata(path).expect("stat").permissions().mode() & 0o7777;
        assert_eq!((mode(&above), mode(&above.join("below"))), (0o755, 0o755), "umask {umask}");
        assert_eq!(mode(&path) & 0o022, 0, "umask {umask}: only its owner writes it");
    }
    // What was there keeps its mode.
    chmod(&switch.folder, 0o700);
    assert_eq!(switch_with("drain", &switch.path()).0, 0);
    assert_eq!(fs::metadata(switch.folder.path()).expect("stat").permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_switch_that_cannot_be_pressed_is_one_line_and_exit_code_1() {
    let switch = Switch::new();
    let file = switch.folder.write("file", "");
    let folder = switch.folder.path().join("folder");
    fs::create_dir(&folder).expect("mkdir");
    switch.on();
    chmod(&switch.folder, 0o500);
    let below_file = file.join("drain").display().to_string();
    let (drain_file, other, folder) = (
        switch.text(),
        switch.folder.path().join("other").display().to_string(),
        folder.display().to_string(),
    );
    for (mode, path, what) in [
        ("drain", &other, "cannot create the drain file"),
        ("undrain", &drain_file, "cannot remove the drain file"),
        ("drain", &below_file, "cannot create the drain file"),
        ("undrain", &folder, "cannot remove the drain file"),
    ] {
        let (code, line, error) = run_under(without_privileges(), &["--mode", mode, "--drain-file", path]);
        assert_eq!((code, line.as_str(), error.lines().count()), (1, "", 1), "{mode} {path}: {error}");
        assert!(error.starts_with(&format!("pgsqlchk: {what} {path}: ")), "{error}");
    }
    chmod(&switch.folder, 0o755);
    assert!(switch.path().is_file());
    let (_, _, error) = switch_with("undrain", Path::new(&folder));
    assert!(error.contains("it is a folder"), "{error}");
    let (_, _, error) = switch_with("drain", Path::new(&below_file));
    assert!(error.contains("what should be its folder is none"), "{error}");
    assert_eq!(run(&["--mode", "undrain", "--drain-file", &below_file]).0, 0, "there is none");
}

#[test]
fn bad_usage_of_the_switch_is_exit_code_3() {
    for path in ["drain", "", "/run/pgsqlchk/"] {
        let (code, line, error) = run(&["--mode=drain", "--drain-file", path]);
        assert_eq!((code, line.as_str(), error.lines().count()), (3, "", 1), "{path:?}: {error}");
        assert!(error.contains("--drain-file"), "{error}");
    }
    assert_eq!(run(&["--mode=drian"]).0, 3);
}

/// The agent's user reads them; whoever drains needs none of them.
#[test]
fn the_switch_needs_nothing_but_the_drain_files_path() {
    let switch = Switch::new();
    let secret = switch.folder.write("secret", "[mine]\nhost=/nowhere\n");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).expect("chmod");
    chmod(&switch.folder, 0o777);
    let secret = secret.to_str().expect("a path");
    let service = format!("PGSERVICEFILE={secret}");
    let passfile = format!("passfile={secret}");
    let drain_file = switch.text();
    let wrapper = [without_privileges(), &["env", "PGSERVICE=mine", &service, "PGSSLMODE=require"]].concat();
    for (mode, is_there) in [("drain", true), ("undrain", false)] {
        let options = ["--mode", mode, "--drain-file", &drain_file, "--dsn", &passfile];
        let (code, _, error) = run_under(&wrapper, &options);
        assert_eq!((code, error.as_str()), (0, ""), "{mode}");
        assert_eq!(switch.path().exists(), is_there, "{mode}");
    }
    let (code, _, error) = run_under(&wrapper, &["--mode=check", "--dsn", &passfile]);
    assert_eq!(code, 3, "who connects does need them: {error}");
}

#[test]
fn undrain_removes_a_link_and_leaves_what_it_leads_to() {
    let switch = Switch::new();
    let target = switch.folder.write("target", "");
    symlink(&target, switch.path()).expect("ln -s");
    assert_eq!(switch_with("undrain", &switch.path()).0, 0);
    assert!(target.is_file());
    let gone = fs::symlink_metadata(switch.path()).expect_err("the link is gone");
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}
