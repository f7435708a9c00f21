//! Moves what was restored into a live tree whose owner may be hostile, and never over anything.
//! What is moved was made elsewhere in the same file system, where nobody else could reach it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use camino::Utf8Path;
use rustix::fs::{CWD, RenameFlags};

use super::{files, path};

/// Moves `from` into the directory that holds `path` below `root`, as the name of `path` with `suffix`.
///
/// Gives the escaped path that it has then.
///
/// # Errors
/// `NotFound` where the directory is gone, `AlreadyExists` where the new name is taken; `ELOOP` or `EXDEV` where
/// something on the way is a link.
pub fn move_beside(from: &Path, root: &Utf8Path, path: &[u8], suffix: &str) -> io::Result<String> {
    let root = File::open(root)?;
    let parent = files::open_parent(root.as_fd(), path)?;
    let new = [path::name(path), suffix.as_bytes()].concat();
    let name = std::ffi::CString::new(new.clone()).map_err(io::Error::other)?;
    rustix::fs::renameat_with(CWD, from, &parent, name.as_c_str(), RenameFlags::NOREPLACE)?;
    rustix::fs::fsync(&parent)?;
    let whole = match path::parent(path) {
        path::ROOT => new,
        parent => [parent, b"/", &new].concat(),
    };
    Ok(path::escape(&whole))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn it_goes_beside_never_over_and_never_out() {
        let guard = tempfile::tempdir().unwrap();
        let at = Utf8Path::from_path(guard.path()).unwrap();
        let root = at.join("state");
        fs::create_dir_all(root.join("data")).unwrap();
        fs::create_dir(at.join("outside")).unwrap();
        symlink("../outside", root.join("link")).unwrap();
        fs::write(at.join("new"), "new").unwrap();
        let move_it =
            |path: &[u8]| move_beside(at.join("new").as_std_path(), &root, path, ".restored-3");

        assert_eq!(
            move_it(b"gone/x").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert!(move_it(b"link/x").is_err());
        fs::write(root.join("data/y.restored-3"), "taken").unwrap();
        assert_eq!(
            move_it(b"data/y").unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(move_it(b"data/x").unwrap(), "data/x.restored-3");
        assert_eq!(fs::read(root.join("data/x.restored-3")).unwrap(), b"new");
        assert_eq!(fs::read(root.join("data/y.restored-3")).unwrap(), b"taken");
        assert!(fs::read_dir(at.join("outside")).unwrap().next().is_none());
    }
}
