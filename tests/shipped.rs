//! What is installed beside the program is held against the program: manual pages, sample configuration and completions
//! against `--help`, the units against where the program is put.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix;
use std::path::Path;
use std::process::{Command, Stdio};

use support::agent;
use support::folder::Folder;

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");
const BINARY: &str = env!("CARGO_BIN_EXE_pgsqlchk");

fn source(path: &str) -> String {
    fs::read_to_string(format!("{SOURCE}/{path}")).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs it and gives what it printed; panics when it failed.
#[track_caller]
fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!("{command:?}: {error} (make test installs what is missing)");
    });
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// An option as it is documented: its name, the placeholder of its value, its default; what is absent is empty.
type Documented = (String, String, String);

/// The options of `--help`, in its order.
fn options_of_help() -> Vec<Documented> {
    let text = output(agent::command().arg("--help"));
    let option = |line: &str| {
        let (name, rest) = line.trim_start().strip_prefix("--")?.split_once(' ')?;
        let value = rest.split(' ').next().unwrap_or_default();
        let default =
            rest.rsplit_once(" (default: ").map_or("", |(_, default)| default.trim_end_matches(')'));
        Some((name.to_owned(), value.to_owned(), default.to_owned()))
    };
    let options: Vec<_> = text.lines().filter_map(option).collect();
    assert!(options.len() > 10, "{text}");
    options
}

/// Those that can stand in the configuration file.
fn settings_of_help() -> Vec<Documented> {
    let only_typed = ["config", "instance", "haproxy", "wait", "version", "help"];
    options_of_help().into_iter().filter(|(name, ..)| !only_typed.contains(&name.as_str())).collect()
}

/// The values that the program names when it is given another one: `expected http or agent`.
fn values_of(option: &str) -> BTreeSet<String> {
    let output = agent::command().args([option, "nonsense"]).output().expect("run the agent");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    let (_, words) = said.trim_end().split_once(": expected ").unwrap_or_else(|| panic!("{option}: {said}"));
    words.replace(" or ", ", ").split(", ").map(str::to_owned).collect()
}

/// Options whose values are words of a closed list.
const CLOSED: [&str; 4] = ["mode", "log-level", "log-target", "protocol"];

/// The items of a manual page's section, up to its next heading.
fn items<'a>(page: &'a str, section: &str) -> Vec<Vec<&'a str>> {
    let inside = page.split_once(&format!("\n.Sh {section}\n")).expect("the section").1;
    let inside = inside.split("\n.Sh ").next().unwrap_or_default();
    inside.split("\n.It ").skip(1).map(|item| item.lines().collect()).collect()
}

fn default_of(item: &[&str]) -> String {
    let default = item.iter().find_map(|line| line.strip_prefix("Default: "));
    default.unwrap_or_default().to_owned()
}

#[test]
fn the_manual_page_lists_the_options_of_help_with_their_defaults() {
    let page = source("man/pgsqlchk.8");
    let documented: Vec<Documented> = items(&page, "OPTIONS")
        .iter()
        .map(|item| {
            let words: Vec<&str> = item[0].split(' ').collect();
            let (name, value) = match words[..] {
                ["Fl", name] => (name, ""),
                ["Fl", name, "Ar", value] => (name, value),
                _ => panic!("not an option: {}", item[0]),
            };
            assert!(item.len() > 1, "{name} has no meaning");
            (name.trim_start_matches('-').to_owned(), value.to_owned(), default_of(item))
        })
        .collect();
    assert_eq!(documented, options_of_help(), "man/pgsqlchk.8 (left) and --help (right)");
}

#[test]
fn the_manual_page_of_the_configuration_lists_every_setting_with_its_default() {
    let page = source("man/pgsqlchk.conf.5");
    let documented: Vec<Documented> = items(&page, "PARAMETERS")
        .iter()
        .map(|item| {
            let words: Vec<&str> = item[0].split(' ').collect();
            let ["Li", name, "=", "Ar", value] = words[..] else { panic!("not a setting: {}", item[0]) };
            (name.to_owned(), value.to_owned(), default_of(item))
        })
        .collect();
    assert_eq!(documented, settings_of_help(), "man/pgsqlchk.conf.5 (left) and --help (right)");
}

#[test]
fn the_manual_pages_have_the_version_of_the_program() {
    for page in ["man/pgsqlchk.8", "man/pgsqlchk.conf.5"] {
        let line = concat!("\n.Os pgsqlchk ", env!("CARGO_PKG_VERSION"), "\n");
        assert!(source(page).contains(line), "{page}:{line}");
    }
}

/// A line of the sample that takes effect when its `#` is taken away.
fn setting(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix('#').filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))?;
    line.split_once(" = ")
}

#[test]
fn the_sample_configuration_has_every_setting_commented_out_with_its_default() {
    let sample = source("packaging/pgsqlchk.conf");
    let mut documented = BTreeMap::new();
    for paragraph in sample.split("\n\n") {
        let settings: Vec<_> = paragraph.lines().filter_map(setting).collect();
        let Some((name, value)) = settings.first() else { continue };
        assert!(settings.iter().all(|(other, _)| other == name), "one setting at a time:\n{paragraph}");
        let default = paragraph.lines().find_map(|line| line.strip_prefix("# Default: ")).unwrap_or_default();
        // A default that is no value but a description cannot be set; the line is an example then.
        let is_value = !default.contains([' ', ',']) && !["everyone", "none"].contains(&default);
        assert!(!is_value || *value == default, "{name} is set to its default:\n{paragraph}");
        let was = documented.insert((*name).to_owned(), default.to_owned());
        assert_eq!(was, None, "{name} stands there twice");
    }
    let known = settings_of_help().into_iter().map(|(name, _, default)| (name, default)).collect();
    assert_eq!(documented, known, "packaging/pgsqlchk.conf (left) and --help (right)");
    let active = sample.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(active.collect::<Vec<_>>(), Vec::<&str>::new(), "nothing is set");
}

#[test]
fn the_sample_configuration_is_accepted_with_everything_set() {
    let folder = Folder::new("sample");
    // The flavour pgsqlchk-tls takes these, and wants their files.
    let is_of_tls = |name: &str| name.starts_with("tls-") || name == "peer-ca";
    let active: String = source("packaging/pgsqlchk.conf")
        .lines()
        .map(|line| match setting(line) {
            Some((name, value)) if !is_of_tls(name) => format!("{name} = {value}\n"),
            Some(_) | None => format!("{line}\n"),
        })
        .collect();
    let config = folder.write("pgsqlchk.conf", &active);
    // A port that nobody has, for the sample's own may be in use here.
    let dsn = format!("host={}", folder.path().display());
    let mut command = agent::command();
    command.args(["--mode", "check", "--dsn", &dsn, "--config"]).arg(config);
    let output = command.output().expect("run the agent");
    // Not 3, bad configuration: it looked, and there is no server.
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// What bash offers for the last word of a command line.
fn bash(words: &[&str]) -> BTreeSet<String> {
    let script = r#"source "$1/completions/pgsqlchk.bash"; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _pgsqlchk; printf '%s\n' "${COMPREPLY[@]}""#;
    let text = output(Command::new("bash").args(["-c", script, "bash", SOURCE, BINARY]).args(words));
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// What fish offers at the end of a command line.
fn fish(line: &str) -> BTreeSet<String> {
    let script = format!("source {SOURCE}/completions/pgsqlchk.fish; complete -C '{line}'");
    let mut command = Command::new("fish");
    let home = Folder::new("fish");
    command.args(["--no-config", "-c", &script]).env("PATH", path_with_program()).env("HOME", home.path());
    let text = output(&mut command);
    text.lines().filter_map(|line| line.split('\t').next()).map(str::to_owned).collect()
}

/// Start-up file of the zsh below: whatever is offered goes into a file, too.
const ZSHRC: &str = r#"
PROMPT=
fpath=($COMPLETIONS $fpath)
autoload -U compinit
compinit -u -D
bindkey '^I' complete-word
compadd() {
    if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
        local -a offered
        builtin compadd -A offered "$@"
        [[ -z $offered ]] || print -rl -- $offered >>$HOME/offered
    fi
    builtin compadd "$@"
}
# The editor reads, and the completion is complete.
zle-line-init() { : >$HOME/ready }
zle -N zle-line-init
finish() { : >$HOME/done }
comppostfuncs=(finish)
"#;

/// Types a line and a tab into an interactive zsh, on a terminal of its own; waits for the files that say how far it is.
const ZSH_DRIVER: &str = r#"
zmodload zsh/zpty
await() {
    while [[ ! -e $HOME/$1 ]]; do
        (( SECONDS < 20 )) || exit 1
        zpty -rt shell seen || sleep 0.02
    done
}
zpty shell "zsh -i"
await ready
zpty -w -n shell "$1"$'\t'
await done
zpty -d shell
"#;

/// What zsh offers at the end of a command line.
fn zsh(line: &str) -> BTreeSet<String> {
    let home = Folder::new("zsh");
    home.write(".zshrc", ZSHRC);
    let mut command = Command::new("zsh");
    command.args(["-f", "-c", ZSH_DRIVER, "zsh", line]).env("PATH", path_with_program());
    // Without a terminal's name zsh edits no line.
    command.env("HOME", home.path()).env_remove("ZDOTDIR").env("TERM", "xterm");
    command.env("COMPLETIONS", format!("{SOURCE}/completions"));
    output(&mut command);
    let offered = fs::read_to_string(home.path().join("offered")).unwrap_or_default();
    offered.lines().map(str::to_owned).collect()
}

fn path_with_program() -> String {
    let folder = Path::new(BINARY).parent().expect("a folder").display();
    format!("{folder}:{}", std::env::var("PATH").unwrap_or_default())
}

#[test]
fn bash_completes_the_options_of_help_and_the_values_of_closed_lists() {
    let known: BTreeSet<String> =
        options_of_help().into_iter().map(|(name, ..)| format!("--{name}")).collect();
    assert_eq!(bash(&["--"]), known);
    assert_eq!(bash(&["--timeout", "1s", "--max-c"]), ["--max-connections".to_owned()].into());
    assert_eq!(bash(&["--timeout", ""]), BTreeSet::new(), "nobody can guess it");
    let actions = values_of("--mode");
    assert!(bash(&[""]).is_superset(&actions));
    assert_eq!(bash(&["dra"]), ["drain".to_owned()].into());
    for option in CLOSED.map(|name| format!("--{name}")) {
        assert_eq!(bash(&[&option, ""]), values_of(&option), "{option}");
        assert_eq!(bash(&[&option, "="]), values_of(&option), "{option}=");
    }
}

#[test]
fn fish_completes_the_options_of_help_and_the_values_of_closed_lists() {
    let known: BTreeSet<String> =
        options_of_help().into_iter().map(|(name, ..)| format!("--{name}")).collect();
    assert_eq!(fish("pgsqlchk --"), known);
    assert_eq!(fish("pgsqlchk "), values_of("--mode"), "actions");
    assert_eq!(fish("pgsqlchk check "), BTreeSet::new(), "one is enough");
    for option in CLOSED.map(|name| format!("--{name}")) {
        assert_eq!(fish(&format!("pgsqlchk {option} ")), values_of(&option), "{option}");
    }
}

#[test]
fn zsh_completes_the_options_of_help_and_the_values_of_closed_lists() {
    let known: BTreeSet<String> =
        options_of_help().into_iter().map(|(name, ..)| format!("--{name}")).collect();
    assert_eq!(zsh("pgsqlchk --"), known);
    assert_eq!(zsh("pgsqlchk "), values_of("--mode"), "actions");
    for option in CLOSED.map(|name| format!("--{name}")) {
        assert_eq!(zsh(&format!("pgsqlchk {option} ")), values_of(&option), "{option}");
    }
}

/// `packaging/install` into a folder, as the packages do it.
fn install(root: &Path, words: &[&str]) -> String {
    let mut command = Command::new(format!("{SOURCE}/packaging/install"));
    command.args(words).env("DESTDIR", root).env("PREFIX", "/usr").env("BINARY", BINARY);
    output(&mut command)
}

/// The files below a folder, as paths within it.
fn files_below(root: &Path) -> BTreeSet<String> {
    let text = output(Command::new("find").arg(root).args(["-type", "f", "-printf", "/%P\n"]));
    text.lines().map(str::to_owned).collect()
}

#[test]
fn what_is_installed_names_the_program_where_it_is_installed() {
    let folder = Folder::new("install");
    install(folder.path(), &[]);
    let installed = files_below(folder.path());
    assert!(installed.contains("/usr/bin/pgsqlchk"), "{installed:#?}");
    let mut asked = 0;
    for file in installed.iter().filter(|file| file.contains("/systemd/") || file.contains("/xinetd/")) {
        let text = fs::read_to_string(folder.path().join(&file[1..])).expect("text");
        assert!(!text.contains("/usr/local"), "{file}");
        for line in text.lines() {
            let program = line.strip_prefix("ExecStart=").or_else(|| line.trim().strip_prefix("server  "));
            if let Some(program) = program.map(|rest| rest.trim_start_matches([' ', '='])) {
                assert_eq!(program.split(' ').next(), Some("/usr/bin/pgsqlchk"), "{file}: {line}");
                asked += 1;
            }
        }
    }
    let units = fs::read_dir(format!("{SOURCE}/systemd")).expect("the units").flatten();
    let services = units.filter(|unit| unit.path().extension().is_some_and(|kind| kind == "service")).count();
    let of_xinetd = fs::read_dir(format!("{SOURCE}/xinetd")).expect("xinetd's files").count();
    assert_eq!(asked, services + of_xinetd, "each names it once");
}

/// It would lead from the socket of one process per check to the template of instances.
#[test]
fn a_link_that_enabling_made_in_a_version_before_goes_and_no_other() {
    let folder = Folder::new("install");
    let link = folder.path().join("etc/systemd/system/pgsqlchk-inetd@.service");
    fs::create_dir_all(link.parent().expect("a folder")).expect("make it");
    for (target, stays) in
        [("/usr/lib/systemd/system/pgsqlchk@.service", false), ("/root/my-own@.service", true)]
    {
        let _ = fs::remove_file(&link);
        unix::fs::symlink(target, &link).expect("make the link");
        let said = install(folder.path(), &[]);
        assert_eq!(link.is_symlink(), stays, "{target}");
        assert_ne!(said.contains("Removed /etc/systemd/system/pgsqlchk-inetd@.service"), stays, "{said}");
    }
}

#[test]
fn every_unit_and_example_is_installed() {
    let folder = Folder::new("install");
    install(folder.path(), &[]);
    let names: BTreeSet<String> = files_below(folder.path())
        .iter()
        .filter_map(|file| file.rsplit('/').next())
        .map(str::to_owned)
        .collect();
    for shipped in ["systemd", "xinetd", "man", "packaging/examples", "packaging/prometheus"] {
        let Ok(entries) = fs::read_dir(format!("{SOURCE}/{shipped}")) else { continue };
        for entry in entries {
            let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
            if shipped != "packaging/examples" || name.ends_with(".cfg") {
                assert!(names.contains(&name), "{shipped}/{name}: {names:?}");
            }
        }
    }
}

#[test]
fn the_links_of_installed_pages_lead_to_what_is_installed() {
    let folder = Folder::new("install");
    install(folder.path(), &[]);
    let installed = files_below(folder.path());
    let mut followed = 0;
    for file in installed.iter().filter(|file| file.starts_with("/usr/share/doc/pgsqlchk/docs/")) {
        let text = fs::read_to_string(folder.path().join(&file[1..])).expect("text");
        for link in text.split("](../").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            assert!(installed.contains(&format!("/usr/share/doc/pgsqlchk/{link}")), "{file}: {link}");
            followed += 1;
        }
    }
    assert!(followed >= 10, "{followed}");
}

#[test]
fn installing_again_and_uninstalling_keep_a_changed_configuration() {
    let folder = Folder::new("install");
    install(folder.path(), &[]);
    let config = folder.path().join("etc/pgsqlchk/pgsqlchk.conf");
    fs::write(&config, "timeout = 1s\n").expect("change it");
    let said = install(folder.path(), &[]);
    assert!(said.contains("pgsqlchk.conf"), "{said}");
    assert_eq!(fs::read_to_string(&config).expect("still there"), "timeout = 1s\n");
    install(folder.path(), &["--uninstall"]);
    assert_eq!(files_below(folder.path()), ["/etc/pgsqlchk/pgsqlchk.conf".to_owned()].into());
}
