//! Small files of the host, replaced as a whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

use camino::Utf8Path;

/// Writes `bytes` (mode 0600) under a temporary name, syncs, renames, and syncs the directory.
///
/// # Errors
/// Any I/O error; the old file is then untouched.
pub fn write(file: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = file.with_extension("new");
    let mut out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = out
        .write_all(bytes)
        .and_then(|()| out.sync_all())
        .and_then(|()| fs::rename(&temporary, file));
    if written.is_err() {
        // The first error is the one to report. On a full disk every byte counts.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_parent(file)
}

/// Removes a file that may be gone already.
///
/// # Errors
/// Any other I/O error.
pub fn remove(file: &Utf8Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_parent(file),
    }
}

/// Makes a directory (mode 0700) and what is missing above it, each of them on disk.
///
/// # Errors
/// Any I/O error.
pub fn make_directory(path: &Utf8Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| *parent != "") {
        make_directory(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_parent(path),
    }
}

/// Reads a file that may not be there.
///
/// # Errors
/// Any other I/O error.
pub fn read(file: &Utf8Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Syncs the directory that a file or directory is in, so that its name is on disk.
///
/// # Errors
/// Any I/O error.
pub fn sync_parent(file: &Utf8Path) -> io::Result<()> {
    match file.parent() {
        Some(parent) if parent != "" => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}
