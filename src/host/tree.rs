//! Clones a whole tree of files, sharing blocks where the file system can: contents, holes, owners, modes, times,
//! attributes and hard links. It follows no link and leaves neither root; that nobody writes meanwhile is the
//! caller's business.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;

use super::clone;

/// The longest value of an attribute (`XATTR_SIZE_MAX` of the kernel), and of a list of names.
const XATTR_MAX: usize = 64 << 10;

/// What a clone took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cloned {
    /// Files, links and directories.
    pub entries: u64,
    /// Bytes that had to be copied, because the file system cannot share them.
    pub copied: u64,
    /// Sockets and devices, which are left out: they mean nothing once their process is gone.
    pub skipped: u64,
}

/// Why a tree was not cloned.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A file could not be cloned.
    #[error("{path} cannot be {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: Utf8PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file system shares no blocks, and the tree is larger than what may be copied.
    #[error(
        "this file system cannot share blocks, and more than {limit} bytes would have to be copied"
    )]
    TooMuch {
        /// The most that may be copied.
        limit: u64,
    },
}

impl TreeError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ))
    }
}

/// Clones the directory `from` to the new directory `to`, copying `copy_at_most` bytes where blocks cannot be shared,
/// and syncs the file system.
///
/// # Errors
/// See [`TreeError`]; what was made is left for the caller to remove.
pub fn clone_tree(from: &Utf8Path, to: &Utf8Path, copy_at_most: u64) -> Result<Cloned, TreeError> {
    let at = |action, path: &Utf8Path| {
        let path = path.to_owned();
        move |source: io::Error| TreeError::Io {
            action,
            path,
            source,
        }
    };
    DirBuilder::new()
        .mode(0o700)
        .create(to)
        .map_err(at("made", to))?;
    let mut work = Work {
        from: File::open(from).map_err(at("opened", from))?,
        to: File::open(to).map_err(at("opened", to))?,
        names: from.to_owned(),
        limit: copy_at_most,
        linked: HashMap::new(),
        cloned: Cloned::default(),
    };
    let mut directories = vec![Path::new(".").to_owned()];
    let mut next = 0;
    while let Some(directory) = directories.get(next).cloned() {
        next += 1;
        directories.extend(work.fill(&directory)?);
    }
    // Deepest first: filling a directory changes its time.
    for directory in directories.iter().rev() {
        work.finish(directory)?;
    }
    rustix::fs::syncfs(&work.to).map_err(|errno| at("synced", to)(errno.into()))?;
    Ok(work.cloned)
}

struct Work {
    from: File,
    to: File,
    /// For messages.
    names: Utf8PathBuf,
    limit: u64,
    /// Where files of several names were cloned to first, by their inode.
    linked: HashMap<u64, std::path::PathBuf>,
    cloned: Cloned,
}

impl Work {
    fn failed<'a>(
        &'a self,
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> TreeError + 'a {
        move |source| TreeError::Io {
            action,
            path: self.names.join(path.to_string_lossy().as_ref()),
            source,
        }
    }

    /// Clones what is in a directory that was made; gives the directories in it.
    fn fill(&mut self, path: &Path) -> Result<Vec<std::path::PathBuf>, TreeError> {
        let from = open_directory(&self.from, path).map_err(self.failed("opened", path))?;
        let to = open_directory(&self.to, path).map_err(self.failed("opened", path))?;
        let mut below = Vec::new();
        let listed = Dir::read_from(&from).map_err(io::Error::from);
        for entry in listed.map_err(self.failed("listed", path))? {
            let entry = entry.map_err(io::Error::from);
            let entry = entry.map_err(self.failed("listed", path))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let name = Path::new(std::ffi::OsStr::from_bytes(name));
            let child = path.join(name);
            let stat = rustix::fs::statat(&from, name, AtFlags::SYMLINK_NOFOLLOW);
            let stat = stat
                .map_err(io::Error::from)
                .map_err(self.failed("looked at", &child))?;
            self.cloned.entries += 1;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    rustix::fs::mkdirat(&to, name, Mode::RWXU)
                        .map_err(io::Error::from)
                        .map_err(self.failed("made", &child))?;
                    below.push(child);
                }
                FileType::RegularFile => self.file(&from, &to, name, &child, &stat)?,
                FileType::Symlink => {
                    symlink(&from, &to, name, &stat).map_err(self.failed("linked", &child))?;
                }
                FileType::Fifo => {
                    fifo(&to, name, &stat).map_err(self.failed("made", &child))?;
                }
                _ => {
                    self.cloned.entries -= 1;
                    self.cloned.skipped += 1;
                }
            }
        }
        Ok(below)
    }

    fn file(
        &mut self,
        from: &File,
        to: &File,
        name: &Path,
        path: &Path,
        stat: &Stat,
    ) -> Result<(), TreeError> {
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&stat.st_ino) {
                let made = link(&self.to, first, to, name);
                return made.map_err(self.failed("linked", path));
            }
            self.linked.insert(stat.st_ino, path.to_owned());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = rustix::fs::openat(from, name, flags, Mode::empty());
        let source = File::from(
            source
                .map_err(io::Error::from)
                .map_err(self.failed("opened", path))?,
        );
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR);
        let target = File::from(
            target
                .map_err(io::Error::from)
                .map_err(self.failed("made", path))?,
        );
        let shared = clone::share(&source, &target).map_err(self.failed("cloned", path))?;
        if !shared {
            // What it takes on the disk: holes cost nothing.
            let bytes = u64::try_from(stat.st_blocks)
                .unwrap_or(0)
                .saturating_mul(512);
            self.cloned.copied = self.cloned.copied.saturating_add(bytes);
            if self.cloned.copied > self.limit {
                return Err(TreeError::TooMuch { limit: self.limit });
            }
            clone::copy(&source, &target).map_err(self.failed("copied", path))?;
        }
        settle(&source, &target, stat).map_err(self.failed("given its metadata", path))
    }

    /// Gives a filled directory its metadata.
    fn finish(&self, path: &Path) -> Result<(), TreeError> {
        let from = open_directory(&self.from, path).map_err(self.failed("opened", path))?;
        let to = open_directory(&self.to, path).map_err(self.failed("opened", path))?;
        let set = rustix::fs::fstat(&from)
            .map_err(io::Error::from)
            .and_then(|stat| settle(&from, &to, &stat));
        set.map_err(self.failed("given its metadata", path))
    }
}

/// Opens a directory below `root`; no part of the path may be a link.
fn open_directory(root: &File, path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Ok(directory) => return Ok(directory.into()),
            // A rename elsewhere raced with the check.
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn link(root: &File, first: &Path, to: &File, name: &Path) -> io::Result<()> {
    let directory = open_directory(root, first.parent().unwrap_or(Path::new(".")))?;
    let first = first.file_name().unwrap_or_default();
    Ok(rustix::fs::linkat(
        &directory,
        first,
        to,
        name,
        AtFlags::empty(),
    )?)
}

fn symlink(from: &File, to: &File, name: &Path, stat: &Stat) -> io::Result<()> {
    let target = rustix::fs::readlinkat(from, name, Vec::new())?;
    rustix::fs::symlinkat(target.as_c_str(), to, name)?;
    give(to, name, stat)
}

fn fifo(to: &File, name: &Path, stat: &Stat) -> io::Result<()> {
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    rustix::fs::mknodat(to, name, FileType::Fifo, mode, 0)?;
    give(to, name, stat)
}

/// Owner and time of what cannot be opened.
fn give(to: &File, name: &Path, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    rustix::fs::chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(rustix::fs::utimensat(
        to,
        name,
        &times(stat),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Gives `to` the metadata of `from`: a new owner takes capabilities and setuid bits away, so it comes first.
fn settle(from: &File, to: &File, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    rustix::fs::fchown(to, uid, gid)?;
    attributes(from, to)?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    Ok(rustix::fs::futimens(to, &times(stat))?)
}

fn attributes(from: &File, to: &File) -> io::Result<()> {
    let mut names = vec![0_u8; XATTR_MAX];
    let length = match rustix::fs::flistxattr(from, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() {
            continue;
        }
        let mut value = vec![0_u8; XATTR_MAX];
        let length = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        match rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            Ok(()) => {}
            // The label comes from the directory where the policy does not let us set it.
            Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) if name == b"security.selinux" => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
}

#[expect(
    clippy::unnecessary_cast,
    clippy::cast_possible_wrap,
    reason = "the fields' types differ between architectures, their ranges do not"
)]
fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: i64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    Timestamps {
        last_access: time(stat.st_atime as i64, stat.st_atime_nsec as i64),
        last_modification: time(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
    }
}

/// What a tree takes on the disk, in bytes, shared blocks included; what cannot be looked at counts as nothing.
pub fn size(root: &Utf8Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;

    let mut waiting = vec![root.as_std_path().to_owned()];
    let mut bytes = 0;
    while let Some(path) = waiting.pop() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            bytes += metadata.blocks() * 512 / metadata.nlink().max(1);
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};

    use super::*;

    fn place() -> (tempfile::TempDir, Utf8PathBuf, Utf8PathBuf) {
        let guard = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
        (guard, root.join("from"), root.join("to"))
    }

    fn look(path: &Utf8Path) -> (u32, u32, u32, i64, i64, u64) {
        let found = fs::symlink_metadata(path).unwrap();
        (
            found.mode(),
            found.uid(),
            found.gid(),
            found.mtime(),
            found.mtime_nsec(),
            found.nlink(),
        )
    }

    #[test]
    fn a_clone_has_all_that_the_tree_has() {
        let (_guard, from, to) = place();
        fs::create_dir_all(from.join("data/deep")).unwrap();
        let file = from.join("data/file");
        fs::write(&file, "content").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o4750)).unwrap();
        let opened = File::open(&file).unwrap();
        rustix::fs::fsetxattr(&opened, "user.note", b"kept", XattrFlags::empty()).unwrap();
        fs::hard_link(&file, from.join("data/deep/same")).unwrap();
        // Links that lead out, or nowhere, are only names.
        std::os::unix::fs::symlink("/etc/passwd", from.join("data/out")).unwrap();
        let sparse = File::create(from.join("data/sparse")).unwrap();
        sparse.write_all_at(b"end", 8 << 20).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            from.join("data/pipe").as_std_path(),
            FileType::Fifo,
            Mode::RWXU,
            0,
        )
        .unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from.join("data/socket")).unwrap();
        fs::set_permissions(from.join("data/deep"), fs::Permissions::from_mode(0o500)).unwrap();

        let cloned = clone_tree(&from, &to, u64::MAX).unwrap();
        assert_eq!((cloned.entries, cloned.skipped), (7, 1));
        for name in [
            ".",
            "data",
            "data/file",
            "data/deep",
            "data/deep/same",
            "data/out",
            "data/sparse",
            "data/pipe",
        ] {
            assert_eq!(look(&to.join(name)), look(&from.join(name)), "{name}");
        }
        assert_eq!(fs::read(to.join("data/deep/same")).unwrap(), b"content");
        assert_eq!(
            fs::metadata(to.join("data/file")).unwrap().ino(),
            fs::metadata(to.join("data/deep/same")).unwrap().ino()
        );
        assert_eq!(
            fs::read_link(to.join("data/out")).unwrap().as_os_str(),
            "/etc/passwd"
        );
        let mut value = [0; 16];
        let clone = File::open(to.join("data/file")).unwrap();
        let length = rustix::fs::fgetxattr(&clone, "user.note", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"kept");
        assert!(fs::metadata(to.join("data/sparse")).unwrap().blocks() * 512 < 1 << 20);
        assert!(!to.join("data/socket").exists());
    }

    #[test]
    fn no_more_is_copied_than_may_be() {
        let (_guard, from, to) = place();
        fs::create_dir(&from).unwrap();
        fs::write(from.join("file"), vec![7; 1 << 20]).unwrap();
        File::open(from.join("file")).unwrap().sync_all().unwrap();
        match clone_tree(&from, &to, 4096) {
            Err(TreeError::TooMuch { limit: 4096 }) => {}
            // Where blocks are shared, nothing is copied.
            Ok(cloned) => assert_eq!(cloned.copied, 0),
            Err(error) => panic!("{error}"),
        }
        assert!(size(&from) >= 1 << 20);
    }

    #[test]
    fn what_is_there_already_is_not_written_into() {
        let (_guard, from, to) = place();
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        let error = clone_tree(&from, &to, 0).unwrap_err();
        assert!(
            matches!(error, TreeError::Io { action: "made", .. }),
            "{error}"
        );
    }
}
