//! The other half of a store, for whoever may delete: versions with the store's own times, and deleting them.
//! The writer never gets it; deciding what to delete is `backup::collect`'s.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::{ObjectStore, StoreError};

/// One stored version of an object, or a marker that hides the versions before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectVersion {
    /// The object's full name.
    pub name: String,
    /// The store's name for the version; none where the store keeps only one.
    pub version: Option<String>,
    /// Its size in bytes; 0 for a marker.
    pub size: u64,
    /// When the store took it, by the store's clock.
    pub modified: Timestamp,
    /// Whether a plain read gets this one.
    pub is_latest: bool,
    /// Whether it only says that the object was deleted or hidden.
    pub is_delete_marker: bool,
}

/// How a delete ended that was not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone, or was gone before.
    Gone,
    /// The store holds it back (Object Lock, legal hold).
    Locked {
        /// Until when, if the store says.
        until: Option<Timestamp>,
    },
}

/// A store that can be cleaned up. All calls may be repeated.
#[async_trait]
pub trait Collector: ObjectStore {
    /// All versions of all objects whose names begin with `prefix`, by name and then from the
    /// oldest to the newest.
    ///
    /// Where the store keeps versions, all of them must be here, hidden ones included: what is
    /// not listed counts as gone, and what only it names would be deleted.
    async fn list_versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError>;

    /// Reads one version of at most `limit` bytes.
    async fn get_version(&self, version: &ObjectVersion, limit: u64) -> Result<Bytes, StoreError>;

    /// Deletes one version for good.
    async fn delete_version(&self, version: &ObjectVersion) -> Result<Deleted, StoreError>;

    /// Removes what writes that were cut short before `before` have left under `prefix` and
    /// that no listing shows; gives how many pieces.
    async fn sweep(&self, prefix: &str, before: Timestamp) -> Result<u64, StoreError> {
        let _ = (prefix, before);
        Ok(0)
    }
}
