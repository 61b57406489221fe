//! The packages that `make release` has made, those of an older version of the same tree, and nodes to install them on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::container::{Container, Root};
use crate::support::{patiently, secs};

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// The version before.
pub const OLDER: &str = "0.0.9";

/// A line that its sample configuration has and today's has not.
pub const OLDER_LINE: &str = "# As it was in the version before.";

/// Where packages of both versions are.
pub struct Packages {
    /// dist/, which `make test-system` has made.
    pub new: PathBuf,
    /// A folder of the tests'.
    pub older: PathBuf,
}

impl Packages {
    /// The options of systemd-nspawn that show them in the container: /new and /older, read-only.
    pub fn binds(&self) -> [String; 2] {
        [(&self.new, "new"), (&self.older, "older")]
            .map(|(folder, name)| format!("--bind-ro={}:/{name}", folder.display()))
    }
}

/// Makes what is missing of them, once for all tests.
#[track_caller]
pub fn packages() -> &'static Packages {
    static PACKAGES: OnceLock<Packages> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let new = dist();
        let target = target();
        let older = target.join("system/older");
        let tree = target.join("system/older-tree");
        for folder in [&older, &tree] {
            let _ = fs::remove_dir_all(folder);
            fs::create_dir_all(folder).expect("create a folder");
        }
        let script = format!(
            r#"tar -C "$1" --exclude=./target --exclude=./dist --exclude=./.git -c . | tar -x -C "$2"
            cd "$2"
            sed -i '0,/^version = .*/s//version = "{OLDER}"/' Cargo.toml
            sed -i '/^name = "pgsqlchk"$/{{n;s/.*/version = "{OLDER}"/}}' Cargo.lock
            echo '{OLDER_LINE}' >>packaging/pgsqlchk.conf
            # What lay elsewhere in that version: the template of one process per check, and xinetd's files.
            rm systemd/pgsqlchk-inetd@.service
            cp tests/system/old-units/* systemd/
            rm xinetd/pgsqlchk-15-second
            sed -i 's/^\tdisable  .*/\tdisable         = yes/' xinetd/*
            sed -i 's,644 $example $prefix/share/doc/pgsqlchk/examples/$example,644 $example /etc/xinetd.d/${{example##*/}},' \
                packaging/install
            sed -i 's,^%dir /etc/pgsqlchk$,&\n%config(noreplace) /etc/xinetd.d/*,' packaging/rpm/pgsqlchk.spec
            export CARGO_TARGET_DIR="$3" DIST="$4" SOURCE_DATE_EPOCH=1700000000
            packaging/deb/package x86_64
            packaging/rpm/package x86_64"#
        );
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &script, "bash", SOURCE]).args([&tree, &target, &older]);
        let output = command.stdin(Stdio::null()).output().expect("bash");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Packages { new, older }
    })
}

/// Cargo's target folder, where packaging/static has left the programs.
#[track_caller]
pub fn target() -> PathBuf {
    let mut folders = Path::new(env!("CARGO_TARGET_TMPDIR")).ancestors();
    let found = folders.find(|folder| folder.join("static").is_dir());
    found.expect("target/static: make test-system, which builds it").to_owned()
}

fn dist() -> PathBuf {
    let dist = Path::new(SOURCE).join("dist");
    let version = env!("CARGO_PKG_VERSION");
    for flavour in ["pgsqlchk", "pgsqlchk-tls"] {
        for name in [format!("{flavour}_{version}-1_amd64.deb"), format!("{flavour}-{version}-1.x86_64.rpm")]
        {
            assert!(dist.join(&name).is_file(), "dist/{name}: make test-system, which makes it");
        }
    }
    dist
}

/// A node with Debian's own PostgreSQL, which runs, and the packages in /new and /older; with further options of
/// systemd-nspawn.
pub fn boot_node(options: &[&str]) -> Container {
    boot_node_of(Root::Node, options)
}

/// The same of another system.
pub fn boot_node_of(root: Root, options: &[&str]) -> Container {
    let binds = packages().binds();
    let options: Vec<&str> = binds.iter().map(String::as_str).chain(options.iter().copied()).collect();
    let container = Container::boot_root(root, &options);
    patiently(secs(120), "PostgreSQL is ready", || {
        container.try_run(&["runuser", "-u", "postgres", "--", "psql", "-c", "SELECT 1"]).0
    });
    container
}
