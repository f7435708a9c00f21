//! The other half of a store, for whoever may delete: one version at a time, and what crashes left.
//! The writer never gets it; deciding what to delete is `backup::collect`'s.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{ObjectStore, ObjectVersion, StoreError};

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
    /// Deletes one version for good.
    async fn delete_version(&self, version: &ObjectVersion) -> Result<Deleted, StoreError>;

    /// Removes what writes that were cut short before `before` have left under `prefix` and
    /// that no listing shows; gives how many pieces.
    async fn sweep(&self, prefix: &str, before: Timestamp) -> Result<u64, StoreError> {
        let _ = (prefix, before);
        Ok(0)
    }
}
