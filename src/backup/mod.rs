//! Encrypted, signed, incremental snapshots of a tenant's state: chunk, pack, commit, repository, restore.
//! It knows nothing of systemd, Podman or tenants' specs; `docs/repository-format.md` leads.

pub mod archive;
mod beside;
mod blocks;
mod capture;
mod certificate;
mod chain;
mod chunker;
pub mod collect;
mod commit;
mod consolidate;
mod entry;
mod envelope;
mod extents;
mod fetch;
mod file_record;
mod files;
mod frame;
pub mod freshness;
#[cfg(test)]
pub(crate) mod fuzz;
mod heartbeat;
mod heartbeat_writer;
pub mod id;
mod index;
mod intent;
mod key_objects;
mod keys;
mod local_file;
mod names;
mod pack;
mod pack_list;
mod packers;
mod padding;
mod path;
mod pause;
mod pipeline;
mod progress;
mod ranges;
mod record;
mod remote;
mod repository;
mod restore;
mod restore_files;
mod restore_pack;
pub mod retention;
mod scan;
mod scan_directory;
mod seal;
mod seen;
pub mod selection;
mod snapshot;
mod tree;
mod tree_build;
mod verify;
mod wire;
pub mod without_us;

/// The version of the repository format that is written, and the only one that is read.
pub const FORMAT_VERSION: u32 = 3;

pub use beside::move_beside;
pub use certificate::{NodeCertificate, NodeStatement, Trust};
pub use chain::{Ambiguous, Broken, Chain};
pub use commit::{Commit, CommitError, ObjectRef, SignedCommit};
pub use entry::{Entry, EntryKind, FileTime, Metadata, Piece, Xattrs};
pub use envelope::Signer;
pub use heartbeat::{Head, Heartbeat, HeartbeatError, SignedHeartbeat};
pub use heartbeat_writer::BeatError;
pub use id::{BucketPrefix, Digest, RepositoryId};
pub use intent::LONGEST_SNAPSHOT;
pub use key_objects::{Removal, RewrapError, Rewrapped, erase, known_recipients, rewrap};
pub use keys::{
    COMMIT_NAMESPACE, HEARTBEAT_NAMESPACE, KeyError, NODE_NAMESPACE, NodeKey, PublicKey, RootKey,
};
pub use names::{CommitName, HeartbeatName, ObjectNames};
pub use path::{escape as escape_path, parent as parent_path};
pub use pause::{Clock, NobodyWrites, Pause, PauseError, SystemClock};
pub use progress::{Measure, Meter, Progress, Silent, Stage};
pub use record::{CaptureReport, SnapshotRecord};
pub use remote::{RefusedCommit, RemoteError, RemoteRepository, Snapshots};
pub use repository::{
    Adopted, Repository, RepositoryError, RepositorySpec, forget_snapshots, known_head,
    local_snapshots, read_local_spec, remove_repository,
};
pub use restore::{RestoreError, RestoreReport, RestoreRequest};
pub use restore_files::RestoreFilesError;
pub use scan::Skipped;
pub use seal::{Identity, Recipient, RepositoryKeys, SealError, open as open_sealed, seal};
pub use snapshot::{SnapshotError, SnapshotOutcome, SnapshotRequest};
pub use tree::{Labels, Tree, TreeError, TreeHeader};
pub use verify::{Fault, Problem, Share, VerifyReport, VerifyRequest};
