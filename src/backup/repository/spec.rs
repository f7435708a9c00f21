//! What a repository is: as the host keeps it, and as the store tells anyone.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backup::chunker::BlockSize;
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
    /// How its databases are cut.
    #[serde(default = "first_block_size")]
    pub(in crate::backup) database_block: BlockSize,
    /// When it was made.
    pub created: Timestamp,
}

fn first_block_size() -> BlockSize {
    BlockSize::FIRST
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_keeps_the_blocks_that_it_was_made_with() {
        let spec = serde_json::json!({
            "version": 2,
            "id": "00".repeat(16),
            "prefix": "11".repeat(16),
            "recipient": crate::backup::Identity::generate().recipient(),
            "chunk_id_key": "22".repeat(32),
            "created": "2026-11-21T10:00:00Z",
        });
        let block = |spec: serde_json::Value| {
            serde_json::from_value::<RepositorySpec>(spec).map(|spec| spec.database_block)
        };
        assert_eq!(block(spec.clone()).unwrap(), BlockSize::FIRST);
        let mut later = spec;
        later["database_block"] = BlockSize::NEW.bytes().into();
        assert_eq!(block(later.clone()).unwrap(), BlockSize::NEW);
        later["database_block"] = 0.into();
        assert!(block(later).is_err());
    }
}
