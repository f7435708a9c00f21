//! The reader's side of a repository: nothing it reads is believed before signature and hash are checked.
//! Listing and verifying need no identity; trees and packs do.

mod error;
mod ranges;
mod snapshots;
mod unlock;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;

pub use self::error::RemoteError;
pub use self::snapshots::{RefusedCommit, Snapshots};
use super::certificate::Trust;
use super::commit::{CommitError, MAX_COMMIT, ObjectRef, SignedCommit};
use super::fetch::{FetchError, fetch, fetch_description, list_names};
use super::heartbeat::{MAX_HEARTBEAT, SignedHeartbeat};
use super::id::{BucketPrefix, Digest, RepositoryId};
use super::names::{CommitName, HeartbeatName, ObjectNames};
use super::pack::MAX_PACK;
use super::pack_list::{ListObject, MAX_LIST};
use super::repository::{Adopted, RepositoryObject, known_commit};
use super::seal::{self, RepositoryKeys};
use super::tree::{Labels, MAX_PART, Tree, TreeHeader, TreeReader};
use crate::object_store::{ObjectStore, StoreErrorKind};

/// So many of the newest heartbeats are looked at for one that a trusted node signed.
const MAX_BEATS: usize = 256;
/// Small objects that are read at the same time.
const READERS: usize = 16;
/// More commits than this are not one repository's.
const MAX_LISTED: usize = 200_000;

/// A commit's name, and what is to be said of its bytes.
type ReadCommit = (CommitName, Result<SignedCommit, CommitError>);

/// A repository in an object store, opened for reading.
#[derive(Debug, Clone)]
pub struct RemoteRepository {
    store: Arc<dyn ObjectStore>,
    names: ObjectNames,
    object: RepositoryObject,
    trust: Trust,
    known: Option<Utf8PathBuf>,
}

impl RemoteRepository {
    /// Opens the repository at `prefix`, which should be `expected` where the caller knows.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        prefix: BucketPrefix,
        expected: Option<RepositoryId>,
        trust: Trust,
    ) -> Result<Self, RemoteError> {
        let names = ObjectNames(prefix);
        let name = names.repository();
        let object = fetch_description(store.as_ref(), &name, expected)
            .await
            .map_err(RemoteError::Store)?
            .ok_or(RemoteError::Format(prefix))?;
        match expected {
            Some(expected) if expected != object.id => Err(RemoteError::Exchanged {
                prefix,
                found: object.id,
                expected,
            }),
            _ => Ok(Self {
                store,
                names,
                object,
                trust,
                known: None,
            }),
        }
    }

    /// Takes the bytes of commits from the local directory of their writer where it has them: a repository may have
    /// thousands, and each would be a request. What is *there* only the store says, so a verification does without.
    #[must_use]
    pub fn with_known(mut self, writer: &Utf8Path) -> Self {
        self.known = Some(writer.to_owned());
        self
    }

    /// The prefixes of a store that a repository may have, hidden ones included. One listing that does not grow
    /// with what they hold.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub async fn find(store: &dyn ObjectStore) -> Result<Vec<BucketPrefix>, RemoteError> {
        let names = store.list_directories().await.map_err(RemoteError::Store)?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The repository's id.
    pub fn id(&self) -> RepositoryId {
        self.object.id
    }

    /// When it was made, by the word of whoever can write to the store.
    pub fn created(&self) -> Timestamp {
        self.object.created
    }

    pub(super) fn names(&self) -> ObjectNames {
        self.names
    }

    pub(super) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Reads and checks all commits; needs no identity.
    ///
    /// # Errors
    /// The store fails. Commits that do not hold are in the result, not an error.
    pub async fn snapshots(&self) -> Result<Snapshots, RemoteError> {
        let prefix = self.names.commits_prefix();
        let names = list_names(self.store.as_ref(), &prefix)
            .await
            .map_err(RemoteError::Store)?;
        if names.len() > MAX_LISTED {
            return Err(RemoteError::TooMany);
        }
        let listed = names
            .iter()
            .filter_map(|name| CommitName::parse(name.strip_prefix(&prefix)?));
        let listed: Vec<CommitName> = listed.collect();
        let checked: Vec<_> = stream::iter(listed)
            .map(|name| self.read_commit(name))
            .buffer_unordered(READERS)
            // One that was deleted since it was listed is as if it had not been listed.
            .try_filter_map(async |read| Ok(read))
            .try_collect()
            .await?;
        let mut snapshots = Snapshots {
            commits: Vec::new(),
            refused: Vec::new(),
        };
        for (name, result) in checked {
            match result {
                Ok(commit) => snapshots.commits.push(commit),
                Err(reason) => snapshots.refused.push(RefusedCommit { name, reason }),
            }
        }
        snapshots
            .commits
            .sort_by_key(|commit| std::cmp::Reverse(commit.name));
        snapshots
            .refused
            .sort_by_key(|refused| std::cmp::Reverse(refused.name));
        Ok(snapshots)
    }

    /// The newest heartbeat that a trusted node signed below this prefix; needs no identity.
    ///
    /// What lies above it and does not hold is passed over, but not without end: whoever can write
    /// to the store can also bury every heartbeat there is.
    ///
    /// # Errors
    /// The store fails.
    pub async fn heartbeat(&self) -> Result<Option<SignedHeartbeat>, RemoteError> {
        let prefix = self.names.heartbeats_prefix();
        let names = list_names(self.store.as_ref(), &prefix)
            .await
            .map_err(RemoteError::Store)?;
        let listed = names
            .iter()
            .filter_map(|name| HeartbeatName::parse(name.strip_prefix(&prefix)?));
        let mut listed: Vec<HeartbeatName> = listed.collect();
        listed.sort_unstable();
        for name in listed.into_iter().rev().take(MAX_BEATS) {
            let object = self.names.heartbeat(&name);
            let stored = fetch(self.store.as_ref(), &object, MAX_HEARTBEAT, name.digest).await;
            let bytes = match stored {
                Ok(bytes) => bytes,
                Err(FetchError::Store(error)) if error.kind.is_general() => {
                    return Err(RemoteError::Store(error));
                }
                Err(FetchError::Changed | FetchError::Store(_)) => continue,
                Err(FetchError::Worker(error)) => return Err(RemoteError::Worker(error)),
            };
            match SignedHeartbeat::verify(name, bytes.to_vec(), self.object.id, &self.trust) {
                Ok(beat) => return Ok(Some(beat)),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(%object, error, "a heartbeat is passed over");
                }
            }
        }
        Ok(None)
    }

    /// Reads and checks a commit that was listed; `None` where it is gone.
    async fn read_commit(&self, name: CommitName) -> Result<Option<ReadCommit>, RemoteError> {
        if let Some(known) = &self.known
            && let Some(bytes) = known_commit(known, &name)
            && let Ok(commit) = SignedCommit::verify(name, bytes, self.object.id, &self.trust)
        {
            return Ok(Some((name, Ok(commit))));
        }
        let stored = self.names.commit(&name);
        let refused = match fetch(self.store.as_ref(), &stored, MAX_COMMIT, name.digest).await {
            Ok(bytes) => {
                let bytes = bytes.to_vec();
                let commit = SignedCommit::verify(name, bytes, self.object.id, &self.trust);
                return Ok(Some((name, commit)));
            }
            Err(FetchError::Changed) => CommitError::Name(name),
            Err(FetchError::Store(error)) if error.kind == StoreErrorKind::NotFound => {
                return Ok(None);
            }
            Err(FetchError::Store(error)) if error.kind.is_general() => {
                return Err(RemoteError::Store(error));
            }
            Err(FetchError::Store(source)) => CommitError::Unread { name, source },
            Err(FetchError::Worker(error)) => return Err(RemoteError::Worker(error)),
        };
        Ok(Some((name, Err(refused))))
    }

    /// Reads an object that a signed commit names, and checks size and hash.
    pub(super) async fn read_object(
        &self,
        name: &str,
        object: ObjectRef,
        limit: u64,
    ) -> Result<Bytes, RemoteError> {
        let changed = || RemoteError::Changed {
            name: name.to_owned(),
        };
        if object.size > limit {
            return Err(changed());
        }
        let read = fetch(self.store.as_ref(), name, object.size, object.sha256).await;
        read.map_err(|error| match error {
            FetchError::Changed => changed(),
            FetchError::Store(error) => RemoteError::Store(error),
            FetchError::Worker(error) => RemoteError::Worker(error),
        })
    }

    /// All packs that a commit names, itself and by lists.
    ///
    /// # Errors
    /// A list is missing, changed, or names a pack twice.
    pub async fn packs(&self, commit: &SignedCommit) -> Result<Vec<ObjectRef>, RemoteError> {
        let mut packs = commit.commit.packs.clone();
        for list in &commit.commit.lists {
            let name = self.names.list(&list.sha256);
            let bytes = self.read_object(&name, *list, MAX_LIST).await?;
            let object: ListObject =
                serde_json::from_slice(&bytes).map_err(|_| RemoteError::List { name })?;
            packs.extend(object.packs);
        }
        let mut seen = HashSet::with_capacity(packs.len());
        if packs.iter().any(|pack| !seen.insert(pack.sha256)) {
            return Err(RemoteError::List {
                name: self.names.commit(&commit.name),
            });
        }
        Ok(packs)
    }

    /// Reads a snapshot's tree and checks every line of it.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn tree(
        &self,
        commit: &SignedCommit,
        keys: &RepositoryKeys,
    ) -> Result<Tree, RemoteError> {
        let packs = self.packs(commit).await?;
        self.tree_of(commit, &packs, keys).await
    }

    /// As [`Self::tree`], for a commit whose packs were read already.
    pub(super) async fn tree_of(
        &self,
        commit: &SignedCommit,
        packs: &[ObjectRef],
        keys: &RepositoryKeys,
    ) -> Result<Tree, RemoteError> {
        let packs: HashSet<Digest> = packs.iter().map(|pack| pack.sha256).collect();
        let mut reader = TreeReader::new(self.object.id, &packs);
        let mut parts = stream::iter(&commit.commit.tree)
            .map(|part| self.tree_part(*part, keys))
            .buffered(2);
        let refused = |source| RemoteError::Tree {
            commit: commit.name,
            source,
        };
        while let Some(text) = parts.try_next().await? {
            reader.part(&text).map_err(refused)?;
        }
        reader.finish().map_err(refused)
    }

    /// What the writer of a snapshot says that it is: read from the first part of its tree alone.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn labels(
        &self,
        commit: &SignedCommit,
        keys: &RepositoryKeys,
    ) -> Result<Labels, RemoteError> {
        let text = match commit.commit.tree.first() {
            Some(first) => self.tree_part(*first, keys).await?,
            None => Vec::new(),
        };
        let header = TreeHeader::read(&text, self.object.id);
        let header = header.map_err(|source| RemoteError::Tree {
            commit: commit.name,
            source,
        })?;
        Ok(header.labels)
    }

    async fn tree_part(
        &self,
        part: ObjectRef,
        keys: &RepositoryKeys,
    ) -> Result<Vec<u8>, RemoteError> {
        let name = self.names.tree(&part.sha256);
        let sealed = self.read_object(&name, part, MAX_PACK as u64).await?;
        let identity = keys.identity.clone();
        tokio::task::spawn_blocking(move || {
            let compressed = seal::open(&identity, &sealed, MAX_PACK as u64).map_err(|source| {
                RemoteError::Open {
                    name: name.clone(),
                    source,
                }
            })?;
            decompress(&compressed).map_err(|source| RemoteError::Decompress { name, source })
        })
        .await
        .map_err(RemoteError::Worker)?
    }

    /// What a node needs to go on writing from `head`.
    pub fn adoption<'a>(&self, keys: &'a RepositoryKeys, head: Option<CommitName>) -> Adopted<'a> {
        Adopted {
            id: self.object.id,
            prefix: self.names.0,
            created: self.object.created,
            keys,
            head,
        }
    }
}

/// Decompresses one part of a tree, however it was compressed, up to its limit.
pub(super) fn decompress(compressed: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;

    let mut text = Vec::new();
    let decoder = zstd::Decoder::new(compressed)?;
    decoder.take(MAX_PART as u64 + 1).read_to_end(&mut text)?;
    if text.len() > MAX_PART {
        return Err(std::io::Error::other("it expands beyond the limit"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_tree_that_expands_beyond_its_limit_is_refused() {
        let part = zstd::bulk::compress(&vec![b' '; MAX_PART], 1).unwrap();
        assert_eq!(decompress(&part).unwrap().len(), MAX_PART);
        let bomb = zstd::bulk::compress(&vec![b' '; MAX_PART + 1], 1).unwrap();
        assert!(decompress(&bomb).is_err());
        // Many frames are no way around it.
        assert!(decompress(&[part.as_slice(), &part].concat()).is_err());
    }

    #[test]
    fn nothing_that_is_not_zstd_may_follow_a_part_of_a_tree() {
        let part = zstd::bulk::compress(b"text", 1).unwrap();
        for garbage in [&b"x"[..], b"\0\0\0\0", b"{}\n"] {
            assert!(decompress(&[part.as_slice(), garbage].concat()).is_err());
        }
        assert!(decompress(&part[..part.len() - 1]).is_err());
    }
}
