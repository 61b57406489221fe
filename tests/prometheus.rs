//! Prometheus, the real one: scraping the agent and judging its alerts, both as the documents say.

mod support;

use support::folder::Folder;
use support::pages::{fenced, page};
use support::prometheus::{Prometheus, promtool};
use support::{Agent, Cluster, StopMode, eventually, secs};

/// The YAML of the page: how to scrape, and the alerts.
fn yaml() -> [String; 2] {
    let blocks = fenced(&page("docs/monitoring.md"), "yaml").into_iter();
    let mut blocks =
        blocks.filter(|block| block.starts_with("scrape_configs:") || block.starts_with("groups:"));
    [blocks.next().expect("a scrape_config"), blocks.next().expect("alert rules")]
}

const SCENES: &str = r#"
rule_files: [rules.yml]
evaluation_interval: 30s
tests:
  - name: all is well, then a second primary, then none
    interval: 30s
    input_series:
      - { series: 'up{job="pgsqlchk",instance="a"}', values: '1x60' }
      - { series: 'up{job="pgsqlchk",instance="b"}', values: '1x60' }
      - { series: 'pgsqlchk_up{job="pgsqlchk",instance="a"}', values: '1x40 0x20' }
      - { series: 'pgsqlchk_up{job="pgsqlchk",instance="b"}', values: '1x60' }
      - { series: 'pgsqlchk_primary{job="pgsqlchk",instance="a"}', values: '1x39 stale' }
      - { series: 'pgsqlchk_primary{job="pgsqlchk",instance="b"}', values: '0x19 1x19 0x20' }
      - { series: 'pgsqlchk_standby{job="pgsqlchk",instance="b"}', values: '1x19 0x19 1x20' }
      - { series: 'pgsqlchk_replication_lag_bytes{job="pgsqlchk",instance="b"}', values: '9x18 stale' }
      - { series: 'pgsqlchk_replay_paused{job="pgsqlchk",instance="b"}', values: '0x19 stale 0x19 1x20' }
      - { series: 'pgsqlchk_replay_delay_seconds{job="pgsqlchk",instance="c"}', values: '0x40 300x20' }
      - { series: 'pgsqlchk_writable{job="pgsqlchk",instance="a"}', values: '1x19 0x39' }
      - { series: 'pgsqlchk_pooler_up{job="pgsqlchk",instance="b",pooler="b:6432"}', values: '1x59' }
      - { series: 'pgsqlchk_pooler_up{job="pgsqlchk",instance="b",pooler="b:6433"}', values: '1x39 0x19' }
    alert_rule_test:
      - { eval_time: 8m, alertname: ClientsCannotWork, exp_alerts: [] }
      - eval_time: 28m
        alertname: ClientsCannotWork
        exp_alerts:
          - exp_labels: { job: pgsqlchk, instance: a }
            exp_annotations: { summary: 'a: no commit comes back, or a pooler does not answer' }
          - exp_labels: { job: pgsqlchk, instance: b, pooler: 'b:6433' }
            exp_annotations: { summary: 'b: no commit comes back, or a pooler does not answer' }
      - { eval_time: 8m, alertname: NotOnePrimary, exp_alerts: [] }
      - { eval_time: 8m, alertname: PostgresqlDown, exp_alerts: [] }
      - { eval_time: 8m, alertname: StandbyNotFollowing, exp_alerts: [] }
      - { eval_time: 8m, alertname: ReplayStandsStill, exp_alerts: [] }
      - eval_time: 18m
        alertname: NotOnePrimary
        exp_alerts:
          - { exp_labels: { job: pgsqlchk }, exp_annotations: { summary: 'pgsqlchk: 2 primaries' } }
      - eval_time: 28m
        alertname: NotOnePrimary
        exp_alerts:
          - { exp_labels: { job: pgsqlchk }, exp_annotations: { summary: 'pgsqlchk: 0 primaries' } }
      - eval_time: 28m
        alertname: PostgresqlDown
        exp_alerts:
          - exp_labels: { job: pgsqlchk, instance: a }
            exp_annotations: { summary: 'a: PostgreSQL or its agent does not answer' }
      - eval_time: 28m
        alertname: StandbyNotFollowing
        exp_alerts:
          - exp_labels: { job: pgsqlchk, instance: b }
            exp_annotations: { summary: 'b: lags by more than 256 MB, or nobody knows' }
      - eval_time: 28m
        alertname: ReplayStandsStill
        exp_alerts:
          - exp_labels: { job: pgsqlchk, instance: b }
            exp_annotations: { summary: 'b: replay is paused or delayed' }
          - exp_labels: { job: pgsqlchk, instance: c }
            exp_annotations: { summary: 'c: replay is paused or delayed' }
"#;

#[test]
fn the_documented_alerts_are_valid_and_fire_when_they_should() {
    let [_, rules] = yaml();
    let folder = Folder::new("rules");
    let file = folder.write("rules.yml", &rules);
    let said = promtool(&["check", "rules"], &file);
    assert!(said.contains("SUCCESS: 5 rules found"), "{said}");
    promtool(&["test", "rules"], &folder.write("scenes.yml", SCENES));
}

#[test]
fn a_real_prometheus_scrapes_the_agent_as_documented() {
    let primary = Cluster::primary();
    let agent = Agent::start(&["--dsn", &primary.dsn()]);
    let [scrape, _] = yaml();
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
