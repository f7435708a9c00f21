//! Where packs and commits are kept: a directory or an S3 bucket, behind one narrow trait.
//! It knows names and bytes, not what they mean, and the writer's half cannot delete.

mod answer;
mod collector;
#[cfg(test)]
mod contract;
mod directory;
mod directory_collector;
mod error;
mod retry;
mod s3;
mod s3_collector;
mod url;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

pub use collector::{Collector, Deleted, ObjectVersion};
pub use directory::DirectoryStore;
pub use error::{StoreError, StoreErrorKind};
pub use retry::{RetryBudget, Retrying, next_delay};
pub use s3::{S3Keys, S3Settings, S3Store};
pub use url::{Endpoint, EndpointError, StoreUrl, StoreUrlError};

/// An object that a listing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its full name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

/// A place for objects. Names are relative, with `/` between normal components.
///
/// Every call may be repeated: a name is only ever written with the same bytes.
#[async_trait]
pub trait ObjectStore: fmt::Debug + Send + Sync {
    /// Stores an object; when it returns, the object survives a crash of either side.
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError>;

    /// Reads a whole object of at most `limit` bytes.
    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError>;

    /// The size of an object, `None` where there is none.
    async fn head(&self, name: &str) -> Result<Option<u64>, StoreError>;

    /// All objects whose names begin with `prefix`, in order; a directory's prefix ends in `/`.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError>;
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
