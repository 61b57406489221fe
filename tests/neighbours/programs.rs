//! The programs of a cluster manager beside those of PostgreSQL, in a folder of the test's own: nothing of it is installed
//! on this machine. PostgreSQL finds its extensions from where its programs are.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::folder::Folder;
use crate::support::postgresql::{ServerUser, copy_folder, prepare, program_path, run};

/// A folder with PostgreSQL's programs and those of some packages, and the home of who runs them.
pub struct Programs {
    folder: Folder,
    user: ServerUser,
    /// Where PostgreSQL's programs are.
    pub bin: PathBuf,
}

impl Programs {
    /// Copies PostgreSQL and these packages, whose names may have PostgreSQL's major version in the place of `MAJOR`.
    #[track_caller]
    pub fn of(packages: &[&str]) -> Programs {
        let user = ServerUser::current();
        let folder = Folder::of_server("neighbour", &user);
        let original = program_path("postgres");
        let version = original.parent().and_then(Path::parent).expect("a folder of a major version");
        let major = version.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        for of_version in [version.to_owned(), Path::new("/usr/share/postgresql").join(major)] {
            let copy = inside(folder.path(), &of_version);
            fs::create_dir_all(copy.parent().expect("a parent")).expect("create a folder");
            copy_folder(&of_version, &copy);
        }
        for package in packages {
            let package = package.replace("MAJOR", major);
            let usr = unpacked(&package).join("usr");
            copy_folder(&usr, folder.path());
        }
        let bin = inside(folder.path(), &version.join("bin"));
        Programs { folder, user, bin }
    }

    /// Where everything is: the path stands in the command line of what was started with a file in it.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file of the server's user.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.write(name, content);
        self.user.give(&path);
        path
    }

    /// A folder of the server's user.
    pub fn make_folder(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
        self.user.give(&path);
        path
    }

    /// A program of the folder, run as the server's user, who has nothing but this folder.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.find(program));
        if let Some((uid, gid)) = self.user.switch() {
            command.uid(uid).gid(gid);
        }
        command.env_clear();
        prepare(&mut command);
        let path = self.path().display();
        // What a test puts into `local` goes first.
        command.env("PATH", format!("{path}/local:{}:{path}/usr/bin:/usr/bin:/bin", self.bin.display()));
        command.env("HOME", self.path()).env("XDG_RUNTIME_DIR", self.path());
        command
    }

    /// Runs a program to its end; panics when it fails.
    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        run(self.command(program).args(args))
    }

    fn find(&self, program: &str) -> PathBuf {
        let folders = [self.bin.clone(), self.path().join("usr/bin")];
        let mut paths = folders.iter().map(|folder| folder.join(program));
        paths.find(|path| path.is_file()).unwrap_or_else(|| panic!("no {program} in {folders:?}"))
    }
}

/// The path as it is below another root.
fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// What packaging/install-dependencies has unpacked under Cargo's target folder.
#[track_caller]
fn unpacked(package: &str) -> PathBuf {
    let mut folders = Path::new(env!("CARGO_TARGET_TMPDIR")).ancestors().map(|folder| folder.join(package));
    folders
        .find(|path| path.join("usr").is_dir())
        .unwrap_or_else(|| panic!("no {package}: run make test-neighbours, which unpacks it"))
}
