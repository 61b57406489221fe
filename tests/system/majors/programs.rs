//! One major version of PostgreSQL's server programs, as the npm package of that version has them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::folder::Folder;
use crate::support::postgresql::{ServerUser, copy_folder};

/// initdb, pg_ctl and postgres, and what they need. Gone when dropped.
pub struct Programs {
    /// The major version.
    pub major: u32,
    /// Who runs them.
    pub user: ServerUser,
    folder: Folder,
}

impl Programs {
    /// Those of a version that packaging/install-dependencies has fetched.
    #[track_caller]
    pub fn of(major: u32) -> Programs {
        let package = installed(major);
        let folder = Folder::new(&format!("postgresql-{major}"));
        // The server's user can enter /tmp, but perhaps not the folder of the repository.
        let own = folder.path().join("package");
        if !is_linked(&package, &own) {
            let _ = fs::remove_dir_all(&own);
            copy_folder(&package, &own);
        }
        restore_links(&own);
        Programs { major, user: ServerUser::current(), folder }
    }

    /// The folder of its libraries, its clients' among them.
    pub fn libraries(&self) -> PathBuf {
        self.folder.path().join("package/native/lib")
    }

    /// One of them, to be run as the server's user.
    pub fn command(&self, program: &str) -> Command {
        let path = self.folder.path().join("package/native/bin").join(program);
        // An absolute path is found whatever else is installed.
        self.user.command(path.to_str().expect("UTF-8"))
    }
}

/// Where packaging/install-dependencies put the package: somewhere in Cargo's target folder.
#[track_caller]
fn installed(major: u32) -> PathBuf {
    let folders = Path::new(env!("CARGO_TARGET_TMPDIR")).ancestors();
    let mut candidates = folders.map(|folder| folder.join(format!("postgresql-majors/node_modules/{major}")));
    candidates
        .find(|path| path.is_dir())
        .unwrap_or_else(|| panic!("PostgreSQL {major}: run make test-system, which fetches it"))
}

/// Hard links are made at once and take no space; a file system other than that of /tmp has none to give.
fn is_linked(from: &Path, to: &Path) -> bool {
    let output = Command::new("cp").args(["-a", "--link"]).arg(from).arg(to).output().expect("run cp");
    output.status.success()
}

/// An npm package holds no symbolic links. This one lists them in a file, for an install script that is not run here.
fn restore_links(package: &Path) {
    let list = package.join("native/pg-symlinks.json");
    let text = fs::read_to_string(&list).unwrap_or_else(|error| panic!("{}: {error}", list.display()));
    // [{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so"}, …]
    let words: Vec<&str> = text.split('"').skip(1).step_by(2).collect();
    for entry in words.chunks(4) {
        let ["source", source, "target", target] = entry else {
            panic!("{}: {entry:?} is no link", list.display());
        };
        let (source, target) = (Path::new(source), Path::new(target));
        assert_eq!(source.parent(), target.parent(), "the file is beside its link");
        symlink(source.file_name().expect("a file"), package.join(target))
            .unwrap_or_else(|error| panic!("link {}: {error}", target.display()));
    }
}
