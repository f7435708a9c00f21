//! The wrapped keys of a repository in the store: for whom they are, wrapping them for others, erasing them.
//! It needs a key that may delete; whose keys, and whether at all, is its callers' to decide.

use std::sync::Arc;

use bytes::Bytes;
use camino::Utf8Path;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::{BucketPrefix, Digest};
use super::local_file;
use super::names::ObjectNames;
use super::repository::{self, KEYS, RepositoryError, RepositorySpec};
use super::seal::{Identity, MAX_KEYS, Recipient, RepositoryKeys, SealError};
use crate::failpoint;
use crate::object_store::{Collector, Deleted, ObjectVersion, StoreError, StoreErrorKind};

/// Whom the keys are wrapped for, in the local directory: the age file itself does not tell.
const RECIPIENTS: &str = "recipients.json";
/// So many versions of key objects are tried for one that fits, the oldest first: nobody can store
/// something before what is there.
const MAX_TRIED: usize = 1024;

/// Why keys were not wrapped anew.
#[derive(Debug, thiserror::Error)]
pub enum RewrapError {
    /// The store.
    #[error("the keys could not be read from or written to the store")]
    Store(#[from] StoreError),
    /// The identity opens none of them.
    #[error(
        "the identity given opens none of the repository's key objects; use that of a recipient \
         whom they are wrapped for now"
    )]
    NoKey,
    /// They could not be wrapped.
    #[error("the keys could not be wrapped")]
    Seal(#[from] SealError),
    /// What was stored is not what is read.
    #[error("the store gives other bytes than it was given; the old key objects were left")]
    ReadBack,
    /// A local file.
    #[error("what the host keeps of the repository could not be written")]
    Local(#[from] RepositoryError),
}

/// For whom a key object is wrapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Wrapped {
    object: Digest,
    recipients: Vec<String>,
}

/// What became of objects that were to go, with all their versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Removal {
    /// Versions that are gone.
    pub removed: u64,
    /// Versions that are still there.
    pub left: u64,
    /// Whether that is because the store's key may not delete.
    pub denied: bool,
    /// Until when Object Lock holds them, as far as the store says.
    pub locked_until: Option<Timestamp>,
}

impl Removal {
    /// Whether nothing is left.
    pub fn is_complete(&self) -> bool {
        self.left == 0
    }
}

/// What became of a repository's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrapped {
    /// They are wrapped for just these recipients already.
    Unchanged,
    /// They are wrapped anew, or would be.
    Anew {
        /// What became of the old objects.
        old: Removal,
    },
}

/// Notes down for whom `sealed` is.
pub(super) fn note_recipients(
    directory: &Utf8Path,
    sealed: &[u8],
    recipients: &[Recipient],
) -> Result<(), RepositoryError> {
    let wrapped = Wrapped {
        object: Digest::of(sealed),
        recipients: sorted(recipients),
    };
    repository::write_json(&directory.join(RECIPIENTS), &wrapped)
}

fn sorted(recipients: &[Recipient]) -> Vec<String> {
    let mut texts: Vec<String> = recipients.iter().map(ToString::to_string).collect();
    texts.sort_unstable();
    texts
}

/// For whom a repository's keys are wrapped, as far as this host knows: a repository that another node
/// made says nothing of it.
///
/// # Errors
/// The file cannot be read.
pub fn known_recipients(directory: &Utf8Path) -> Result<Option<Vec<String>>, RepositoryError> {
    Ok(wrapped(directory)?.map(|wrapped| wrapped.recipients))
}

fn wrapped(directory: &Utf8Path) -> Result<Option<Wrapped>, RepositoryError> {
    let path = directory.join(RECIPIENTS);
    let text = local_file::read(&path).map_err(repository::local("read", &path))?;
    Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
}

/// Wraps the keys of the repository whose local directory this is for `recipients`, and only them.
///
/// The new object is stored and read back before any other is deleted, so that at no time nobody can
/// read the repository. It may be repeated.
///
/// # Errors
/// See [`RewrapError`]. What a key may not delete is in the result, not an error.
pub async fn rewrap(
    store: &Arc<dyn Collector>,
    directory: &Utf8Path,
    spec: &RepositorySpec,
    identity: &Identity,
    recipients: &[Recipient],
    dry_run: bool,
) -> Result<Rewrapped, RewrapError> {
    let names = ObjectNames(spec.prefix);
    let versions = versions(store, names).await?;
    let noted = wrapped(directory)?;
    let noted = noted.filter(|wrapped| wrapped.recipients == sorted(recipients));
    let current = noted.map(|wrapped| names.keys(&wrapped.object));
    let is_there = |name: &String| versions.iter().any(|v| v.name == *name && v.is_latest);
    let name = match current.filter(is_there) {
        Some(name) if versions.iter().all(|version| version.name == name) => {
            return Ok(Rewrapped::Unchanged);
        }
        Some(name) => name,
        None => {
            let keys = unwrap(store, &versions, directory, spec, identity).await?;
            let sealed = Bytes::from(keys.wrap(spec.id, recipients)?);
            if dry_run {
                let old = remove(store, &versions, dry_run).await?;
                return Ok(Rewrapped::Anew { old });
            }
            let name = names.keys(&Digest::of(&sealed));
            store.put(&name, sealed.clone()).await?;
            if store.get(&name, MAX_KEYS).await? != sealed {
                return Err(RewrapError::ReadBack);
            }
            failpoint::hit("keys.wrapped");
            repository::write(&directory.join(KEYS), &sealed)?;
            note_recipients(directory, &sealed, recipients)?;
            failpoint::hit("keys.noted");
            name
        }
    };
    let old: Vec<_> = versions.into_iter().filter(|v| v.name != name).collect();
    let old = remove(store, &old, dry_run).await?;
    Ok(Rewrapped::Anew { old })
}

/// The keys that fit the repository, from whichever version of whichever object the identity opens, or
/// from this host's own copy: a new repository may not be stored yet.
async fn unwrap(
    store: &Arc<dyn Collector>,
    versions: &[ObjectVersion],
    directory: &Utf8Path,
    spec: &RepositorySpec,
    identity: &Identity,
) -> Result<RepositoryKeys, RewrapError> {
    // Anyone can make a key object; this host knows which recipient is the right one.
    let fitting = |sealed: &[u8]| {
        let keys = RepositoryKeys::unwrap(spec.id, identity, sealed).ok()?;
        (keys.identity.recipient().digest() == spec.recipient.digest()).then_some(keys)
    };
    let path = directory.join(KEYS);
    let own = local_file::read(&path).map_err(repository::local("read", &path))?;
    if let Some(keys) = own.and_then(|sealed| fitting(&sealed)) {
        return Ok(keys);
    }
    let mut candidates: Vec<_> = versions.iter().collect();
    candidates.retain(|version| !version.is_delete_marker && version.size <= MAX_KEYS);
    candidates.sort_by_key(|version| version.modified);
    for version in candidates.into_iter().take(MAX_TRIED) {
        if let Ok(sealed) = store.get_version(version, MAX_KEYS).await
            && let Some(keys) = fitting(&sealed)
        {
            return Ok(keys);
        }
    }
    Err(RewrapError::NoKey)
}

/// Deletes all versions of all key objects below a prefix: nobody can ever read the repository then. With
/// `was_stored`, a store that does not have the repository's description either is another one, or out of reach.
///
/// # Errors
/// The store cannot be listed, or fails. What it holds back is in the result, not an error.
pub async fn erase(
    store: &Arc<dyn Collector>,
    prefix: BucketPrefix,
    was_stored: bool,
    dry_run: bool,
) -> Result<Removal, StoreError> {
    let names = ObjectNames(prefix);
    let description = names.repository();
    let versions = versions(store, names).await?;
    // A directory that is not mounted looks like an empty store.
    if versions.is_empty() && was_stored && store.list_versions(&description).await?.is_empty() {
        return Err(StoreError {
            action: "looking for",
            place: description,
            kind: StoreErrorKind::NotFound,
            source: None,
        });
    }
    remove(store, &versions, dry_run).await
}

/// All of them, however many somebody has added: what is not looked at would be left and not be said.
async fn versions(
    store: &Arc<dyn Collector>,
    names: ObjectNames,
) -> Result<Vec<ObjectVersion>, StoreError> {
    store.list_versions(&names.keys_prefix()).await
}

async fn remove(
    store: &Arc<dyn Collector>,
    versions: &[ObjectVersion],
    dry_run: bool,
) -> Result<Removal, StoreError> {
    let mut removal = Removal::default();
    for version in versions {
        let deleted = if dry_run {
            Ok(Deleted::Gone)
        } else {
            store.delete_version(version).await
        };
        match deleted {
            Ok(Deleted::Gone) => removal.removed += 1,
            Ok(Deleted::Locked { until }) => {
                removal.left += 1;
                removal.locked_until = removal.locked_until.max(until);
            }
            Err(error) if error.kind == StoreErrorKind::Denied => {
                removal.left += 1;
                removal.denied = true;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(removal)
}
