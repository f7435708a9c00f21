//! What can go wrong when a repository is read.

use super::MAX_LISTED;
use crate::backup::chain::Ambiguous;
use crate::backup::id::{BucketPrefix, RepositoryId};
use crate::backup::names::CommitName;
use crate::backup::seal::SealError;
use crate::backup::tree::{MAX_PART, TreeError};
use crate::object_store::{StoreError, StoreErrorKind};

/// Why a repository could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The object store.
    #[error("the repository could not be read")]
    Store(#[source] StoreError),
    /// `repository.json` is not one of this version.
    #[error("repository {0} is not one that this version reads; a newer tenantd may")]
    Format(BucketPrefix),
    /// Another repository is stored there.
    #[error("repository {prefix} is {found}, but {expected} was expected: it was exchanged")]
    Exchanged {
        /// Where.
        prefix: BucketPrefix,
        /// What is there.
        found: RepositoryId,
        /// What should be.
        expected: RepositoryId,
    },
    /// Too many objects.
    #[error("there are more than {MAX_LISTED} commits, which no repository of ours has")]
    TooMany,
    /// An object's bytes do not have the hash that a signed commit names.
    #[error(
        "{name} was changed or cut short: its SHA-256 is not the one that the signed commit names"
    )]
    Changed {
        /// The object.
        name: String,
    },
    /// None of the key objects can be opened.
    #[error(
        "none of the identities given opens the keys of the repository; use the operator's or \
         escrow's identity (`AGE-SECRET-KEY-1…`)"
    )]
    NoKey,
    /// A tree part cannot be opened.
    #[error("{name} cannot be decrypted")]
    Open {
        /// The object.
        name: String,
        /// Why.
        #[source]
        source: SealError,
    },
    /// A tree part is not zstd, or expands beyond reason.
    #[error("{name} cannot be decompressed to at most {MAX_PART} bytes")]
    Decompress {
        /// The object.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The tree is refused.
    #[error("the tree of snapshot {commit} is refused; nothing was written")]
    Tree {
        /// The snapshot.
        commit: CommitName,
        /// Why.
        #[source]
        source: TreeError,
    },
    /// A list of packs is not one.
    #[error("{name} is not a list of packs, or names one twice")]
    List {
        /// The object.
        name: String,
    },
    /// There is no snapshot that could be taken.
    #[error("the repository has no snapshot that a trusted node signed ({refused} were refused)")]
    Empty {
        /// How many commits were refused.
        refused: usize,
    },
    /// No snapshot, or more than one, is named so.
    #[error("{0:?} names no snapshot, or several; `tenantd snapshots` lists them")]
    Unknown(String),
    /// The newest cannot be told.
    #[error("the newest snapshot cannot be told")]
    Ambiguous(#[source] Ambiguous),
    /// A worker died.
    #[error("a worker stopped unexpectedly")]
    Worker(#[source] tokio::task::JoinError),
}

impl RemoteError {
    /// Whether the same may work later: the store failed for now, and did not say that nothing is there.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Store(error) if error.kind != StoreErrorKind::NotFound)
    }
}
