//! One look at every name below a directory, by a few threads, in the order of a tree.
//! It says what it left out and why; looking at one directory is `scan_directory`'s.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::io::Errno;

use super::entry::{Metadata, Xattrs};
use super::file_record::FileStamp;
use super::files;
use super::path;
use super::scan_directory::{Job, Looked, Scanner, Visited};

/// More names than this are not scanned: the memory for them is not there.
pub const MAX_NAMES: usize = 10_000_000;
/// More threads than this only wait for each other.
const MAX_THREADS: usize = 4;

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

impl std::ops::AddAssign for Skipped {
    fn add_assign(&mut self, other: Self) {
        let Self {
            sockets,
            fifos,
            devices,
            mounts,
            too_long,
            vanished,
        } = other;
        self.sockets += sockets;
        self.fifos += fifos;
        self.devices += devices;
        self.mounts += mounts;
        self.too_long += too_long;
        self.vanished += vanished;
    }
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
    let scanner = Scanner::new(root, files::stamp(&stat).device);
    let work = Work {
        queue: Mutex::new(Queue {
            jobs: vec![Job::root()],
            ..Queue::default()
        }),
        changed: Condvar::new(),
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.min(MAX_THREADS))
            .map(|_| scope.spawn(|| work.run(&scanner)))
            .collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut visited = Vec::new();
    for result in results {
        visited.extend(result?);
    }
    let top = Found {
        path: path::ROOT.to_vec(),
        kind: FoundKind::Directory,
        metadata: files::metadata(&stat),
    };
    Ok(in_order(top, visited))
}

/// What is to be looked at, shared by the threads.
struct Work {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// The next one last: what belongs together is looked at together.
    jobs: Vec<Job>,
    /// How many threads are looking, and may find more to do.
    busy: usize,
    /// How many names there are so far.
    names: usize,
    /// A thread failed: the others need not go on.
    is_over: bool,
}

impl Work {
    /// Does jobs until there are none.
    fn run(&self, scanner: &Scanner<'_>) -> Result<Vec<Visited>, ScanError> {
        let mut visited = Vec::new();
        while let Some(job) = self.next() {
            let result = scanner.visit(job).and_then(|(done, more)| {
                self.add(done.looked.len(), more)?;
                Ok(done)
            });
            let mut queue = self.lock();
            queue.busy -= 1;
            queue.is_over |= result.is_err();
            drop(queue);
            self.changed.notify_all();
            visited.push(result?);
        }
        Ok(visited)
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        while !queue.is_over {
            if let Some(job) = queue.jobs.pop() {
                queue.busy += 1;
                return Some(job);
            }
            if queue.busy == 0 {
                return None;
            }
            queue = self
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn add(&self, names: usize, jobs: Vec<Job>) -> Result<(), ScanError> {
        let mut queue = self.lock();
        queue.names += names;
        queue.jobs.extend(jobs);
        if queue.names > MAX_NAMES {
            return Err(ScanError::TooMany);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A thread that panicked ends the scan in any case.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts what the threads found in the order of a tree.
fn in_order(mut top: Found, mut visited: Vec<Visited>) -> Scan {
    visited.sort_unstable_by_key(|visited| (visited.directory, visited.part));
    let mut scan = Scan::default();
    let mut directories: HashMap<usize, (Xattrs, Vec<Looked>)> = HashMap::new();
    for mut part in visited {
        scan.skipped += part.skipped;
        let (xattrs, looked) = directories.entry(part.directory).or_default();
        xattrs.append(&mut part.xattrs);
        looked.append(&mut part.looked);
    }
    // Files with several names: device and inode to the path found first.
    let mut links: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let (xattrs, children) = directories.remove(&Job::ROOT).unwrap_or_default();
    top.metadata.xattrs = xattrs;
    scan.found.push(top);
    let mut open = vec![children.into_iter()];
    while let Some(children) = open.last_mut() {
        let Some(Looked {
            mut found,
            directory,
            has_links,
        }) = children.next()
        else {
            open.pop();
            continue;
        };
        if let Some((xattrs, children)) = directory.and_then(|at| directories.remove(&at)) {
            found.metadata.xattrs = xattrs;
            open.push(children.into_iter());
        }
        if let FoundKind::File(stamp) = found.kind {
            let inode = (stamp.device, stamp.inode);
            if let Some(first) = links.get(&inode).filter(|_| has_links) {
                found.kind = FoundKind::Hardlink(first.clone());
            } else {
                scan.bytes += stamp.size;
                scan.files += 1;
                if has_links {
                    links.insert(inode, found.path.clone());
                }
            }
        }
        scan.found.push(found);
    }
    scan
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

pub(super) fn read_error(path: &[u8], source: io::Error) -> ScanError {
    ScanError::Read {
        path: path::show(path),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn many_names_in_one_directory_and_deep_ones_are_all_found_in_order() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..3000 {
            std::fs::write(directory.path().join(format!("f{number}")), b"1").unwrap();
        }
        let mut deep = directory.path().to_owned();
        for level in 0..200 {
            deep.push(format!("d{level}"));
            std::fs::create_dir(&deep).unwrap();
            std::fs::write(deep.join("e"), b"12").unwrap();
        }
        let scan = scan(&File::open(directory.path()).unwrap()).unwrap();
        assert_eq!((scan.found.len(), scan.files), (3401, 3200));
        assert_eq!(scan.bytes, 3400);
        assert!(
            scan.found
                .is_sorted_by(|a, b| path::compare(&a.path, &b.path).is_lt())
        );
    }

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
