//! What lies in every repository for whoever has to restore it without tenantd: a guide and a script.
//! Both are clear and unsigned, so nothing here ever reads them back.

use std::io;

use bytes::Bytes;
use camino::Utf8Path;

use super::id::Digest;
use super::local_file;
use super::names::ObjectNames;
use super::repository::RepositoryError;
use crate::failpoint;
use crate::object_store::ObjectStore;

/// The files by name; what the repository has is what came with the tenantd that wrote last.
pub const FILES: [(&str, &str); 2] = [
    ("RESTORE.md", include_str!("without_us/RESTORE.md")),
    ("restore.sh", include_str!("without_us/restore.sh")),
];

/// Remembers in the repository's local directory which text the store has.
const STORED: &str = "without-us";

/// Stores the files unless the store is known to have these very texts.
///
/// # Errors
/// The store or a local file; repeated at the next start.
pub(super) async fn store_files(
    directory: &Utf8Path,
    store: &dyn ObjectStore,
    names: ObjectNames,
) -> Result<(), RepositoryError> {
    let path = directory.join(STORED);
    let local = |action| {
        let path = path.clone();
        move |source: io::Error| RepositoryError::Local {
            action,
            path,
            source,
        }
    };
    let digest = Digest::of(FILES.map(|(_, text)| text).concat().as_bytes()).to_string();
    let stored = local_file::read(&path).map_err(local("read"))?;
    if stored.is_some_and(|stored| stored == digest.as_bytes()) {
        return Ok(());
    }
    for (name, text) in FILES {
        let name = names.without_us(name);
        let put = store.put(&name, Bytes::from_static(text.as_bytes()));
        put.await.map_err(RepositoryError::Store)?;
    }
    failpoint::hit("backup.after-create-texts-put");
    local_file::write(&path, digest.as_bytes()).map_err(local("written"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_short_enough_to_be_read_first() {
        let lines: Vec<&str> = FILES[1].1.lines().collect();
        assert!(lines.len() <= 80, "{} lines", lines.len());
        assert!(lines.iter().all(|line| line.len() <= 120));
    }
}
