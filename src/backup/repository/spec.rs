//! What a repository is: as the host keeps it, and as the store tells anyone.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backup::id::{BucketPrefix, RepositoryId};
use crate::backup::seal::{ChunkIdKey, Recipient};

/// What the host keeps of a repository: all but the identity.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RepositorySpec {
    pub(super) version: u32,
    /// The repository's id.
    pub id: RepositoryId,
    /// Its prefix in the object store.
    pub prefix: BucketPrefix,
    /// For whom packs and trees are sealed.
    pub recipient: Recipient,
    pub(in crate::backup) chunk_id_key: ChunkIdKey,
    /// When it was made.
    pub created: Timestamp,
}

/// The clear object that says what a repository is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryObject {
    pub(in crate::backup) format: String,
    pub(in crate::backup) version: u32,
    pub(in crate::backup) id: RepositoryId,
    pub(in crate::backup) created: Timestamp,
}

pub(in crate::backup) const REPOSITORY_FORMAT: &str = "tenantd-repository";
