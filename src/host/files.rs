//! Files that are whole or absent after a crash at any point.
//! It knows nothing of what is in them.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink as make_symlink};

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, renameat_with};

/// Why a file could not be written, read or renamed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("cannot {verb} {path}{}", remedy(source))]
    Io {
        /// What was tried.
        verb: &'static str,
        /// With which file.
        path: Utf8PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is larger than anything that tenantd writes or accepts there.
    #[error("{path} is larger than {limit} bytes; tenantd does not read it")]
    TooLarge {
        /// The file.
        path: Utf8PathBuf,
        /// The most that is read, in bytes.
        limit: u64,
    },
}

impl FileError {
    /// Whether the file is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the disk, or the tenant's quota, is full.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn remedy(source: &io::Error) -> &'static str {
    if is_full(source) {
        ": its disk is full; make room there and do the same again"
    } else {
        ""
    }
}

/// Writes `bytes` to `path` with permission bits `mode`: after a crash the file has its old
/// content or the new one.
pub fn write(path: &Utf8Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = |source| io_error("write", path, source);
    let dir = parent(path);
    // The suffix keeps Quadlet and systemd from taking a leftover for a unit.
    let mut temporary = tempfile::Builder::new()
        .prefix(&format!(".{}.", path.file_name().unwrap_or_default()))
        .suffix(".tmp")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(dir)
        .map_err(failed)?;
    temporary.write_all(bytes).map_err(failed)?;
    temporary
        .as_file()
        .set_permissions(Permissions::from_mode(mode))
        .map_err(failed)?;
    temporary.as_file().sync_all().map_err(failed)?;
    temporary
        .persist(path)
        .map_err(|error| failed(error.error))?;
    sync_dir(dir)
}

/// Removes the file at `path`, and says whether there was one.
pub fn remove(path: &Utf8Path) -> Result<bool, FileError> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(parent(path)).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(io_error("remove", path, source)),
    }
}

/// Reads a file of at most `limit` bytes.
pub fn read(path: &Utf8Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let failed = |source| io_error("read", path, source);
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

/// When the file at `path` was last written; `None` when it cannot be looked at.
pub fn modified(path: &Utf8Path) -> Option<Timestamp> {
    let modified = fs::metadata(path).ok()?.modified().ok()?;
    Timestamp::try_from(modified).ok()
}

/// Whether nobody but the owner of the file (and root) may read it.
pub fn is_private(path: &Utf8Path) -> Result<bool, FileError> {
    let metadata = fs::metadata(path).map_err(|source| io_error("look at", path, source))?;
    let of_others = metadata.permissions().mode() & 0o077;
    Ok(of_others == 0)
}

/// Takes every right of group and others away from the directory or file itself; a link is refused.
pub fn make_private(path: &Utf8Path) -> Result<(), FileError> {
    let failed = |source| io_error("take access from others to", path, source);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: File = rustix::fs::openat(CWD, path.as_std_path(), flags, Mode::empty())
        .map_err(|errno| failed(errno.into()))?
        .into();
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    file.set_permissions(Permissions::from_mode(mode & 0o7700))
        .map_err(failed)
}

/// Makes `link` a symbolic link to `target`, replacing a file or link of that name at once.
pub fn symlink(target: &Utf8Path, link: &Utf8Path) -> Result<(), FileError> {
    let failed = |source| io_error("link", link, source);
    let dir = parent(link);
    // Made below a private directory, whose name cannot be taken, and then moved.
    let place = tempfile::Builder::new()
        .prefix(".link.")
        .suffix(".tmp")
        .tempdir_in(dir)
        .map_err(failed)?;
    let new = place.path().join("link");
    make_symlink(target, &new).map_err(failed)?;
    fs::rename(&new, link).map_err(failed)?;
    sync_dir(dir)
}

/// Exchanges the names of `a` and `b`, which are on one file system: at no time is either absent.
pub fn exchange(a: &Utf8Path, b: &Utf8Path) -> Result<(), FileError> {
    renameat_with(
        CWD,
        a.as_std_path(),
        CWD,
        b.as_std_path(),
        RenameFlags::EXCHANGE,
    )
    .map_err(|errno| io_error("exchange names with", a, errno.into()))?;
    sync_dir(parent(a))?;
    sync_dir(parent(b))
}

/// Gives `from` the name `to`, which nothing may have yet, on the same file system.
pub fn move_to(from: &Utf8Path, to: &Utf8Path) -> Result<(), FileError> {
    let (old, new) = (from.as_std_path(), to.as_std_path());
    renameat_with(CWD, old, CWD, new, RenameFlags::NOREPLACE)
        .map_err(|errno| io_error("rename", from, errno.into()))?;
    sync_dir(parent(from))?;
    sync_dir(parent(to))
}

/// The number of `path` on its file system: it stays when the name changes.
pub fn inode(path: &Utf8Path) -> Result<u64, FileError> {
    let found = fs::symlink_metadata(path).map_err(|source| io_error("look at", path, source))?;
    Ok(found.ino())
}

/// Makes the names in `dir` last.
pub fn sync_dir(dir: &Utf8Path) -> Result<(), FileError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|source| io_error("sync", dir, source))
}

fn parent(path: &Utf8Path) -> &Utf8Path {
    match path.parent() {
        Some(parent) if !parent.as_str().is_empty() => parent,
        _ => Utf8Path::new("."),
    }
}

fn io_error(verb: &'static str, path: &Utf8Path, source: io::Error) -> FileError {
    FileError::Io {
        verb,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        (dir, path)
    }

    fn names(dir: &Utf8Path) -> Vec<String> {
        let mut names: Vec<_> = dir
            .read_dir_utf8()
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let (_guard, dir) = directory();
        let path = dir.join("a.service");
        write(&path, b"one", 0o644).unwrap();
        write(&path, b"two", 0o600).unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        assert_eq!(names(&dir), ["a.service"], "no temporary file is left");
    }

    #[test]
    fn a_failed_write_leaves_the_directory_as_it_was() {
        let (_guard, dir) = directory();
        fs::create_dir(dir.join("taken")).unwrap();
        fs::write(dir.join("taken/child"), "").unwrap();
        let error = write(&dir.join("taken"), b"x", 0o600).unwrap_err();
        assert!(error.to_string().contains("taken"), "{error}");
        assert_eq!(names(&dir), ["taken"]);
    }

    #[test]
    fn too_large_is_an_error_and_not_a_part() {
        let (_guard, dir) = directory();
        let path = dir.join("a");
        write(&path, b"1234", 0o600).unwrap();
        assert!(matches!(read(&path, 3), Err(FileError::TooLarge { .. })));
        assert!(read(&dir.join("b"), 3).unwrap_err().is_absent());
    }

    #[test]
    fn a_full_disk_is_said_with_what_to_do() {
        let error = io_error(
            "write",
            Utf8Path::new("/var/lib/tenantd/x"),
            io::ErrorKind::StorageFull.into(),
        );
        assert!(error.is_full());
        assert_eq!(
            error.to_string(),
            "cannot write /var/lib/tenantd/x: its disk is full; make room there and do the same \
             again"
        );
    }

    #[test]
    fn removing_twice_is_no_error() {
        let (_guard, dir) = directory();
        write(&dir.join("a"), b"", 0o600).unwrap();
        assert!(remove(&dir.join("a")).unwrap());
        assert!(!remove(&dir.join("a")).unwrap());
    }

    #[test]
    fn a_link_replaces_a_link_or_a_file() {
        let (_guard, dir) = directory();
        let link = dir.join("l");
        fs::write(&link, "a file").unwrap();
        for target in ["one", "two"] {
            symlink(Utf8Path::new(target), &link).unwrap();
            assert_eq!(link.read_link_utf8().unwrap(), target);
        }
        assert_eq!(names(&dir), ["l"]);
    }

    #[test]
    fn names_are_exchanged() {
        let (_guard, dir) = directory();
        for name in ["state", "restoring"] {
            fs::create_dir(dir.join(name)).unwrap();
            fs::write(dir.join(name).join(name), "").unwrap();
        }
        exchange(&dir.join("state"), &dir.join("restoring")).unwrap();
        assert_eq!(names(&dir.join("state")), ["restoring"]);
        assert_eq!(names(&dir.join("restoring")), ["state"]);
    }
}
