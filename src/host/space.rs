//! How much room a file system has. It looks; whether that is enough is decided elsewhere.

use camino::Utf8Path;
use nix::sys::statvfs::{Statvfs, statvfs};

use super::files::FileError;

/// The room of one file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that can still be written; what is reserved for root counts as taken.
    pub free: u64,
    /// All bytes.
    pub total: u64,
}

/// How many files a file system can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inodes {
    /// Those that can still be made.
    pub free: u64,
    /// All; 0 where the file system does not count them.
    pub total: u64,
}

/// The room of the file system that holds `path`.
pub fn of(path: &Utf8Path) -> Result<Space, FileError> {
    let found = look(path)?;
    Ok(Space {
        free: found.blocks_available() * found.fragment_size(),
        total: found.blocks() * found.fragment_size(),
    })
}

/// How many files the file system that holds `path` can have.
pub fn inodes(path: &Utf8Path) -> Result<Inodes, FileError> {
    let found = look(path)?;
    Ok(Inodes {
        free: found.files_available(),
        total: found.files(),
    })
}

fn look(path: &Utf8Path) -> Result<Statvfs, FileError> {
    statvfs(path.as_std_path()).map_err(|errno| FileError::Io {
        verb: "ask for the free space of",
        path: path.to_owned(),
        source: errno.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_some_of_what_there_is() {
        let space = of(Utf8Path::new("/")).unwrap();
        assert!(space.free <= space.total && space.total > 0);
        assert!(of(Utf8Path::new("/absent")).unwrap_err().is_absent());
    }
}
