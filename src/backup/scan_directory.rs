//! A look at one directory: its names, and what each of them is.
//! It opens directories only; which one comes next is `scan`'s.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::entry::Xattrs;
use super::files;
use super::path;
use super::scan::{Found, FoundKind, MAX_NAMES, ScanError, Skipped, is_vanished, read_error};

/// So many names of one directory are looked at in one go.
const NAMES_AT_ONCE: usize = 1024;

/// Something to look at.
pub enum Job {
    /// A directory.
    Directory {
        /// Its number.
        number: usize,
        /// Its path from the root.
        path: Vec<u8>,
    },
    /// Some names of a directory that is open.
    Names {
        /// The directory's number.
        number: usize,
        /// The directory, and its path from the root.
        open: Arc<(File, Vec<u8>)>,
        /// Which of its parts this is.
        part: usize,
        /// The names, sorted.
        names: Vec<Vec<u8>>,
    },
}

impl Job {
    /// The number of the root.
    pub const ROOT: usize = 0;

    /// The first one.
    pub fn root() -> Self {
        Self::Directory {
            number: Self::ROOT,
            path: path::ROOT.to_vec(),
        }
    }
}

/// What became of a job.
#[derive(Default)]
pub struct Visited {
    /// The directory's number.
    pub directory: usize,
    /// Which of its parts this is.
    pub part: usize,
    /// The directory's attributes; with its first part.
    pub xattrs: Xattrs,
    /// What its names are, sorted.
    pub looked: Vec<Looked>,
    /// What was left out.
    pub skipped: Skipped,
}

/// What a name is.
pub struct Looked {
    /// What was found.
    pub found: Found,
    /// The number of a directory.
    pub directory: Option<usize>,
    /// Whether it is a file with several names.
    pub has_links: bool,
}

/// Looks at directories below one root.
pub struct Scanner<'a> {
    root: &'a File,
    device: u64,
    numbers: AtomicUsize,
}

impl<'a> Scanner<'a> {
    /// A scanner that stays on one device.
    pub fn new(root: &'a File, device: u64) -> Self {
        Self {
            root,
            device,
            numbers: AtomicUsize::new(Job::ROOT + 1),
        }
    }

    /// Does a job; gives what it found and what is to be done next, the first of it last.
    ///
    /// # Errors
    /// Something cannot be read.
    pub fn visit(&self, job: Job) -> Result<(Visited, Vec<Job>), ScanError> {
        match job {
            Job::Directory { number, path } => self.enter(number, path),
            Job::Names {
                number,
                open,
                part,
                names,
            } => {
                let mut visited = Visited {
                    directory: number,
                    part,
                    ..Visited::default()
                };
                let jobs = self.look_at_all(&open, names, &mut visited)?;
                Ok((visited, jobs))
            }
        }
    }

    /// Lists a directory, and looks at its first names.
    fn enter(&self, number: usize, path: Vec<u8>) -> Result<(Visited, Vec<Job>), ScanError> {
        let mut visited = Visited {
            directory: number,
            ..Visited::default()
        };
        let opened = files::open_directory(self.root.as_fd(), &path);
        let Some(open) = still_there(&mut visited.skipped, &path, opened)? else {
            return Ok((visited, Vec::new()));
        };
        let failed = |error: Errno| read_error(&path, error.into());
        let stat = rustix::fs::fstat(&open).map_err(failed)?;
        if files::stamp(&stat).device != self.device {
            visited.skipped.mounts += 1;
            return Ok((visited, Vec::new()));
        }
        visited.xattrs = files::xattrs(&open).map_err(|error| read_error(&path, error))?;
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
        names.sort_unstable();
        let open = Arc::new((open, path));
        let mut rest = Vec::new();
        while names.len() > NAMES_AT_ONCE {
            let part = (names.len() - 1) / NAMES_AT_ONCE;
            rest.push(Job::Names {
                number,
                open: Arc::clone(&open),
                part,
                names: names.split_off(part * NAMES_AT_ONCE),
            });
        }
        let mut jobs = self.look_at_all(&open, names, &mut visited)?;
        // What is open comes before other directories, so that few are open at a time.
        jobs.append(&mut rest);
        Ok((visited, jobs))
    }

    /// Looks at names; gives the directories among them.
    fn look_at_all(
        &self,
        open: &(File, Vec<u8>),
        names: Vec<Vec<u8>>,
        visited: &mut Visited,
    ) -> Result<Vec<Job>, ScanError> {
        let (open, below) = open;
        let mut jobs = Vec::new();
        visited.looked.reserve_exact(names.len());
        for name in names {
            let path = join(below, &name);
            if path.len() > path::MAX_PATH {
                visited.skipped.too_long += 1;
                continue;
            }
            let Some(mut looked) = look(open, &name, path, &mut visited.skipped)? else {
                continue;
            };
            if matches!(looked.found.kind, FoundKind::Directory) {
                let number = self.numbers.fetch_add(1, Ordering::Relaxed);
                looked.directory = Some(number);
                let path = looked.found.path.clone();
                jobs.push(Job::Directory { number, path });
            }
            visited.looked.push(looked);
        }
        Ok(jobs)
    }
}

/// Looks at one name; none for what is left out.
fn look(
    directory: &File,
    name: &[u8],
    path: Vec<u8>,
    skipped: &mut Skipped,
) -> Result<Option<Looked>, ScanError> {
    let stat =
        rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from);
    let Some(stat) = still_there(skipped, &path, stat)? else {
        return Ok(None);
    };
    let mut has_links = false;
    let kind = match files::kind(&stat) {
        FileType::Directory => FoundKind::Directory,
        FileType::RegularFile => {
            has_links = stat.st_nlink > 1;
            FoundKind::File(files::stamp(&stat))
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(directory, name, Vec::new());
            let target = target.map_err(io::Error::from);
            let Some(target) = still_there(skipped, &path, target)? else {
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
    Ok(Some(Looked {
        found: Found {
            path,
            kind,
            metadata: files::metadata(&stat),
        },
        directory: None,
        has_links,
    }))
}

/// Counts what is gone or became something else; any other error stays one.
fn still_there<T>(
    skipped: &mut Skipped,
    path: &[u8],
    got: io::Result<T>,
) -> Result<Option<T>, ScanError> {
    match got {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_vanished(&error) => {
            skipped.vanished += 1;
            Ok(None)
        }
        Err(error) => Err(read_error(path, error)),
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
