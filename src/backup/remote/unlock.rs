//! Finding the repository's keys among whatever lies where key objects are.
//! Whoever may write to the store may put any number of objects there; none of them may stand before the right one.

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};

use super::error::RemoteError;
use super::{READERS, RemoteRepository};
use crate::backup::commit::SignedCommit;
use crate::backup::fetch::list_versions;
use crate::backup::id::Digest;
use crate::backup::seal::{Identity, MAX_KEYS, RepositoryKeys};
use crate::object_store::{ObjectVersion, StoreError};

/// So many versions are read in search of the keys, the oldest first: those that a repository began with lie
/// before all that somebody else can add, and a rotation deletes what it replaces.
const MAX_TRIED: usize = 16_384;

impl RemoteRepository {
    /// Opens the repository's keys for a commit.
    ///
    /// # Errors
    /// No identity opens a key object that fits the commit, or the store fails.
    pub async fn unlock(
        &self,
        commit: &SignedCommit,
        identities: &[Identity],
    ) -> Result<RepositoryKeys, RemoteError> {
        let prefix = self.names.keys_prefix();
        let listed = list_versions(self.store.as_ref(), &prefix)
            .await
            .map_err(RemoteError::Store)?;
        let mut sealed = stream::iter(candidates(listed, &prefix))
            .map(|(version, digest)| self.read_keys(version, digest))
            .buffered(READERS);
        let mut refused = None;
        while let Some(read) = sealed.next().await {
            let sealed = match read {
                Ok(Some(sealed)) => sealed,
                Ok(None) => continue,
                Err(error) if error.kind.is_general() => return Err(RemoteError::Store(error)),
                Err(error) => {
                    refused.get_or_insert(error);
                    continue;
                }
            };
            for identity in identities {
                let Ok(keys) = RepositoryKeys::unwrap(self.object.id, identity, &sealed) else {
                    continue;
                };
                // Anyone can make a key object; only the commit says which is the right one.
                if keys.identity.recipient().digest() == commit.commit.recipient {
                    return Ok(keys);
                }
            }
        }
        if let Some(error) = refused {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "a key object was passed over, because the store does not give it out"
            );
        }
        Err(RemoteError::NoKey)
    }

    /// The bytes of a version, if they are those that its name promises. A read that was garbled on its way
    /// is repeated.
    async fn read_keys(
        &self,
        version: ObjectVersion,
        digest: Digest,
    ) -> Result<Option<Bytes>, StoreError> {
        for _ in 0..2 {
            let bytes = self.store.get_version(&version, MAX_KEYS).await?;
            if Digest::of(&bytes) == digest {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

/// What may be a key object by name and size, the oldest first.
fn candidates(listed: Vec<ObjectVersion>, prefix: &str) -> Vec<(ObjectVersion, Digest)> {
    let digest = |version: &ObjectVersion| {
        let name = version.name.strip_prefix(prefix)?;
        name.strip_suffix(".age")?.parse().ok()
    };
    let mut found: Vec<_> = listed
        .into_iter()
        .filter(|version| !version.is_delete_marker && version.size <= MAX_KEYS)
        .filter_map(|version| Some((digest(&version)?, version)))
        .map(|(digest, version)| (version, digest))
        .collect();
    found.sort_by_key(|(version, _)| version.modified);
    found.truncate(MAX_TRIED);
    found
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;

    #[test]
    fn only_what_can_be_a_key_object_counts_and_the_oldest_comes_first() {
        let version = |name: &str, size, age, is_delete_marker| ObjectVersion {
            name: format!("p/keys/{name}"),
            version: None,
            size,
            modified: Timestamp::UNIX_EPOCH - SignedDuration::from_hours(age),
            is_latest: true,
            is_delete_marker,
        };
        let name = |text: &str| format!("{}.age", Digest::of(text.as_bytes()));
        let junk = (0..20_000).map(|number| version(&format!("0{number}"), 1, 9, false));
        let mut listed: Vec<_> = junk.collect();
        listed.extend([
            version(&name("young"), MAX_KEYS, 1, false),
            version(&name("old"), 9, 2, false),
            version(&name("long"), MAX_KEYS + 1, 3, false),
            version(&name("hidden"), 0, 3, true),
            version("x.age", 9, 3, false),
        ]);
        let found = candidates(listed, "p/keys/");
        let names: Vec<_> = found.iter().map(|(_, digest)| *digest).collect();
        assert_eq!(names, [Digest::of(b"old"), Digest::of(b"young")]);
    }
}
