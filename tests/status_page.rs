//! The status page as a browser shows it: what it says, that nothing is wrong with it, and that there is a picture.

mod support;

use std::fs;
use std::path::Path;

use support::chromium::{Visit, visit};
use support::folder::Folder;
use support::{Agent, Cluster, StopMode, eventually, secs};

const DESKTOP: (u32, u32) = (1280, 800);
const PHONE: (u32, u32) = (390, 844);

/// The page on a desktop by day and on a phone by night; both are complete and silent. The pictures are left in Cargo's
/// folder, for whoever wants to look.
#[track_caller]
fn look_at(agent: &Agent, name: &str) -> Visit {
    let url = format!("http://{}/status", agent.addr());
    let [page, _] = [("desktop", DESKTOP, false), ("phone", PHONE, true)].map(|(device, size, is_dark)| {
        let visit = visit(&url, size, is_dark);
        assert_eq!(visit.console, [""; 0], "{name}: the console is silent");
        assert_eq!(visit.size(), size, "{name}");
        assert!(visit.png.len() > 5_000, "{name}: there is something in the picture");
        let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("status-{name}-{device}.png"));
        fs::write(picture, &visit.png).expect("keep the picture");
        visit
    });
    page
}

#[track_caller]
fn assert_says(page: &Visit, condition: &str, headline: &str, reason: Option<&str>) {
    assert!(page.dom.contains(&format!("<body class=\"{condition}\">")), "{}", page.dom);
    assert_eq!(page.text_of("<h1>", "</h1>"), headline);
    assert_eq!(page.dom.contains("class=\"reason\""), reason.is_some());
    if let Some(reason) = reason {
        assert_eq!(page.text_of("<p class=\"reason\">", "</p>"), reason);
    }
}

/// Whoever reads "the console is silent" below has to know that it could speak.
#[test]
fn the_browser_says_what_a_page_does_wrong() {
    let folder = Folder::new("page");
    let file = folder.write("page.html", "<!DOCTYPE html><h1>x</h1><script>console.error('wrong')</script>");
    let visit = visit(&format!("file://{}", file.display()), PHONE, false);
    assert!(visit.console.iter().any(|line| line.contains("wrong")), "{:?}", visit.console);
}

#[test]
fn the_page_of_a_primary_that_drains_and_stops() {
    let primary = Cluster::primary();
    let folder = Folder::new("drain");
    let file = folder.path().join("drain").display().to_string();
    let agent = Agent::start(&["--dsn", &primary.dsn(), "--drain-file", &file]);

    let page = look_at(&agent, "primary");
    assert_says(&page, "primary", "Primary", None);
    assert!(page.dom.contains("<dt>Writes</dt><dd>accepted</dd>"), "{}", page.dom);
    assert!(page.dom.contains(&primary.psql("SELECT system_identifier FROM pg_control_system()")));
    assert!(page.text_of("<p class=\"server\">", "</p>").contains(&primary.psql("SHOW server_version")));
    assert!(!page.dom.contains("<svg"), "a primary has no lag to draw");

    folder.write("drain", "");
    let page = look_at(&agent, "draining");
    assert_says(&page, "draining", "Primary", Some("draining"));
    assert!(page.text_of("<ol class=\"events\">", "</li>").starts_with("\nDraining"), "{}", page.dom);
    primary.stop(StopMode::Fast);
    let page = look_at(&agent, "down-draining");
    assert_says(&page, "down", "Down", Some("connection-refused, draining"));

    fs::remove_file(folder.path().join("drain")).expect("remove the drain file");
    let page = look_at(&agent, "down");
    assert_says(&page, "down", "Down", Some("connection-refused"));
    assert!(!page.dom.contains("Timeline"), "nothing of the time before: {}", page.dom);
    let changes = page.dom.split("<b>").skip(1).filter_map(|rest| rest.split("</b>").next());
    assert_eq!(changes.collect::<Vec<_>>(), ["Draining no more", "Unavailable", "Draining", "Primary"]);
}

#[test]
fn the_page_of_a_standby_with_lag() {
    let primary = Cluster::primary();
    let standby = Cluster::standby_of(&primary);
    let tolerant = Agent::start(&["--dsn", &standby.dsn()]);
    let strict = Agent::start(&["--dsn", &standby.dsn(), "--max-lag", "1MB"]);
    standby.psql("SELECT pg_wal_replay_pause()");
    primary.psql("CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)");
    eventually(secs(20), "the lag is past the limit", || strict.get("/").reason == "lag-exceeded");

    let page = look_at(&tolerant, "standby");
    assert_says(&page, "standby", "Standby", None);
    let figures = page.text_of("<div class=\"figures\">", "</div>");
    assert!(figures.contains(" MB") && figures.contains("behind the sender's WAL"), "{figures}");
    assert!(page.dom.contains("<dt>Replay</dt><dd>paused</dd>"), "{}", page.dom);
    assert!(page.dom.contains("<dt>WAL receiver</dt><dd>streaming</dd>"), "{}", page.dom);
    assert!(page.dom.contains("<path class=\"trace\" d=\"M"), "the lag is drawn: {}", page.dom);

    let page = look_at(&strict, "lag-exceeded");
    assert_says(&page, "down", "Standby", Some("lag-exceeded"));
    // It may have been a standby for longer than it has lagged.
    assert!(page.text_of("<p class=\"since\">", "</p>").starts_with("standby for "), "{}", page.dom);
    assert!(page.dom.contains("Dashed: the limit, 1 MB."), "{}", page.dom);

    standby.psql("SELECT pg_wal_replay_resume()");
    primary.stop(StopMode::Fast);
    eventually(secs(20), "the receiver is gone", || strict.get("/").reason == "lag-unknown");
    let page = look_at(&strict, "lag-unknown");
    assert_says(&page, "down", "Standby", Some("lag-unknown"));
    let figures = page.text_of("<div class=\"figures\">", "</div>");
    assert_eq!(figures, "unknownthere is no WAL receiver");
    assert!(page.dom.contains("class=\"blind\""), "{}", page.dom);
}

/// Nothing is fetched, nothing runs, and it comes again by itself.
#[test]
fn the_page_stands_alone() {
    let agent = Agent::start(&["--dsn", "host=/nonexistent"]);
    let request = "GET /status HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n";
    let page = agent.ask(request.as_bytes()).body;
    for alien in ["<script", "http://", "https://", "url(", "@import", "src=", "onload", "<iframe", "<object"]
    {
        assert!(!page.contains(alien), "{alien}: {page}");
    }
    assert!(page.contains("<meta http-equiv=\"refresh\" content=\"5\">"), "{page}");
    assert!(page.contains("default-src 'none'"), "{page}");
}
