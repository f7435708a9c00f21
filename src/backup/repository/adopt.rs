//! Going on with a repository that another node wrote: the local directory is made from what the store told.
//! Whether and from which commit is its callers' to decide.

use std::fs;
use std::io;
use std::sync::Arc;

use camino::Utf8Path;
use jiff::Timestamp;

use super::Repository;
use super::error::RepositoryError;
use super::local::{
    GIVEN_UP, HEAD, INDEX, INTENT, NEXT_COMMIT, NEXT_INDEX, NEXT_RECORD, PUBLISHED, SNAPSHOTS,
    SPEC, keep_directory, local, lock, read_local_spec, write, write_head, write_json,
};
use super::spec::RepositorySpec;
use crate::backup::id::{BucketPrefix, RepositoryId};
use crate::backup::names::CommitName;
use crate::backup::seal::RepositoryKeys;
use crate::backup::{FORMAT_VERSION, local_file};
use crate::failpoint;
use crate::object_store::ObjectStore;

/// A repository that another node wrote.
#[derive(Debug, Clone, Copy)]
pub struct Adopted<'a> {
    /// Its id.
    pub id: RepositoryId,
    /// Its prefix in the store.
    pub prefix: BucketPrefix,
    /// When it was made.
    pub created: Timestamp,
    /// Its keys; the identity is not kept.
    pub keys: &'a RepositoryKeys,
    /// The commit to go on from.
    pub head: Option<CommitName>,
}

impl Repository {
    /// Makes the local directory of a repository whose keys were read back from the store, so that this node
    /// goes on where `head` ended. What a directory of the same repository knew of another way is replaced.
    ///
    /// It may be cut short anywhere and repeated. At no time is there another repository in the directory, or
    /// none where there was one; but until this has ended, its caller must see to it that nobody writes on.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn adopt(
        directory: &Utf8Path,
        store: Arc<dyn ObjectStore>,
        adopted: Adopted<'_>,
    ) -> Result<Self, RepositoryError> {
        let lock = lock(directory)?;
        if read_local_spec(directory)?
            .is_some_and(|spec| (spec.id, spec.prefix) != (adopted.id, adopted.prefix))
        {
            return Err(RepositoryError::Exists(directory.to_owned()));
        }
        let spec = RepositorySpec {
            version: FORMAT_VERSION,
            id: adopted.id,
            prefix: adopted.prefix,
            recipient: adopted.keys.identity.recipient(),
            chunk_id_key: adopted.keys.chunk_id_key.clone(),
            // Its index is not here, so everything is stored anew whatever the blocks are.
            created: adopted.created,
        };
        keep_directory(directory)?;
        forget(directory)?;
        failpoint::hit("adopt.emptied");
        if let Some(name) = adopted.head {
            write_head(directory, &name)?;
        }
        write(&directory.join(PUBLISHED), b"")?;
        // Last: a directory without it holds no repository.
        write_json(&directory.join(SPEC), &spec)?;
        // There is no commit under way in such a directory, so no time to compare.
        Self::open_locked(directory, store, lock, adopted.created).await
    }
}

/// Removes what a directory knows of the way to its head; a commit under way first, so that nobody ends it.
fn forget(directory: &Utf8Path) -> Result<(), RepositoryError> {
    for name in [
        INTENT,
        NEXT_INDEX,
        NEXT_RECORD,
        NEXT_COMMIT,
        HEAD,
        INDEX,
        GIVEN_UP,
    ] {
        let path = directory.join(name);
        local_file::remove(&path).map_err(local("written", &path))?;
    }
    remove_tree(&directory.join(SNAPSHOTS))
}

/// Removes the local directory of a repository that nobody writes to at the moment.
///
/// What is left of it when it is cut short holds no repository.
///
/// # Errors
/// A backup is at work, or the files cannot be removed.
pub fn remove_repository(directory: &Utf8Path) -> Result<(), RepositoryError> {
    let _lock = lock(directory)?;
    let spec = directory.join(SPEC);
    local_file::remove(&spec).map_err(local("written", &spec))?;
    remove_tree(directory)
}

fn remove_tree(path: &Utf8Path) -> Result<(), RepositoryError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(local("removed", path)(error)),
        _ => Ok(()),
    }
}
