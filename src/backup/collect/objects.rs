//! What lies below a repository's prefix, by name, with all versions.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use crate::backup::id::{BucketPrefix, Digest};
use crate::backup::names::ObjectNames;
use crate::object_store::{Collector, ObjectVersion, StoreError, StoreErrorKind};

/// Where the objects are that commits name.
pub(super) fn contents(names: ObjectNames) -> [String; 3] {
    [
        names.packs_prefix(),
        names.trees_prefix(),
        names.lists_prefix(),
    ]
}

/// All versions of one object, oldest first.
pub(super) type Versions = Vec<ObjectVersion>;

/// A repository's objects.
pub(super) struct Objects {
    by_name: BTreeMap<String, Versions>,
}

impl Objects {
    pub(super) async fn list(
        store: &dyn Collector,
        names: ObjectNames,
    ) -> Result<Self, StoreError> {
        let mut by_name: BTreeMap<String, Versions> = BTreeMap::new();
        for version in store.list_versions(&names.all()).await? {
            by_name
                .entry(version.name.clone())
                .or_default()
                .push(version);
        }
        for versions in by_name.values_mut() {
            versions.sort_by_key(|version| version.modified);
        }
        Ok(Self { by_name })
    }

    /// The objects whose names begin with `prefix`.
    pub(super) fn below<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Versions)> {
        let from = self.by_name.range(prefix.to_owned()..);
        from.map(|(name, versions)| (name.as_str(), versions))
            .take_while(move |(name, _)| name.starts_with(prefix))
    }

    pub(super) fn versions(&self, name: &str) -> &[ObjectVersion] {
        self.by_name
            .get(name)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// When the store last took something under this name.
    pub(super) fn modified(&self, name: &str) -> Option<Timestamp> {
        let versions = self.versions(name).iter();
        versions.map(|version| version.modified).max()
    }

    pub(super) fn bytes(&self, name: &str) -> u64 {
        let versions = self.versions(name).iter();
        versions.map(|version| version.size).sum()
    }

    /// The first version whose bytes have this digest, and when it was stored: what was hidden,
    /// overwritten or repeated later changes nothing.
    ///
    /// # Errors
    /// The store fails, or a version was refused and no other has the digest: it may be the right one.
    pub(super) async fn read(
        &self,
        store: &dyn Collector,
        name: &str,
        digest: Digest,
        limit: u64,
    ) -> Result<Option<(Bytes, Timestamp)>, StoreError> {
        let mut refused = None;
        for version in self.versions(name) {
            if version.is_delete_marker || version.size > limit {
                continue;
            }
            match store.get_version(version, limit).await {
                Ok(bytes) if Digest::of(&bytes) == digest => {
                    return Ok(Some((bytes, version.modified)));
                }
                Ok(_)
                | Err(StoreError {
                    kind: StoreErrorKind::NotFound | StoreErrorKind::TooLarge { .. },
                    ..
                }) => {}
                Err(error) if error.kind.is_general() => return Err(error),
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
        refused.map_or(Ok(None), Err)
    }
}

/// The prefixes of a store that a repository may have, hidden ones included.
///
/// # Errors
/// The store cannot be listed.
pub async fn find_repositories(
    store: &Arc<dyn Collector>,
) -> Result<Vec<BucketPrefix>, StoreError> {
    let names = store.list_directories().await?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}
