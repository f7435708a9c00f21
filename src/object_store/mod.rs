//! Where packs and commits are kept: a directory or an S3 bucket, behind one narrow trait.
//! It knows names and bytes, not what they mean, and the writer's half cannot delete.

mod answer;
mod collector;
#[cfg(test)]
mod contract;
mod directory;
mod directory_collector;
mod error;
#[cfg(test)]
pub(crate) mod fuzz;
mod pace;
mod probe;

mod retry;
mod s3;
mod s3_collector;
mod s3_directories;
mod s3_listing;
mod s3_probe;

mod s3_request;
mod s3_settings;
mod s3_sign;
mod url;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

pub use collector::{Collector, Deleted};
pub use directory::DirectoryStore;
pub use error::{StoreError, StoreErrorKind};
pub use pace::{Rate, RateError, Uploads};

pub use probe::{Conditional, Deleting, History, PROBE_PREFIX, Probed, StoreFacts, probe};
pub use retry::{RetryBudget, Retrying, next_delay};
pub use s3::S3Store;
pub use s3_settings::{S3Keys, S3Settings};
pub use url::{Endpoint, EndpointError, StoreUrl, StoreUrlError};

/// An object that a listing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its full name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

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

/// A place for objects. Names are relative, with `/` between normal components.
///
/// Every call may be repeated: a name is only ever written with the same bytes. Nothing here
/// deletes; that is [`Collector`]'s.
#[async_trait]
pub trait ObjectStore: fmt::Debug + Send + Sync {
    /// Stores an object; when it returns, the object survives a crash of either side.
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError>;

    /// As [`Self::put`], for a caller who knows the SHA-256 of the bytes, which some stores need.
    async fn put_hashed(
        &self,
        name: &str,
        bytes: Bytes,
        _sha256: [u8; 32],
    ) -> Result<(), StoreError> {
        self.put(name, bytes).await
    }

    /// Reads a whole object of at most `limit` bytes.
    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError>;

    /// Reads `length` bytes from `offset`; fewer where the object ends before, none beyond its end.
    async fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StoreError>;

    /// The size of an object, `None` where there is none.
    async fn head(&self, name: &str) -> Result<Option<u64>, StoreError>;

    /// All objects whose names begin with `prefix`, in order; a directory's prefix ends in `/`.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError>;

    /// All versions of all objects whose names begin with `prefix`, by name and then from the
    /// oldest to the newest.
    ///
    /// Where the store keeps versions, all of them must be here, hidden ones included: what is
    /// not listed counts as gone, and what only it names would be deleted. Elsewhere an object
    /// is its only version.
    async fn list_versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError>;

    /// The first components of all names that have more than one, in order, those of which everything is hidden
    /// included: `a` for `a/x` and `a/b/y`. A store that can list them lists nothing else.
    async fn list_directories(&self) -> Result<Vec<String>, StoreError> {
        let versions = self.list_versions("").await?;
        let first = |version: &ObjectVersion| Some(version.name.split_once('/')?.0.to_owned());
        let mut names: Vec<String> = versions.iter().filter_map(first).collect();
        names.dedup();
        Ok(names)
    }

    /// Reads one version of at most `limit` bytes.
    async fn get_version(&self, version: &ObjectVersion, limit: u64) -> Result<Bytes, StoreError>;
}

/// Whether `name` has only normal components of plain characters, so that it means the
/// same in a directory, a URL and a listing.
fn is_object_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.len() <= 512
        && name.split('/').all(|part| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.len() <= 200
                && part.chars().all(plain)
        })
}
