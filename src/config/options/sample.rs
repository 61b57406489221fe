//! `packaging/pgsqlchk.conf` is made of the table: `PGSQLCHK_WRITE_SAMPLE=1 cargo test --lib sample` writes it anew.

use std::fs;

use super::{DefaultValue, Effect, OptionInfo, SETTINGS};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/pgsqlchk.conf");

const WIDTH: usize = 118;

/// Where an option stands in the sample configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    PostgreSql,
    Clients,
    Standbys,
    Peers,
    Work,
    Log,
    Running,
}

const HEAD: &str = "\
# /etc/pgsqlchk/pgsqlchk.conf: the options of pgsqlchk, in every home (systemd, xinetd, by hand).
#
# One option per line, \"name = value\"; the command line wins. Each one stands here with its default, commented out: take
# the \"#\" away and change the value. Have a running agent take changes over: systemctl reload pgsqlchk
#
# Look whether it is right: sudo -u pgsqlchk pgsqlchk check
# All of it is explained in pgsqlchk.conf(5), pgsqlchk(8) and /usr/share/doc/pgsqlchk/README.md.
";

impl Group {
    const ALL: [Group; 7] = [
        Group::PostgreSql,
        Group::Clients,
        Group::Standbys,
        Group::Peers,
        Group::Work,
        Group::Log,
        Group::Running,
    ];

    fn title(self) -> &'static str {
        match self {
            Group::PostgreSql => "PostgreSQL",
            Group::Clients => "Clients",
            Group::Standbys => "Standbys and maintenance",
            Group::Peers => "Agents of the other nodes",
            Group::Work => "Whether a client can work here",
            Group::Log => "Log",
            Group::Running => "How it runs: set by the units and by xinetd's files, seldom here",
        }
    }
}

fn sample() -> String {
    let mut text = HEAD.to_owned();
    for group in Group::ALL {
        let title = group.title();
        text.push_str(&format!("\n# --- {title} {:-<1$}\n", "", WIDTH - 7 - title.len()));
        for (option, effect) in SETTINGS.iter().filter_map(|option| Some((option, option.effect.as_ref()?))) {
            if effect.sample.0 == group {
                text.push_str(&paragraph(option, effect));
            }
        }
    }
    text
}

fn paragraph(option: &OptionInfo, effect: &Effect) -> String {
    let (_, remark, values) = effect.sample;
    let mut letters = option.help.chars();
    let first = letters.next().expect("a help").to_uppercase();
    let meaning = format!("{first}{}. {remark}", letters.as_str());
    let mut text = String::from("\n#");
    let mut width = 1;
    for word in meaning.split_whitespace() {
        if width + 1 + word.len() > WIDTH {
            text.push_str("\n#");
            width = 1;
        }
        text.push_str(&format!(" {word}"));
        width += 1 + word.len();
    }
    if let DefaultValue::Value(default) | DefaultValue::Described(default) = option.default {
        text.push_str(&format!("\n# Default: {default}"));
    }
    for value in values {
        text.push_str(&format!("\n#{} = {value}", option.word));
    }
    text + "\n"
}

#[test]
fn the_sample_configuration_is_made_of_the_table() {
    if std::env::var_os("PGSQLCHK_WRITE_SAMPLE").is_some() {
        fs::write(PATH, sample()).expect("write the sample");
    }
    let shipped = fs::read_to_string(PATH).expect("the sample");
    assert_eq!(shipped, sample(), "PGSQLCHK_WRITE_SAMPLE=1 cargo test --lib sample writes it anew");
}
