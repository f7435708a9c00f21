//! Looking at files that a hostile tenant owns: every open is below the root and follows no link.
//! It reads names, metadata and attributes; contents are read by `pipeline`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::entry::{FileTime, Metadata, Xattrs};
use super::file_record::FileStamp;
use super::path;

/// Attribute values beyond this per file are not recorded by any file system we know.
const MAX_XATTRS: usize = 64 << 10;

/// Opens `path` below `root` without following any symbolic link or leaving the root.
///
/// # Errors
/// `ELOOP` or `EXDEV` where something in the path is a link or leads out; any other of `openat2`.
pub fn open_below(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<File> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Ok(file) => return Ok(file.into()),
            // A rename elsewhere in the tree raced with the check.
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Opens a directory below `root`, or the root itself.
///
/// # Errors
/// As [`open_below`].
pub fn open_directory(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<File> {
    open_below(root, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens the directory that holds `path`.
///
/// # Errors
/// As [`open_below`].
pub fn open_parent(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<File> {
    open_directory(root, path::parent(path))
}

/// The stamp in a file's status.
#[expect(
    clippy::unnecessary_cast,
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    reason = "the fields' types differ between architectures, their ranges do not"
)]
pub fn stamp(stat: &Stat) -> FileStamp {
    FileStamp {
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
        size: stat.st_size as u64,
        mtime: FileTime {
            seconds: stat.st_mtime as i64,
            nanos: stat.st_mtime_nsec as u32,
        },
        ctime: FileTime {
            seconds: stat.st_ctime as i64,
            nanos: stat.st_ctime_nsec as u32,
        },
    }
}

/// The metadata in a file's status, without attributes.
pub fn metadata(stat: &Stat) -> Metadata {
    Metadata {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stamp(stat).mtime,
        xattrs: Xattrs::new(),
    }
}

/// What kind of file it is.
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The `user.*` attributes of an open file or directory.
///
/// Others are not recorded: capabilities and labels are the host's to give. A file
/// system without attributes has none.
///
/// # Errors
/// Any I/O error but an attribute that vanishes meanwhile.
pub fn xattrs(file: impl AsFd) -> io::Result<Xattrs> {
    let file = file.as_fd();
    let mut xattrs = Xattrs::new();
    let size = match rustix::fs::flistxattr_query(file) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(xattrs),
        Ok(size) => size,
        Err(error) => return Err(error.into()),
    };
    let mut names = vec![0_u8; size.min(MAX_XATTRS)];
    let size = match rustix::fs::flistxattr(file, &mut names[..]) {
        Ok(size) => size,
        // It grew meanwhile: whoever changes it changes its ctime, so it is read again.
        Err(Errno::RANGE) => return Ok(xattrs),
        Err(error) => return Err(error.into()),
    };
    let mut total = 0;
    for name in names[..size].split(|byte| *byte == 0) {
        let Some(text) = std::str::from_utf8(name)
            .ok()
            .filter(|name| name.starts_with("user."))
        else {
            continue;
        };
        let mut value = vec![0_u8; MAX_XATTRS];
        match rustix::fs::fgetxattr(file, name, &mut value[..]) {
            Ok(size) => value.truncate(size),
            Err(Errno::NODATA | Errno::RANGE) => continue,
            Err(error) => return Err(error.into()),
        }
        total += value.len();
        if total <= MAX_XATTRS {
            xattrs.insert(text.to_owned(), value);
        }
    }
    Ok(xattrs)
}
