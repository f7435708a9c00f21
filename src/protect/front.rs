//! The front's certificates as a part of the node: with them a rebuilt host serves at once, and asks no authority for
//! what it has. They are in a directory of Caddy's, which is read as a stranger's.

use camino::{Utf8Path, Utf8PathBuf};

use super::ProtectError;
use crate::host::dirs;
use crate::host::files::{self, FileError};
use crate::layout::Layout;

/// Most files that are taken: three for each certificate, two for each account.
const MOST: usize = 50_000;

/// Deepest directory: `certificates/AUTHORITY/HOST`, `acme/AUTHORITY/users/ADDRESS`.
const DEPTH: usize = 6;

/// Largest file that is taken.
const LIMIT: u64 = 1024 * 1024;

/// What is backed up of the store, by its path in it: plain files, and no locks, which are those of this moment.
pub(super) fn stored(layout: &Layout) -> Result<Vec<Utf8PathBuf>, FileError> {
    let mut found = Vec::new();
    walk(
        &layout.front_store_dir(),
        Utf8Path::new(""),
        DEPTH,
        &mut found,
    )?;
    found.sort();
    Ok(found)
}

fn walk(
    store: &Utf8Path,
    below: &Utf8Path,
    depth: usize,
    found: &mut Vec<Utf8PathBuf>,
) -> Result<(), FileError> {
    let directory = store.join(below);
    let entries = match directory.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(FileError::Io {
                verb: "read",
                path: directory,
                source,
            });
        }
    };
    // What has a name that is no text is none of Caddy's.
    for entry in entries.flatten() {
        let name = below.join(entry.file_name());
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && depth > 0 && name != "locks" {
            walk(store, &name, depth - 1, found)?;
        } else if kind.is_file() && found.len() < MOST && is_small(entry.path()) {
            found.push(name);
        }
    }
    Ok(())
}

fn is_small(path: &Utf8Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|metadata| metadata.len() <= LIMIT)
}

/// What is backed up of the wildcard certificate: that, the account, and how the last attempt ended. The password is made
/// anew, and records in the DNS are those of this moment.
pub(super) fn stored_wildcard(layout: &Layout) -> Result<Vec<Utf8PathBuf>, FileError> {
    let mut found = Vec::new();
    walk(
        &layout.front_wildcard_dir(),
        Utf8Path::new(""),
        0,
        &mut found,
    )?;
    found.retain(|name| is_of_wildcard(name));
    found.sort();
    Ok(found)
}

fn is_of_wildcard(name: &Utf8Path) -> bool {
    let is_kept = name.extension() == Some("pem");
    is_kept || name == "account.json" || name == "attempt.json"
}

/// Puts a restored wildcard certificate beside what is there.
pub(super) fn put_wildcard_in_place(
    layout: &Layout,
    restored: &Utf8Path,
) -> Result<(), ProtectError> {
    let mut found = Vec::new();
    walk(restored, Utf8Path::new(""), 0, &mut found)?;
    found.retain(|name| is_of_wildcard(name));
    let directory = layout.front_wildcard_dir();
    for name in found {
        dirs::make(&directory, 0o750)?;
        // The directory's group, which is Caddy's, may read certificates.
        let mode = match name.extension() {
            Some("pem") => 0o640,
            _ => 0o600,
        };
        let bytes = files::read(&restored.join(&name), LIMIT)?;
        files::write(&directory.join(&name), &bytes, mode)?;
    }
    Ok(())
}

/// Puts a restored store in the place of what is there. It is root's until the front's unit starts, which gives it to
/// Caddy (`StateDirectory=`).
pub(super) fn put_in_place(layout: &Layout, restored: &Utf8Path) -> Result<(), ProtectError> {
    let mut found = Vec::new();
    walk(restored, Utf8Path::new(""), DEPTH, &mut found)?;
    if found.is_empty() {
        return Ok(());
    }
    let store = layout.front_store_dir();
    dirs::make(&layout.front_dir(), 0o755)?;
    dirs::remove_tree(&store)?;
    dirs::make(&store, 0o700)?;
    for name in found {
        let target = store.join(&name);
        if let Some(parent) = target.parent() {
            dirs::make(parent, 0o700)?;
        }
        files::write(&target, &files::read(&restored.join(&name), LIMIT)?, 0o600)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wildcard_certificate_and_its_account_come_back_and_the_password_does_not() {
        let guard = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
        let (old, new) = (
            Layout::rooted(root.join("old")),
            Layout::rooted(root.join("new")),
        );
        assert_eq!(stored_wildcard(&old).unwrap(), Vec::<Utf8PathBuf>::new());
        let directory = old.front_wildcard_dir();
        std::fs::create_dir_all(&directory).unwrap();
        for name in [
            "example.org.pem",
            "account.json",
            "attempt.json",
            "password",
            "presented.json",
        ] {
            std::fs::write(directory.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("/etc/shadow", directory.join("evil.pem")).unwrap();
        let found = stored_wildcard(&old).unwrap();
        assert_eq!(found, ["account.json", "attempt.json", "example.org.pem"]);
        put_wildcard_in_place(&new, &directory).unwrap();
        assert_eq!(stored_wildcard(&new).unwrap(), found);
        let account = new.front_wildcard_dir().join("account.json");
        assert!(files::is_private(&account).unwrap());
        // A node without one changes nothing.
        put_wildcard_in_place(&new, &root.join("nothing")).unwrap();
        assert_eq!(stored_wildcard(&new).unwrap(), found);
    }

    #[test]
    fn certificates_come_back_and_nothing_else_of_the_store_does() {
        let guard = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
        let old = Layout::rooted(root.join("old"));
        let store = old.front_store_dir();
        assert_eq!(stored(&old).unwrap(), Vec::<Utf8PathBuf>::new());
        for (path, text) in [
            ("certificates/ca/a.test/a.test.crt", "chain"),
            ("certificates/ca/a.test/a.test.key", "key"),
            ("acme/ca/users/ops@a.test/ops.json", "account"),
            ("locks/issue_cert_a.test.lock", "now"),
        ] {
            std::fs::create_dir_all(store.join(path).parent().unwrap()).unwrap();
            std::fs::write(store.join(path), text).unwrap();
        }
        std::os::unix::fs::symlink("/etc/shadow", store.join("certificates/ca/evil.crt")).unwrap();
        let found = stored(&old).unwrap();
        assert_eq!(found.len(), 3, "{found:?}");

        let new = Layout::rooted(root.join("new"));
        std::fs::create_dir_all(new.front_store_dir().join("certificates/ca/stale.test")).unwrap();
        put_in_place(&new, &store).unwrap();
        assert_eq!(stored(&new).unwrap(), found);
        let key = new.front_store_dir().join(&found[2]);
        assert_eq!(std::fs::read_to_string(&key).unwrap(), "key");
        assert!(files::is_private(&key).unwrap());
        assert!(
            !new.front_store_dir()
                .join("certificates/ca/stale.test")
                .exists()
        );
        // A node without a front changes nothing.
        put_in_place(&new, &root.join("nothing")).unwrap();
        assert_eq!(stored(&new).unwrap(), found);
    }
}
