//! Prometheus, the real one: scraping the agent and judging its alerts, both as the documents say.

mod support;

use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use support::drain::Switch;
use support::folder::Folder;
use support::pages::{code, fenced, page, table};
use support::peers::Ring;
use support::pgbouncer::{Pgbouncer, Pool, PoolMode};
use support::prometheus::{Prometheus, promtool};
use support::{Agent, Cluster, Haproxy, StopMode, eventually, free_port, secs};

const RULES: &str = include_str!("../packaging/prometheus/pgsqlchk.rules.yml");

/// Of every alert one that fires and one that does not.
const SCENES: &str = include_str!("alerts/scenes.yml");

const DASHBOARD: &str = include_str!("../packaging/prometheus/pgsqlchk-dashboard.json");

/// The YAML of the page: how to scrape.
fn scrape_config() -> String {
    let blocks = fenced(&page("docs/monitoring.md"), "yaml").into_iter();
    blocks.into_iter().find(|block| block.starts_with("scrape_configs:")).expect("a scrape_config")
}

/// What stands after `key` on the lines that have it.
fn values<'a>(yaml: &'a str, key: &str) -> Vec<&'a str> {
    yaml.lines().filter_map(|line| Some(line.split_once(key)?.1.trim())).collect()
}

#[test]
fn the_alerts_are_valid_and_fire_when_they_should_and_only_then() {
    let folder = Folder::new("rules");
    let file = folder.write("pgsqlchk.rules.yml", RULES);
    let alerts = values(RULES, "- alert: ");
    let said = promtool(&["check", "rules"], &file);
    assert!(said.contains(&format!("SUCCESS: {} rules found", alerts.len())), "{said}");
    promtool(&["test", "rules"], &folder.write("scenes.yml", SCENES));

    let silent = values(SCENES, "- { eval_time: ");
    for alert in alerts {
        let names = |place: &&&str| place.contains(&format!("alertname: {alert}, exp_alerts: []"));
        assert!(silent.iter().any(|place| names(&place)), "no scene has {alert} silent");
        let fires = format!("        alertname: {alert}\n        exp_alerts:\n          - ");
        assert!(SCENES.contains(&fires), "no scene has {alert} fire");
    }
}

#[test]
fn the_page_lists_the_alerts_that_there_are() {
    let rows = table(&page("docs/monitoring.md"), "| alert | after | when |");
    let listed: Vec<(&str, &str)> = rows.iter().map(|row| (code(&row[0])[0], row[1].as_str())).collect();
    let parts = RULES.split("- alert: ").skip(1);
    let there: Vec<(&str, &str)> = parts
        .map(|part| {
            let name = part.lines().next().unwrap_or_default();
            (name, values(part, "        for: ").first().copied().unwrap_or("at once"))
        })
        .collect();
    assert_eq!(listed, there, "docs/monitoring.md (left) and packaging/prometheus (right)");
}

#[test]
fn a_real_prometheus_scrapes_the_agent_as_documented() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    let scrape = scrape_config();
    let targets = r#"["192.0.2.11:23267", "192.0.2.12:23267"]"#;
    assert!(scrape.contains(targets), "{scrape}");
    let scrape = scrape.replace(targets, &format!("[\"{}\"]", agent.addr()));
    let prometheus = Prometheus::start(&format!("global:\n  scrape_interval: 1s\n{scrape}"));
    let has = |expression: &str, value: &str| {
        let answer = prometheus.query(expression);
        answer.contains(&format!("\"instance\":\"{}\"", agent.addr()))
            && answer.contains(&format!(",\"{value}\"]"))
    };
    eventually(secs(30), "Prometheus has the agent's metrics", || has("pgsqlchk_primary", "1"));
    assert!(has("up", "1"), "{}", prometheus.query("up"));
    assert!(has("pgsqlchk_probe_duration_seconds_bucket", "0") || has("pgsqlchk_standby", "0"));

    primary.stop(StopMode::Fast);
    eventually(secs(30), "Prometheus knows that PostgreSQL is down", || has("pgsqlchk_up", "0"));
    assert!(has("up", "1"), "the agent is not");
    let gone = prometheus.query("pgsqlchk_primary");
    assert!(gone.contains("\"result\":[]"), "a role that was not observed is gone at once: {gone}");
}

/// Every expression of the dashboard by the title of its panel, with Grafana's variables replaced.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let of_panel = |panel: &Value| {
        let title = panel["title"].as_str().expect("a title").to_owned();
        let targets = panel["targets"].as_array().expect("targets").clone();
        targets.into_iter().map(move |target| {
            let expression = target["expr"].as_str().expect("an expression");
            (title.clone(), expression.replace("$job", "pgsqlchk").replace("$__rate_interval", "8s"))
        })
    };
    panels.iter().filter(|panel| panel["type"] != "row").flat_map(of_panel).collect()
}

#[test]
fn every_query_of_the_dashboard_has_an_answer_after_a_failover() {
    let ring = Ring::of(2);
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let pool = Pool { mode: PoolMode::Session, forced_user: None, size: 5, more: "" };
    let pooler = Pgbouncer::before(&standby, pool);
    let pooler = format!("--pooler={}", pooler.address());
    let switch = Switch::new();
    let drain = format!("--drain-file={}", switch.text());
    let options = ["--timeout=1s", "--write-probe=1s", &drain];
    let old = ring.start(0, &primary, &options);
    let new = ring.start(1, &standby, &[&options[..], &[&pooler]].concat());
    let _haproxy = Haproxy::start(&format!(
        "listen ReadWrite\n    bind 127.0.0.1:{}\n    option httpchk GET /primary\n    http-check send-state\n    \
         server old 127.0.0.1:1 check addr 127.0.0.1 port {} inter 500ms\n",
        free_port(),
        old.addr().port()
    ));
    let targets = r#"["192.0.2.11:23267", "192.0.2.12:23267"]"#;
    let ours = format!("[\"{}\", \"{}\"]", old.addr(), new.addr());
    let scrape = scrape_config().replace(targets, &ours);
    let folder = Folder::new("rules");
    let rules = folder.write("pgsqlchk.rules.yml", RULES);
    let prometheus = Prometheus::start(&format!(
        "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: [\"{}\"]\n{scrape}",
        rules.display()
    ));
    let began = unix_now();
    let is = |agent: &Agent, expression: &str| {
        prometheus.query(expression).contains(&format!("\"instance\":\"{}\"", agent.addr()))
    };
    eventually(secs(20), "both are scraped", || {
        is(&old, "pgsqlchk_primary%3D%3D1") && is(&new, "pgsqlchk_standby%3D%3D1")
    });
    eventually(secs(20), "HAProxy is heard", || is(&old, "pgsqlchk_haproxy_up%3D%3D1"));
    eventually(secs(20), "the lag is known", || is(&new, "pgsqlchk_replication_lag_bytes"));
    standby.promote();
    switch.on();
    eventually(secs(20), "the new primary is scraped", || is(&new, "pgsqlchk_primary%3D%3D1"));
    eventually(secs(20), "the old one is known as superseded", || is(&old, "pgsqlchk_superseded%3D%3D1"));
    primary.stop(StopMode::Fast);
    eventually(secs(20), "the old primary's end is scraped", || is(&old, "pgsqlchk_up%3D%3D0"));

    let queries = queries();
    assert!(queries.len() > 20, "{queries:?}");
    let unanswered = || {
        let is_empty = |(_, expression): &&(String, String)| {
            let answer = prometheus.query_range(expression, began, unix_now());
            assert_eq!(answer["status"], "success", "{expression}: {answer}");
            answer["data"]["result"].as_array().is_none_or(Vec::is_empty)
        };
        queries.iter().filter(is_empty).collect::<Vec<_>>()
    };
    let mut left = unanswered();
    let deadline = Instant::now() + secs(15);
    while !left.is_empty() && Instant::now() < deadline {
        thread::sleep(secs(1));
        left = unanswered();
    }
    assert!(left.is_empty(), "without a single sample: {left:#?}");
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

#[test]
fn the_dashboard_knows_every_metric_of_the_agent() {
    let documented = table(&page("docs/monitoring.md"), "| metric | type | meaning |");
    for row in documented {
        let name = code(&row[0])[0].split('{').next().unwrap_or_default().to_owned();
        // Of the process itself it shows what grows.
        let is_of_process = name.starts_with("process_");
        assert!(is_of_process || DASHBOARD.contains(&name), "{name} is in no panel");
    }
}
