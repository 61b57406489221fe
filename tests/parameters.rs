//! What may stand behind the question mark of a path, and how the agent refuses what may not.

mod support;

use support::pages::page;
use support::servers::servers;
use support::{Agent, Cluster};

#[test]
fn a_parameter_that_means_nothing_is_a_400_that_says_which() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    let size = "lag: expected a number and a unit (16MB; B, kB, MB, GB, TB)";
    let time = "lag_time: expected a whole number and a unit (2s, 500ms)";
    for (path, what) in [
        ("/?lag", size),
        ("/?lag=", size),
        ("/?lag=-1", size),
        ("/?lag=1.5.5MB", size),
        ("/?lag=.5MB", size),
        ("/?lag=16%ZZB", size),
        ("/?lag=abc", size),
        ("/?lag=16M", "lag: unknown unit M, expected B, kB, MB, GB or TB"),
        ("/?lag=16MiB", "lag: unknown unit MiB, expected B, kB, MB, GB or TB"),
        ("/?lag=16mb", "lag: unknown unit mb, expected B, kB, MB, GB or TB"),
        ("/?lag=99999999TB", "lag: the number is too large"),
        ("/replica?lag_time=soon", time),
        ("/replica?lag_time=10", "lag_time: a duration needs a unit (2s, 500ms)"),
        ("/replica?lag_time=10sec", "lag_time: unknown unit sec, expected us, ms, s, min, h or d"),
        ("/read-only?replication_state=stopped", "replication_state: expected streaming"),
        ("/read-only?replication_state", "replication_state: expected streaming"),
        ("/read-only?lag=1&lag=1", "lag is given twice"),
        ("/read-only?lag_time=1s&lag=1&lag_time=1s", "lag_time is given twice"),
        ("/?Lag=1", "unknown parameter \"Lag\" (lag, lag_time, replication_state, replay, mode, tag_NAME)"),
        ("/?lag=1&", "unknown parameter \"\" (lag, lag_time, replication_state, replay, mode, tag_NAME)"),
        ("/?tag=1", "unknown parameter \"tag\" (lag, lag_time, replication_state, replay, mode, tag_NAME)"),
        ("/primary?lag=1", "lag: /primary takes no parameters"),
        ("/master?replication_state=streaming", "replication_state: /master takes no parameters"),
        ("/read-write?lag_time=1s", "lag_time: /read-write takes no parameters"),
        ("/health?lag=1", "lag: /health takes no parameters"),
        ("/readiness?lag=1&lag_time=1s", "lag_time: /readiness takes lag and mode alone"),
        ("/readiness?mode=write", "mode: it needs a limit beside it (lag=16MB)"),
        ("/readiness?lag=1MB&mode=read", "mode: expected apply or write"),
        (
            "/primary?else=maint",
            r#"else: only in the line of an agent-check (agent-send "/primary?else=maint\n")"#,
        ),
        ("/replica?else=down", "else: expected maint"),
        ("/health?else=maint", "else: /health takes no parameters"),
        ("/replica?mode=apply&lag=1MB", "mode: /replica takes no such parameter"),
        ("/standby-leader?lag=1MB", "lag: /standby-leader takes no parameters"),
        ("/replica?tag_dc=a&tag_dc=b", "tag_dc is given twice"),
        ("/health?tag_dc=a", "tag_dc: /health takes no parameters"),
        ("/liveness?lag=1", "lag: /liveness takes no parameters"),
    ] {
        let reply = agent.get(path);
        let expected = ("400 Bad Request".to_owned(), format!("Bad Request: {what}\n"));
        assert_eq!((reply.line(), reply.body), expected, "{path}");
    }
    for query in [
        "lag=0&lag_time=0&replication_state=streaming",
        "lag=1.5GB",
        "lag=16%4DB",
        "lag=16%20MB",
        "lag=16+MB",
    ] {
        assert_eq!(agent.get(&format!("/?{query}")).line(), "200 Primary", "{query}");
    }
}

/// The rows of the documented table of parameters: name and example, without their backticks.
fn documented_parameters() -> Vec<(String, String)> {
    let page = page("docs/answers.md");
    let rows = page.lines().skip_while(|line| *line != "| parameter | example | meaning |").skip(2);
    let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
            assert!(cells.len() == 3 && !cells[2].trim().is_empty(), "{line}");
            (cell(cells[0]), cell(cells[1]))
        })
        .collect()
}

#[test]
fn the_documents_list_the_parameters_that_there_are_and_their_examples_work() {
    let servers = servers();
    let agent = Agent::start(&["--dsn", &servers.standby.dsn(), "--tag", "dc=north"]);
    let documented = documented_parameters();
    let names: Vec<&str> = documented.iter().map(|(name, _)| name.as_str()).collect();
    let refusal = agent.get("/?nothing").body;
    let known =
        refusal.trim().rsplit_once('(').expect("a list in brackets").1.trim_end_matches(')').to_owned();
    assert_eq!(
        known.split(", ").collect::<Vec<_>>(),
        names,
        "the program (left) and docs/answers.md (right)"
    );
    for (name, example) in &documented {
        let name = name.trim_end_matches("NAME");
        assert!(example.contains(&format!("?{name}")), "{example}");
        assert_eq!(agent.get(example).line(), "200 Standby", "{example}");
    }
}
