//! Project quotas of XFS: which file system has them, and giving a tenant's directories to its project.
//!
//! Limits are set by `xfs_quota` of xfsprogs, in a unit of its own that has the privileges for it. Whether one is
//! kept is not asked there but measured: below a directory with a limited project, `statfs` tells the
//! project's limit and what is left of it (`xfs_qm_statvfs` of the kernel), to everyone, the agent included.

mod program;

use camino::{Utf8Path, Utf8PathBuf};

use super::files::FileError;
use super::process::ProcessError;
use super::space::{self, Space};
use program::{Order, PROGRAM, Part, check_reach};

/// The largest block of XFS; a limit is kept in whole blocks.
const BLOCK: u64 = 64 * 1024;

/// Why a storage limit could not be set.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    /// The file system has no project quotas.
    #[error(
        "the file system of {0} keeps no project quotas: it must be XFS, mounted with `prjquota`"
    )]
    NoQuotas(Utf8PathBuf),
    /// The program could not be run.
    #[error("a project quota cannot be set; xfsprogs must be installed")]
    Program(#[from] ProcessError),
    /// A directory could not be looked at.
    #[error("a project quota cannot be measured")]
    Look(#[from] FileError),
    /// A path is more than one word to `xfs_quota`.
    #[error("{0:?} cannot be named to xfs_quota: give it another name")]
    Name(Utf8PathBuf),
    /// The program did not do what it was told, or not all of it.
    #[error("xfs_quota did not carry out `{order}`: {said}")]
    Refused {
        /// What it was told.
        order: String,
        /// What it said.
        said: String,
    },
    /// Something in a directory is beyond the longest path.
    #[error(
        "in {0} are paths of more than 4095 bytes, which no quota reaches: have them removed, \
         and restart the tenant"
    )]
    TooDeep(Utf8PathBuf),
    /// The directories have no project yet, and an agent may write there while they are walked.
    #[error(
        "{0} is given its limit before an agent starts, not while it runs: `tenantd restart` its tenant"
    )]
    InUse(Utf8PathBuf),
    /// The program ran, and the file system keeps another limit.
    #[error("the file system of {path} does not keep the limit of {limit} bytes")]
    NotKept {
        /// The directory.
        path: Utf8PathBuf,
        /// What it should be.
        limit: u64,
    },
}

/// The file system of `path`, if it is one that keeps project quotas: the place where it is mounted.
/// `mounts` is the text of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
pub fn mounted_with_quotas(mounts: &str, path: &Utf8Path) -> Option<Utf8PathBuf> {
    let mut nearest: Option<(&Utf8Path, bool)> = None;
    for line in mounts.lines() {
        let Some((place, has_quotas)) = mount(line) else {
            continue;
        };
        // Of two at one place, the later hides the earlier.
        let is_nearer = |(found, _): (&Utf8Path, bool)| place.starts_with(found);
        if path.starts_with(place) && nearest.is_none_or(is_nearer) {
            nearest = Some((place, has_quotas));
        }
    }
    let (place, has_quotas) = nearest?;
    has_quotas.then(|| place.to_owned())
}

/// The mount point of a line of `mountinfo`, and whether project quotas are kept there.
fn mount(line: &str) -> Option<(&Utf8Path, bool)> {
    let (fields, super_block) = line.split_once(" - ")?;
    let place = Utf8Path::new(fields.split(' ').nth(4)?);
    let mut super_block = super_block.split(' ');
    let kind = super_block.next()?;
    let options = super_block.nth(1)?;
    let has_quotas = kind == "xfs"
        && options
            .split(',')
            .any(|o| matches!(o, "prjquota" | "pquota"));
    Some((place, has_quotas))
}

/// Whether this host can limit what is below `path`. It looks at the mounts and for the program.
pub fn is_possible(path: &Utf8Path) -> bool {
    Utf8Path::new(PROGRAM).exists() && place_of(path).is_some()
}

fn place_of(path: &Utf8Path) -> Option<Utf8PathBuf> {
    // The file is as long as there are mounts: a host of a hundred containers has thousands of lines.
    let mounts = super::files::read(Utf8Path::new("/proc/self/mountinfo"), 16 << 20).ok()?;
    mounted_with_quotas(&String::from_utf8_lossy(&mounts), path)
}

/// The room below a directory, and that of its whole file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    here: Space,
    whole: Space,
}

impl Room {
    /// Looks at `directory`, and at `outside`, a directory of the same file system that has no limit.
    pub fn of(directory: &Utf8Path, outside: &Utf8Path) -> Result<Self, FileError> {
        Ok(Self {
            here: space::of(directory)?,
            whole: space::of(outside)?,
        })
    }

    /// Whether `limit` is kept: there is as much room as it says, or the file system itself has less.
    pub fn keeps(self, limit: u64) -> bool {
        let expected = limit.min(self.whole.total);
        self.here.total <= expected && expected - self.here.total < BLOCK
    }

    /// Whether there is any limit that can be told from the file system's own size.
    fn is_limited(self) -> bool {
        self.here.total != self.whole.total
    }

    /// What is used of a limit that is kept. Where the file system has less than the limit it does not tell.
    pub fn used(self, limit: u64) -> Option<u64> {
        let is_counted = self.keeps(limit) && limit < self.whole.total;
        is_counted.then(|| self.here.total.saturating_sub(self.here.free))
    }
}

/// A tenant's directories, and what they may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// The project.
    pub project: u32,
    /// The limit, in bytes.
    pub bytes: u64,
    /// What is limited: a directory that nobody but root writes to.
    pub directory: Utf8PathBuf,
    /// The directories in it that the agent writes to, by their names.
    pub mounts: Vec<String>,
    /// What is not limited, though it may have been before: states that were set aside.
    pub free: Vec<Utf8PathBuf>,
    /// Whether nobody writes there: only then files are looked for by their paths.
    pub is_at_rest: bool,
}

impl Limited {
    fn mounts(&self) -> impl Iterator<Item = Utf8PathBuf> {
        let paths = self.mounts.iter().map(|name| self.directory.join(name));
        paths.filter(|path| path.exists())
    }

    /// Whether the directory and all its mounts have the limit.
    fn is_kept(&self, outside: &Utf8Path) -> Result<bool, FileError> {
        for path in std::iter::once(self.directory.clone()).chain(self.mounts()) {
            if !Room::of(&path, outside)?.keeps(self.bytes) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Makes the file system keep a limit, and nothing else of the tenant count against it. It blocks.
///
/// What was done before is not done again: a directory that already has the limit costs one look.
///
/// # Errors
/// See [`QuotaError`]. Where there is none, the limit is kept and nothing else counts.
pub fn limit(wanted: &Limited) -> Result<(), QuotaError> {
    let Limited { directory, .. } = wanted;
    let no_quotas = || QuotaError::NoQuotas(directory.clone());
    let place = place_of(directory).ok_or_else(no_quotas)?;
    // What was set aside goes first: it must not fill the project of what took its place.
    let released = release_all(wanted, &place);
    keep(wanted, &place).and(released)
}

/// Takes everything out of the project that does not count, if it is in.
fn release_all(wanted: &Limited, place: &Utf8Path) -> Result<(), QuotaError> {
    for path in wanted.free.iter().filter(|path| path.exists()) {
        if Room::of(path, place)?.is_limited() {
            release(wanted, path, place)?;
        }
    }
    Ok(())
}

/// Makes the file system keep the limit.
fn keep(wanted: &Limited, place: &Utf8Path) -> Result<(), QuotaError> {
    let Limited { directory, .. } = wanted;
    if wanted.is_kept(place)? {
        return Ok(());
    }
    Order::limit(wanted.project, wanted.bytes).carry_out(place)?;
    if wanted.is_kept(place)? {
        return Ok(());
    }
    if !wanted.is_at_rest {
        return Err(QuotaError::InUse(directory.clone()));
    }
    assign(wanted, place)?;
    if wanted.is_kept(place)? {
        return Ok(());
    }
    Err(QuotaError::NotKept {
        path: directory.clone(),
        limit: wanted.bytes,
    })
}

/// Gives the directory and all below it to the project. The directory itself comes last, and is taken out first where
/// it is in: that it has the limit then says that all below it counts.
fn assign(wanted: &Limited, place: &Utf8Path) -> Result<(), QuotaError> {
    let Limited {
        project, directory, ..
    } = wanted;
    if Room::of(directory, place)?.is_limited() {
        Order::release(directory, Part::Itself, *project)?.carry_out(place)?;
    }
    for mount in wanted.mounts() {
        check_reach(&mount)?;
        Order::assign(&mount, Part::All, *project)?.carry_out(place)?;
    }
    Order::assign(directory, Part::Itself, *project)?.carry_out(place)
}

/// Takes what was set aside out of the project. Here, too, the directory itself comes last: as long as it has a limit,
/// this is done again.
fn release(wanted: &Limited, path: &Utf8Path, place: &Utf8Path) -> Result<(), QuotaError> {
    for directory in below(path) {
        // What cannot be named was never given to a project.
        if let Ok(order) = Order::release(&directory, Part::All, wanted.project) {
            order.carry_out(place)?;
        }
    }
    Order::release(path, Part::Itself, wanted.project)?.carry_out(place)
}

/// The directories in a state: its mounts, and those that another revision had.
fn below(path: &Utf8Path) -> Vec<Utf8PathBuf> {
    let entries = path.read_dir_utf8().into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(camino::Utf8DirEntry::into_path).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const FCOS: &str = "\
        22 1 252:4 /root / rw,relatime - xfs /dev/vda4 rw,seclabel,attr2,inode64,prjquota\n\
        23 22 252:4 /root/var /var rw,relatime shared:3 - xfs /dev/vda4 rw,seclabel,inode64,prjquota\n\
        24 22 0:22 / /run rw,nosuid - tmpfs tmpfs rw,seclabel\n\
        25 23 252:9 / /var/lib/other rw - xfs /dev/vdb rw,noquota\n\
        26 22 0:23 / /proc rw - proc proc rw\n";

    #[rstest]
    #[case("/var/lib/tenantd/tenants/acme", Some("/var"))]
    #[case("/etc", Some("/"))]
    #[case("/var/lib/other/x", None)]
    #[case("/run/x", None)]
    fn the_nearest_mount_says_whether_there_are_quotas(
        #[case] path: &str,
        #[case] expected: Option<&str>,
    ) {
        let found = mounted_with_quotas(FCOS, path.into());
        assert_eq!(found.as_deref(), expected.map(Utf8Path::new));
    }

    #[test]
    fn a_later_mount_hides_an_earlier_one() {
        let hidden = format!("{FCOS}27 23 0:9 / /var rw - tmpfs tmpfs rw\nno line\n");
        assert_eq!(mounted_with_quotas(&hidden, "/var/lib".into()), None);
    }

    const WHOLE: u64 = 100 << 30;

    #[rstest]
    #[case::exactly(10 << 30, 10 << 30, true, Some(7))]
    #[case::in_whole_blocks((10 << 30) - 4096, 10 << 30, true, Some(7))]
    #[case::a_smaller_limit(5 << 30, 10 << 30, false, None)]
    #[case::a_larger_limit(20 << 30, 10 << 30, false, None)]
    #[case::no_limit(WHOLE, 10 << 30, false, None)]
    #[case::the_file_system_has_less(WHOLE, 500 << 30, true, None)]
    #[case::a_limit_before_it_was_so_large(10 << 30, 500 << 30, false, None)]
    fn a_limit_is_kept_when_there_is_as_much_room(
        #[case] total: u64,
        #[case] limit: u64,
        #[case] is_kept: bool,
        #[case] used: Option<u64>,
    ) {
        let room = Room {
            here: Space {
                free: total - 7,
                total,
            },
            whole: Space {
                free: 1,
                total: WHOLE,
            },
        };
        assert_eq!((room.keeps(limit), room.used(limit)), (is_kept, used));
    }
}
