//! `xfs_quota` of xfsprogs: what it is told, and whether it did all of it. It splits a command at blanks, knows no
//! quotes, and walks by absolute paths without a look at how the walk ended (`quota/project.c`); what follows from that
//! is looked after here. Which directories are meant is the caller's business.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::QuotaError;
use crate::host::files::FileError;
use crate::host::process;

/// Where xfsprogs installs it on every distribution that tenantd runs on.
pub(super) const PROGRAM: &str = "/usr/sbin/xfs_quota";

/// Longest time for one walk: each file is touched once.
const TIME: Duration = Duration::from_mins(10);

/// Most that is kept of what the program says.
const SAID: usize = 64 * 1024;

/// The longest path that can be opened (`PATH_MAX` without its NUL).
const MAX_PATH: usize = 4095;

/// How much of a directory is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Itself and all below it.
    All,
    /// Itself alone.
    Itself,
}

/// Something to be done, as the program wants it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order(String);

impl Order {
    /// Gives a project a limit in bytes.
    pub fn limit(project: u32, bytes: u64) -> Self {
        Self(format!("limit -p bhard={bytes} {project}"))
    }

    /// Gives a directory to a project.
    pub fn assign(path: &Utf8Path, part: Part, project: u32) -> Result<Self, QuotaError> {
        Self::of_project("-s", path, part, project)
    }

    /// Takes a directory out of a project.
    pub fn release(path: &Utf8Path, part: Part, project: u32) -> Result<Self, QuotaError> {
        Self::of_project("-C", path, part, project)
    }

    fn of_project(
        verb: &str,
        path: &Utf8Path,
        part: Part,
        project: u32,
    ) -> Result<Self, QuotaError> {
        let depth = match part {
            Part::All => "",
            Part::Itself => "-d 0 ",
        };
        let path = word(path)?;
        Ok(Self(format!("project {verb} {depth}-p {path} {project}")))
    }

    /// Has it done in the file system that is mounted at `place`.
    ///
    /// # Errors
    /// The program cannot be run, or says that it did not do all of it.
    pub fn carry_out(&self, place: &Utf8Path) -> Result<(), QuotaError> {
        let mut program = Command::new(PROGRAM);
        program.args(["-x", "-c", &self.0, place.as_str()]);
        let output = process::run_blocking(program, TIME, SAID)?;
        if output.status.success() {
            return Ok(());
        }
        Err(QuotaError::Refused {
            order: self.0.clone(),
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

/// A path as one word of a command.
fn word(path: &Utf8Path) -> Result<&Utf8Path, QuotaError> {
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || "/._@:+-".contains(c);
    if path.is_absolute() && path.as_str().chars().all(is_harmless) {
        return Ok(path);
    }
    Err(QuotaError::Name(path.to_owned()))
}

/// Whether the program's walk reaches all that is below `root`: it opens nothing whose path is too long. Nobody may
/// write there meanwhile.
///
/// # Errors
/// It does not, or what is there cannot be looked at.
pub(super) fn check_reach(root: &Utf8Path) -> Result<(), QuotaError> {
    let mut waiting = vec![root.as_std_path().to_owned()];
    while let Some(directory) = waiting.pop() {
        let failed = |source: io::Error| QuotaError::Look(look_into(&directory, source));
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            if path.as_os_str().len() > MAX_PATH {
                return Err(QuotaError::TooDeep(root.to_owned()));
            }
            if entry.file_type().map_err(failed)?.is_dir() {
                waiting.push(path);
            }
        }
    }
    Ok(())
}

fn look_into(path: &Path, source: io::Error) -> FileError {
    FileError::Io {
        verb: "look into",
        path: Utf8PathBuf::from(path.to_string_lossy().as_ref()),
        source,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use rustix::fs::{Mode, OFlags};

    use super::*;

    #[test]
    fn orders_are_what_the_program_understands() {
        let path = Utf8Path::new("/var/lib/tenantd/tenants/foo-bar/state/data");
        let orders = [
            Order::limit(0x7000_0000, 10 << 30),
            Order::assign(path, Part::All, 0x7000_0000).unwrap(),
            Order::assign(path, Part::Itself, 0x7000_0000).unwrap(),
            Order::release(path, Part::All, 0x7000_0000).unwrap(),
            Order::release(path, Part::Itself, 0x7000_0000).unwrap(),
        ];
        insta::assert_snapshot!(orders.map(|order| order.0).join("\n"), @r"
        limit -p bhard=10737418240 1879048192
        project -s -p /var/lib/tenantd/tenants/foo-bar/state/data 1879048192
        project -s -d 0 -p /var/lib/tenantd/tenants/foo-bar/state/data 1879048192
        project -C -p /var/lib/tenantd/tenants/foo-bar/state/data 1879048192
        project -C -d 0 -p /var/lib/tenantd/tenants/foo-bar/state/data 1879048192
        ");
    }

    #[rstest]
    #[case::more_words("/state/a -p .")]
    #[case::quotes("/state/\"a\"")]
    #[case::another_line("/state/a\nquit")]
    #[case::a_tab("/state/a\t-p")]
    #[case::an_option("-p")]
    fn no_name_becomes_more_than_one_word(#[case] path: &str) {
        let refused = Order::assign(path.into(), Part::All, 7);
        assert!(matches!(refused, Err(QuotaError::Name(_))), "{refused:?}");
    }

    #[test]
    fn a_tree_that_is_too_deep_to_be_walked_is_known_for_it() {
        let guard = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(guard.path()).unwrap();
        fs::create_dir_all(root.join("data/plain")).unwrap();
        // A link leads nowhere, a FIFO is not opened.
        std::os::unix::fs::symlink("/", root.join("data/root")).unwrap();
        let fifo = root.join("data/pipe");
        nix::unistd::mkfifo(fifo.as_std_path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        check_reach(root).unwrap();

        // As a process makes it that changes its directory.
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let mut at = rustix::fs::open(root.as_std_path(), flags, Mode::empty()).unwrap();
        let name = "d".repeat(250);
        for _ in 0..20 {
            rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, &name, flags, Mode::empty()).unwrap();
        }
        let refused = check_reach(root);
        assert!(
            matches!(refused, Err(QuotaError::TooDeep(_))),
            "{refused:?}"
        );
    }
}
