//! One look at every name below a directory, in the order of a tree.
//! It opens directories only, and says what it left out and why.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::entry::Metadata;
use super::files;
use super::index::FileStamp;
use super::path;

/// More names than this are not scanned: the memory for them is not there.
pub const MAX_NAMES: usize = 10_000_000;

/// What was left out of a snapshot, and what happened while it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Skipped {
    /// Sockets.
    pub sockets: u64,
    /// Named pipes.
    pub fifos: u64,
    /// Devices.
    pub devices: u64,
    /// Directories where another file system is mounted; recorded as empty.
    pub mounts: u64,
    /// Names whose path is longer than the kernel takes at once.
    pub too_long: u64,
    /// Files that vanished while they were looked at or read.
    pub vanished: u64,
}

/// A name that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its path from the root.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: FoundKind,
    /// Its metadata; attributes of directories only.
    pub metadata: Metadata,
}

/// What was found.
#[derive(Debug, Clone)]
pub enum FoundKind {
    /// A directory.
    Directory,
    /// A regular file.
    File(FileStamp),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// Another name of the file found under this path.
    Hardlink(Vec<u8>),
}

/// Everything below a directory.
#[derive(Debug, Default)]
pub struct Scan {
    /// All names, the root first, sorted by [`path::compare`].
    pub found: Vec<Found>,
    /// What was left out.
    pub skipped: Skipped,
    /// The sizes of all files added up.
    pub bytes: u64,
    /// How many files there are.
    pub files: u64,
}

/// Why a scan failed.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A directory or link cannot be read.
    #[error("{path:?} cannot be read")]
    Read {
        /// The escaped path from the root.
        path: String,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// More names than this host can handle.
    #[error("there are more than {MAX_NAMES} files; nothing was backed up")]
    TooMany,
}

/// Looks at everything below `root`.
///
/// # Errors
/// Something cannot be read; what vanishes meanwhile is counted and left out.
pub fn scan(root: &File) -> Result<Scan, ScanError> {
    let stat = rustix::fs::fstat(root).map_err(|error| read_error(path::ROOT, error.into()))?;
    let mut scanner = Scanner {
        root,
        device: files::stamp(&stat).device,
        result: Scan::default(),
        links: HashMap::new(),
    };
    let mut top = Found {
        path: path::ROOT.to_vec(),
        kind: FoundKind::Directory,
        metadata: files::metadata(&stat),
    };
    // Children of the directories that are being walked, the next one last.
    let mut waiting = scanner.enter(&mut top)?;
    scanner.result.found.push(top);
    while let Some(mut next) = waiting.pop() {
        if scanner.result.found.len() >= MAX_NAMES {
            return Err(ScanError::TooMany);
        }
        match &next.kind {
            FoundKind::Directory => waiting.append(&mut scanner.enter(&mut next)?),
            FoundKind::File(stamp) => {
                scanner.result.bytes += stamp.size;
                scanner.result.files += 1;
            }
            FoundKind::Symlink(_) | FoundKind::Hardlink(_) => {}
        }
        scanner.resolve_link(&mut next);
        scanner.result.found.push(next);
    }
    Ok(scanner.result)
}

struct Scanner<'a> {
    root: &'a File,
    device: u64,
    result: Scan,
    /// Files with several names: device and inode to the path found first.
    links: HashMap<(u64, u64), Option<Vec<u8>>>,
}

impl Scanner<'_> {
    /// Lists a directory: its children, last name first, and its attributes.
    fn enter(&mut self, directory: &mut Found) -> Result<Vec<Found>, ScanError> {
        let opened = files::open_directory(self.root.as_fd(), &directory.path);
        let Some(open) = self.still_there(&directory.path, opened)? else {
            return Ok(Vec::new());
        };
        let failed = |error: Errno| read_error(&directory.path, error.into());
        let stat = rustix::fs::fstat(&open).map_err(failed)?;
        if files::stamp(&stat).device != self.device {
            self.result.skipped.mounts += 1;
            return Ok(Vec::new());
        }
        directory.metadata.xattrs =
            files::xattrs(&open).map_err(|error| read_error(&directory.path, error))?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&open).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
            if names.len() > MAX_NAMES {
                return Err(ScanError::TooMany);
            }
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        let mut children = Vec::with_capacity(names.len());
        for name in names {
            let path = join(&directory.path, &name);
            if path.len() > path::MAX_PATH {
                self.result.skipped.too_long += 1;
            } else if let Some(found) = self.look(&open, &name, path)? {
                children.push(found);
            }
        }
        Ok(children)
    }

    fn look(
        &mut self,
        directory: &File,
        name: &[u8],
        path: Vec<u8>,
    ) -> Result<Option<Found>, ScanError> {
        let stat =
            rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from);
        let Some(stat) = self.still_there(&path, stat)? else {
            return Ok(None);
        };
        let metadata = files::metadata(&stat);
        let skipped = &mut self.result.skipped;
        let kind = match files::kind(&stat) {
            FileType::Directory => FoundKind::Directory,
            FileType::RegularFile => {
                let stamp = files::stamp(&stat);
                if stat.st_nlink > 1 {
                    self.links.entry((stamp.device, stamp.inode)).or_default();
                }
                FoundKind::File(stamp)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new());
                let target = target.map_err(io::Error::from);
                let Some(target) = self.still_there(&path, target)? else {
                    return Ok(None);
                };
                FoundKind::Symlink(target.into_bytes())
            }
            FileType::Socket => {
                skipped.sockets += 1;
                return Ok(None);
            }
            FileType::Fifo => {
                skipped.fifos += 1;
                return Ok(None);
            }
            _ => {
                skipped.devices += 1;
                return Ok(None);
            }
        };
        Ok(Some(Found {
            path,
            kind,
            metadata,
        }))
    }

    /// Turns the second and later names of a file into links to the first.
    fn resolve_link(&mut self, found: &mut Found) {
        let FoundKind::File(stamp) = &found.kind else {
            return;
        };
        let Some(first) = self.links.get_mut(&(stamp.device, stamp.inode)) else {
            return;
        };
        match first {
            None => *first = Some(found.path.clone()),
            Some(first) => {
                self.result.bytes -= stamp.size;
                self.result.files -= 1;
                found.kind = FoundKind::Hardlink(first.clone());
            }
        }
    }

    /// Counts what is gone or became something else; any other error stays one.
    fn still_there<T>(&mut self, path: &[u8], got: io::Result<T>) -> Result<Option<T>, ScanError> {
        match got {
            Ok(value) => Ok(Some(value)),
            Err(error) if is_vanished(&error) => {
                self.result.skipped.vanished += 1;
                Ok(None)
            }
            Err(error) => Err(read_error(path, error)),
        }
    }
}

/// Whether an error says that the name is gone, or is something else by now.
pub fn is_vanished(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(
            Errno::NOENT
                | Errno::NOTDIR
                | Errno::LOOP
                | Errno::XDEV
                | Errno::STALE
                | Errno::NXIO
                | Errno::INVAL
        )
    )
}

fn read_error(path: &[u8], source: io::Error) -> ScanError {
    ScanError::Read {
        path: path::show(path),
        source,
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory == path::ROOT {
        return name.to_vec();
    }
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn names_come_in_the_order_of_a_tree_and_specials_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("b")).unwrap();
        std::fs::create_dir(at("b/empty")).unwrap();
        std::fs::write(at("b/x"), b"12345").unwrap();
        std::fs::write(at("b-"), b"1").unwrap();
        std::fs::hard_link(at("b/x"), at("z")).unwrap();
        symlink("/etc", at("a")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("s")).unwrap();
        nix::unistd::mkfifo(&at("p"), nix::sys::stat::Mode::S_IRUSR).unwrap();

        let scan = scan(&File::open(directory.path()).unwrap()).unwrap();
        let names: Vec<_> = scan
            .found
            .iter()
            .map(|found| path::show(&found.path))
            .collect();
        assert_eq!(names, [".", "a", "b", "b/empty", "b/x", "b-", "z"]);
        assert!(
            scan.found
                .is_sorted_by(|a, b| path::compare(&a.path, &b.path).is_lt())
        );
        assert!(matches!(&scan.found[1].kind, FoundKind::Symlink(target) if target == b"/etc"));
        assert!(matches!(&scan.found[6].kind, FoundKind::Hardlink(first) if first == b"b/x"));
        assert_eq!((scan.files, scan.bytes), (2, 6));
        assert_eq!(
            scan.skipped,
            Skipped {
                sockets: 1,
                fifos: 1,
                ..Skipped::default()
            }
        );
    }
}
