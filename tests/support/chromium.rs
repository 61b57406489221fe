//! A real browser without a window, which reaches nothing but this host.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use super::folder::Folder;
use super::process::wait_for_exit;
use super::secs;

/// Nothing is looked up and nobody else is called: not for updates, not for anything.
const ALONE: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--enable-logging=stderr",
    "--hide-scrollbars",
];

/// A page as the browser has it.
pub struct Visit {
    /// The document after loading, as HTML.
    pub dom: String,
    /// A screenshot.
    pub png: Vec<u8>,
    /// What the page's console has said.
    pub console: Vec<String>,
}

/// Loads a page into a window of this size.
#[track_caller]
pub fn visit(url: &str, (width, height): (u32, u32), is_dark: bool) -> Visit {
    let folder = Folder::new("chromium");
    let (screenshot, dom, log) =
        (folder.path().join("page.png"), folder.path().join("dom"), folder.path().join("log"));
    let create = |path| File::create(path).expect("a file for the browser's output");
    let mut command = Command::new("chromium");
    command.args(ALONE).arg("--dump-dom").arg(format!("--window-size={width},{height}"));
    command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
    command.arg(format!("--screenshot={}", screenshot.display()));
    if is_dark {
        command.arg("--force-dark-mode");
    }
    // Whatever else it keeps, it keeps there.
    command.arg(url).env("HOME", folder.path()).env("XDG_RUNTIME_DIR", folder.path());
    command.stdin(Stdio::null()).stdout(create(&dom)).stderr(create(&log));
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; run make test: it installs Chromium"));
    let status = wait_for_exit(&mut child, secs(60));
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let log = fs::read_to_string(log).unwrap_or_default();
    assert!(status.is_some_and(|status| status.success()), "chromium: {status:?}\n{log}");
    Visit {
        dom: fs::read_to_string(dom).expect("the DOM is UTF-8"),
        png: fs::read(screenshot).unwrap_or_else(|error| panic!("no screenshot: {error}\n{log}")),
        console: log.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect(),
    }
}

impl Visit {
    /// Width and height of the screenshot, from the PNG's own header.
    pub fn size(&self) -> (u32, u32) {
        assert_eq!(&self.png[..8], b"\x89PNG\r\n\x1a\n", "the screenshot is a PNG");
        let number = |at: usize| u32::from_be_bytes(self.png[at..at + 4].try_into().expect("four bytes"));
        (number(16), number(20))
    }

    /// The text of the first element that begins with `open`, without markup.
    #[track_caller]
    pub fn text_of(&self, open: &str, close: &str) -> String {
        let (_, rest) = self.dom.split_once(open).unwrap_or_else(|| panic!("no {open} in {}", self.dom));
        let (inner, _) = rest.split_once(close).expect("a closing tag");
        let mut text = String::new();
        for part in inner.split('<') {
            text.push_str(part.split_once('>').map_or(part, |(_, after)| after));
        }
        text
    }
}
