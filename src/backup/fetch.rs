//! Reading an object by the digest in its name, whatever was done to the name since it was stored.
//! A key that cannot delete can still hide and overwrite; the version whose bytes fit is behind that.

use bytes::Bytes;
use jiff::Timestamp;

use super::FORMAT_VERSION;
use super::id::{Digest, RepositoryId};
use super::repository::{REPOSITORY_FORMAT, RepositoryObject};
use crate::object_store::{ObjectInfo, ObjectStore, ObjectVersion, StoreError, StoreErrorKind};

/// Versions of one name that are read in search of the right one. The oldest come first, and nobody
/// can store something before what he wants to bury.
const MAX_TRIED: usize = 64;

/// Further reads of what has no digest, in search of two that agree.
const MAX_READS: usize = 3;

/// Longest `repository.json`.
const MAX_DESCRIPTION: u64 = 4096;

/// Why there are no bytes.
#[derive(Debug)]
pub(super) enum FetchError {
    /// The store failed, or has no such object.
    Store(StoreError),
    /// Neither what is stored under the name nor any version that was tried has the digest.
    Changed,
    /// A worker died.
    Worker(tokio::task::JoinError),
}

/// Reads the object at `name`, of at most `limit` bytes, that has this digest.
///
/// A plain read first, and nothing else where its bytes fit: one GET. Only where they do not, or
/// where there is nothing to be read, the versions of the name are listed and tried, and those that
/// cannot be read passed over. A read that was garbled on its way is so repeated, in a store without
/// versions too.
pub(super) async fn fetch(
    store: &dyn ObjectStore,
    name: &str,
    limit: u64,
    digest: Digest,
) -> Result<Bytes, FetchError> {
    let first = match store.get(name, limit).await {
        Ok(bytes) => match fitting(bytes, digest).await? {
            Some(bytes) => return Ok(bytes),
            None => FetchError::Changed,
        },
        Err(error) => match error.kind {
            StoreErrorKind::TooLarge { .. } => FetchError::Changed,
            kind if kind.is_general() => return Err(FetchError::Store(error)),
            _ => FetchError::Store(error),
        },
    };
    let versions = match store.list_versions(name).await {
        Ok(versions) => versions,
        // A key that may not list versions leaves what the plain read said.
        Err(error) if error.kind == StoreErrorKind::Denied => return Err(first),
        Err(error) => return Err(FetchError::Store(error)),
    };
    let versions: Vec<_> = versions.iter().filter(|one| one.name == name).collect();
    match search(store, &versions, limit, digest).await? {
        Searched::Found(bytes) => {
            tracing::warn!(
                name,
                "was hidden, overwritten or garbled; the version with its digest was read"
            );
            Ok(bytes)
        }
        // What is hidden and cannot be read is not gone.
        Searched::Refused(refused) => Err(match first {
            FetchError::Store(error) if error.kind == StoreErrorKind::NotFound => {
                FetchError::Store(refused)
            }
            first => first,
        }),
        Searched::Nothing => Err(first),
    }
}

/// Reads a repository's `repository.json`; `None` where nothing under the name can be read as one.
///
/// The name has no digest, so of several versions the oldest counts: nobody can put one before it.
/// Where the caller knows the id, and it is what a plain read finds, that is all: one GET.
///
/// # Errors
/// The store fails, or there is nothing under the name.
pub(super) async fn fetch_description(
    store: &dyn ObjectStore,
    name: &str,
    expected: Option<RepositoryId>,
) -> Result<Option<RepositoryObject>, StoreError> {
    let fits = |object: &RepositoryObject| expected.is_none_or(|id| id == object.id);
    if expected.is_some()
        && let Ok(bytes) = store.get(name, MAX_DESCRIPTION).await
        && let Some(object) = description(&bytes).filter(fits)
    {
        return Ok(Some(object));
    }
    let plain = async || {
        let bytes = store.get(name, MAX_DESCRIPTION).await?;
        Ok(description(&bytes))
    };
    let versions = match store.list_versions(name).await {
        Ok(versions) => versions,
        // A key that may not list versions leaves what a plain read gives.
        Err(error) if error.kind == StoreErrorKind::Denied => return plain().await,
        Err(error) => return Err(error),
    };
    let mut candidates: Vec<_> = versions.iter().collect();
    candidates.retain(|version| version.name == name && !version.is_delete_marker);
    if candidates.is_empty() {
        return plain().await;
    }
    candidates.retain(|version| version.size <= MAX_DESCRIPTION);
    let (mut oldest, mut refused) = (None, None);
    for version in candidates.into_iter().take(MAX_TRIED) {
        let object = match read_twice(store, version).await {
            Ok(bytes) => description(&bytes),
            Err(error) if error.kind.is_general() => return Err(error),
            Err(error) => {
                note(&mut refused, error);
                continue;
            }
        };
        if object.as_ref().is_some_and(fits) {
            return Ok(object);
        }
        oldest = oldest.or(object);
    }
    match (oldest, refused) {
        (None, Some(refused)) => Err(refused),
        (oldest, _) => Ok(oldest),
    }
}

/// Remembers the first refusal of a version; that one is gone, or longer than it may be, is none.
fn note(refused: &mut Option<StoreError>, error: StoreError) {
    let is_none = matches!(
        error.kind,
        StoreErrorKind::NotFound | StoreErrorKind::TooLarge { .. }
    );
    if !is_none {
        refused.get_or_insert(error);
    }
}

/// Reads a version until two reads agree: nothing else tells whether one was garbled on its way.
async fn read_twice(store: &dyn ObjectStore, version: &ObjectVersion) -> Result<Bytes, StoreError> {
    let mut bytes = store.get_version(version, MAX_DESCRIPTION).await?;
    for _ in 0..MAX_READS {
        let again = store.get_version(version, MAX_DESCRIPTION).await?;
        if again == bytes {
            break;
        }
        bytes = again;
    }
    Ok(bytes)
}

/// What an object says that a repository is; `None` where it is no such object, or of another version.
pub(super) fn description(bytes: &[u8]) -> Option<RepositoryObject> {
    serde_json::from_slice(bytes)
        .ok()
        .filter(|object: &RepositoryObject| {
            object.format == REPOSITORY_FORMAT && object.version == FORMAT_VERSION
        })
}

/// What a search among versions came to.
enum Searched {
    /// These are the bytes.
    Found(Bytes),
    /// None that could be read has the digest; the first of the others was refused like this.
    Refused(StoreError),
    /// None has the digest.
    Nothing,
}

async fn search(
    store: &dyn ObjectStore,
    versions: &[&ObjectVersion],
    limit: u64,
    digest: Digest,
) -> Result<Searched, FetchError> {
    let mut refused = None;
    let candidates = versions
        .iter()
        .filter(|version| !version.is_delete_marker && version.size <= limit);
    for version in candidates.take(MAX_TRIED) {
        match store.get_version(version, limit).await {
            Ok(bytes) => {
                if let Some(bytes) = fitting(bytes, digest).await? {
                    return Ok(Searched::Found(bytes));
                }
            }
            Err(error) if error.kind.is_general() => return Err(FetchError::Store(error)),
            Err(error) => note(&mut refused, error),
        }
    }
    Ok(refused.map_or(Searched::Nothing, Searched::Refused))
}

/// The bytes, if they have the digest.
async fn fitting(bytes: Bytes, digest: Digest) -> Result<Option<Bytes>, FetchError> {
    let check = bytes.clone();
    let found = tokio::task::spawn_blocking(move || Digest::of(&check))
        .await
        .map_err(FetchError::Worker)?;
    Ok((found == digest).then_some(bytes))
}

/// All versions of what is stored below a prefix, hidden ones included.
///
/// # Errors
/// The store cannot be listed. Where only the key may not list versions, what is plain to see is
/// given, with a warning.
pub(super) async fn list_versions(
    store: &dyn ObjectStore,
    prefix: &str,
) -> Result<Vec<ObjectVersion>, StoreError> {
    match store.list_versions(prefix).await {
        Err(error) if error.kind == StoreErrorKind::Denied => {
            let plain = store.list(prefix).await?.into_iter();
            tracing::warn!(
                prefix,
                "the key may not list versions, so what was hidden cannot be seen"
            );
            Ok(plain
                .map(|object| ObjectVersion {
                    name: object.name,
                    version: None,
                    size: object.size,
                    modified: Timestamp::UNIX_EPOCH,
                    is_latest: true,
                    is_delete_marker: false,
                })
                .collect())
        }
        listed => listed,
    }
}

/// What is stored below a prefix, one record for each version that holds bytes, hidden ones included;
/// by name and then by age. One listing, which costs what one without versions does.
///
/// # Errors
/// As [`list_versions`].
pub(super) async fn list_all(
    store: &dyn ObjectStore,
    prefix: &str,
) -> Result<Vec<ObjectInfo>, StoreError> {
    let versions = list_versions(store, prefix).await?.into_iter();
    Ok(versions
        .filter(|version| !version.is_delete_marker)
        .map(|version| ObjectInfo {
            name: version.name,
            size: version.size,
        })
        .collect())
}

/// The names below a prefix, of hidden objects too.
///
/// # Errors
/// As [`list_all`].
pub(super) async fn list_names(
    store: &dyn ObjectStore,
    prefix: &str,
) -> Result<Vec<String>, StoreError> {
    let all = list_all(store, prefix).await?.into_iter();
    let mut names: Vec<String> = all.map(|object| object.name).collect();
    names.dedup();
    Ok(names)
}
