//! Directories: made with owner and mode, removed whole or when empty.
//! It follows no symbolic link out of what it was given.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown};

use camino::Utf8Path;

use super::files::FileError;

fn failed<'a>(verb: &'static str, path: &'a Utf8Path) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError::Io {
        verb,
        path: path.to_owned(),
        source,
    }
}

/// Makes `path` and what leads to it; what is there already keeps its mode.
pub fn make(path: &Utf8Path, mode: u32) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(failed("make", path))
}

fn is_directory(path: &Utf8Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// Makes the directory `path` if it is not there; owner and mode are then as given.
///
/// A directory that is there is the tenant's and keeps what the tenant gave it.
pub fn make_owned(path: &Utf8Path, mode: u32, uid: u32, gid: u32) -> Result<(), FileError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        // A link there would lead whoever mounts the directory to another one.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_directory(path) => {
            return Ok(());
        }
        Err(error) => return Err(failed("make", path)(error)),
    }
    lchown(path, Some(uid), Some(gid)).map_err(failed("give away", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(failed("set the mode of", path))
}

/// Removes `path` if it is an empty directory; says whether it did.
pub fn remove_if_empty(path: &Utf8Path) -> Result<bool, FileError> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty
                    | io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(failed("remove", path)(error)),
    }
}

/// Removes `path` and all below it; nothing there is fine.
pub fn remove_tree(path: &Utf8Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;

    use super::*;

    #[test]
    fn a_directory_of_the_tenant_keeps_what_it_has() {
        let guard = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(guard.path().join("data")).unwrap();
        make_owned(&path, 0o750, 0, 0).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        make_owned(&path, 0o750, 0, 0).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o777
        );
    }

    #[test]
    fn a_link_is_not_taken_for_a_directory_of_the_tenant() {
        let guard = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(guard.path().join("data")).unwrap();
        std::os::unix::fs::symlink("/etc", &path).unwrap();
        let error = make_owned(&path, 0o700, 0, 0).unwrap_err();
        assert!(error.to_string().contains("make"), "{error}");
    }

    #[test]
    fn only_an_empty_directory_is_removed() {
        let guard = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(guard.path().join("a/b")).unwrap();
        make(&path, 0o700).unwrap();
        assert!(!remove_if_empty(path.parent().unwrap()).unwrap());
        assert!(remove_if_empty(&path).unwrap());
        assert!(!remove_if_empty(&path).unwrap());
        remove_tree(&path).unwrap();
    }
}
