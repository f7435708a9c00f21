//! Encrypted, signed, incremental snapshots of a tenant's state: chunk, pack, commit, repository, restore.
//! It knows nothing of systemd, Podman or tenants' specs; `docs/repository-format.md` leads.

mod capture;
mod certificate;
mod chunker;
pub mod collect;
mod commit;
mod consolidate;
mod entry;
mod files;
pub mod id;
mod index;
mod intent;
mod keys;
mod local_file;
mod names;
mod pack;
mod pack_list;
mod path;
mod pause;
mod pipeline;
mod progress;
mod record;
mod remote;
mod repository;
mod restore;
mod restore_files;
pub mod retention;
mod scan;
mod seal;
mod snapshot;
mod tree;
mod tree_build;
mod verify;
mod wire;

pub use certificate::{NodeCertificate, NodeStatement, Trust};
pub use commit::{Ambiguous, Chain, Commit, CommitError, ObjectRef, SignedCommit, Signer};
pub use entry::{Entry, EntryKind, FileTime, Metadata, Piece, Xattrs};
pub use id::{BucketPrefix, Digest, RepositoryId};
pub use intent::LONGEST_SNAPSHOT;
pub use keys::{COMMIT_NAMESPACE, KeyError, NODE_NAMESPACE, NodeKey, PublicKey, RootKey};
pub use names::{CommitName, ObjectNames};
pub use pause::{Clock, NobodyWrites, Pause, PauseError, SystemClock};
pub use progress::{Progress, Silent, Stage};
pub use record::{CaptureReport, SnapshotRecord};
pub use remote::{RefusedCommit, RemoteError, RemoteRepository, Snapshots};
pub use repository::{
    Adopted, Repository, RepositoryError, RepositorySpec, forget_snapshots, local_snapshots,
    read_local_spec,
};
pub use restore::{RestoreError, RestoreReport, RestoreRequest};
pub use restore_files::RestoreFilesError;
pub use scan::Skipped;
pub use seal::{Identity, Recipient, RepositoryKeys, SealError};
pub use snapshot::{SnapshotError, SnapshotOutcome, SnapshotRequest};
pub use tree::{Labels, Tree, TreeError, TreeHeader};
pub use verify::{Depth, Fault, Problem, VerifyReport};
