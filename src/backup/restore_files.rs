//! Making the files of a snapshot below a fresh directory, without ever following a link.
//! The entries were checked by the tree's reader; here the kernel checks again (`openat2`).

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::sync::atomic::{AtomicU64, Ordering};

use camino::Utf8PathBuf;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};

use super::entry::{Entry, EntryKind, FileTime, Metadata, Piece};
use super::files;
use super::path;

/// Why a file could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFilesError {
    /// The target is there already.
    #[error("{0} exists already; a restore only writes to a directory that it makes itself")]
    NotFresh(Utf8PathBuf),
    /// The target cannot be made.
    #[error("{path} cannot be made")]
    Target {
        /// The target.
        path: Utf8PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// A file cannot be made.
    #[error("{path:?} cannot be {action}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The escaped path.
        path: String,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
}

/// A fresh directory that is being filled.
#[derive(Debug)]
pub struct Target {
    path: Utf8PathBuf,
    root: File,
    entries: Vec<Entry>,
    whole: Vec<bool>,
    ownership: bool,
    keep_setuid: bool,
    dropped: AtomicU64,
}

impl Target {
    /// Makes the target, all directories, and every file that several packs fill.
    ///
    /// # Errors
    /// See [`RestoreFilesError`]; a directory that was made is removed again.
    pub fn create(
        path: Utf8PathBuf,
        entries: Vec<Entry>,
        whole: Vec<bool>,
        (ownership, keep_setuid): (bool, bool),
    ) -> Result<Self, RestoreFilesError> {
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(RestoreFilesError::NotFresh(path));
            }
            Err(source) => return Err(RestoreFilesError::Target { path, source }),
        }
        let root = match File::open(&path) {
            Ok(root) => root,
            Err(source) => return Err(RestoreFilesError::Target { path, source }),
        };
        let dropped = AtomicU64::new(0);
        let target = Self {
            path,
            root,
            entries,
            whole,
            ownership,
            keep_setuid,
            dropped,
        };
        match target.make_frame() {
            Ok(()) => Ok(target),
            Err(error) => {
                target.remove();
                Err(error)
            }
        }
    }

    fn make_frame(&self) -> Result<(), RestoreFilesError> {
        for (entry, whole) in self.entries.iter().zip(&self.whole) {
            match &entry.kind {
                EntryKind::Directory(_) if entry.path != path::ROOT => {
                    let parent = self.parent(&entry.path)?;
                    rustix::fs::mkdirat(&parent, path::name(&entry.path), Mode::RWXU)
                        .map_err(|error| failed("made", &entry.path, error.into()))?;
                }
                EntryKind::File { size, .. } if !whole => {
                    let file = self.make_file(&entry.path)?;
                    file.set_len(*size)
                        .map_err(|error| failed("made", &entry.path, error))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn parent(&self, path: &[u8]) -> Result<File, RestoreFilesError> {
        files::open_parent(self.root.as_fd(), path).map_err(|error| failed("reached", path, error))
    }

    fn make_file(&self, path: &[u8]) -> Result<File, RestoreFilesError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.root, path, flags, Mode::RUSR | Mode::WUSR, resolve)
            .map(File::from)
            .map_err(|error| failed("made", path, error.into()))
    }

    /// The path of an entry.
    pub fn path(&self, entry: u32) -> &[u8] {
        self.entries
            .get(entry as usize)
            .map_or(b"", |entry| &entry.path)
    }

    /// Opens the file of an entry to write chunks to it.
    ///
    /// # Errors
    /// It cannot be opened or made.
    pub fn open(&self, entry: u32) -> Result<OpenFile<'_>, RestoreFilesError> {
        let whole = self.whole[entry as usize];
        let entry = &self.entries[entry as usize];
        let file = if whole {
            self.make_file(&entry.path)?
        } else {
            files::open_below(self.root.as_fd(), &entry.path, OFlags::WRONLY)
                .map_err(|error| failed("opened", &entry.path, error))?
        };
        Ok(OpenFile {
            target: self,
            entry,
            file,
            whole,
        })
    }

    /// Makes links, sets the metadata of all that is not finished, and syncs the file system.
    ///
    /// Gives how many files lost a setuid or setgid bit.
    ///
    /// # Errors
    /// See [`RestoreFilesError`].
    pub fn finish(&self) -> Result<u64, RestoreFilesError> {
        for (entry, whole) in self.entries.iter().zip(&self.whole) {
            match &entry.kind {
                EntryKind::File { metadata, .. } if !whole => {
                    let file = files::open_below(self.root.as_fd(), &entry.path, OFlags::WRONLY)
                        .map_err(|error| failed("opened", &entry.path, error))?;
                    self.set_file(&file, &entry.path, metadata)?;
                }
                EntryKind::Symlink { metadata, target } => {
                    self.make_symlink(&entry.path, target, metadata)?;
                }
                _ => {}
            }
        }
        for entry in &self.entries {
            if let EntryKind::Hardlink { target } = &entry.kind {
                let (old, new) = (self.parent(target)?, self.parent(&entry.path)?);
                let (from, to) = (path::name(target), path::name(&entry.path));
                rustix::fs::linkat(&old, from, &new, to, AtFlags::empty())
                    .map_err(|error| failed("linked", &entry.path, error.into()))?;
            }
        }
        // Deepest first: filling a directory changes its time.
        for entry in self.entries.iter().rev() {
            if let EntryKind::Directory(metadata) = &entry.kind {
                let directory = files::open_directory(self.root.as_fd(), &entry.path)
                    .map_err(|error| failed("opened", &entry.path, error))?;
                self.set(&directory, &entry.path, metadata, metadata.mode)?;
            }
        }
        rustix::fs::syncfs(&self.root)
            .map_err(|error| failed("synced", path::ROOT, error.into()))?;
        Ok(self.dropped.load(Ordering::Relaxed))
    }

    fn make_symlink(
        &self,
        path: &[u8],
        target: &[u8],
        metadata: &Metadata,
    ) -> Result<(), RestoreFilesError> {
        let (parent, name) = (self.parent(path)?, path::name(path));
        let made = rustix::fs::symlinkat(target, &parent, name);
        made.map_err(|error| failed("linked", path, error.into()))?;
        if self.ownership {
            let (uid, gid) = owner(metadata);
            rustix::fs::chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| failed("given its owner", path, error.into()))?;
        }
        let times = times(metadata.mtime);
        rustix::fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| failed("given its time", path, error.into()))
    }

    fn set_file(
        &self,
        file: &File,
        path: &[u8],
        metadata: &Metadata,
    ) -> Result<(), RestoreFilesError> {
        let mut mode = metadata.mode;
        if !self.keep_setuid && mode & 0o6000 != 0 {
            mode &= !0o6000;
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.set(file, path, metadata, mode)
    }

    fn set(
        &self,
        file: &File,
        path: &[u8],
        metadata: &Metadata,
        mode: u32,
    ) -> Result<(), RestoreFilesError> {
        for (name, value) in &metadata.xattrs {
            if !name.starts_with("user.") {
                continue;
            }
            rustix::fs::fsetxattr(file, name.as_str(), value, XattrFlags::empty())
                .map_err(|error| failed("given its attributes", path, error.into()))?;
        }
        if self.ownership {
            let (uid, gid) = owner(metadata);
            rustix::fs::fchown(file, uid, gid)
                .map_err(|error| failed("given its owner", path, error.into()))?;
        }
        // After the owner, because a change of owner drops setuid bits.
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode))
            .map_err(|error| failed("given its mode", path, error.into()))?;
        rustix::fs::futimens(file, &times(metadata.mtime))
            .map_err(|error| failed("given its time", path, error.into()))
    }

    /// Removes all that was made, after a failure.
    pub fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path, %error, "a broken-off restore could not be removed");
        }
    }
}

/// A file that gets chunks.
pub struct OpenFile<'a> {
    target: &'a Target,
    entry: &'a Entry,
    file: File,
    whole: bool,
}

impl OpenFile<'_> {
    /// Writes a chunk.
    ///
    /// # Errors
    /// The disk is full, for example.
    pub fn write(&self, offset: u64, chunk: &[u8]) -> Result<(), RestoreFilesError> {
        self.file
            .write_all_at(chunk, offset)
            .map_err(|error| failed("written", &self.entry.path, error))
    }

    /// Finishes the file if nothing else will be written to it; says whether it did.
    ///
    /// # Errors
    /// Its metadata cannot be set.
    pub fn close(self) -> Result<bool, RestoreFilesError> {
        let EntryKind::File {
            metadata,
            size,
            pieces,
        } = &self.entry.kind
        else {
            return Ok(false);
        };
        if !self.whole {
            return Ok(false);
        }
        if matches!(pieces.last(), Some(Piece::Hole(_))) {
            let set = self.file.set_len(*size);
            set.map_err(|error| failed("written", &self.entry.path, error))?;
        }
        self.target
            .set_file(&self.file, &self.entry.path, metadata)?;
        Ok(true)
    }
}

fn failed(action: &'static str, path: &[u8], source: io::Error) -> RestoreFilesError {
    RestoreFilesError::File {
        action,
        path: path::show(path),
        source,
    }
}

fn owner(metadata: &Metadata) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(metadata.uid)),
        Some(Gid::from_raw(metadata.gid)),
    )
}

fn times(mtime: FileTime) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.seconds,
        tv_nsec: mtime.nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
