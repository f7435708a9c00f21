//! What can go wrong when tenants are backed up or restored.

use std::io;
use std::time::Duration;

use camino::Utf8PathBuf;

use super::quiesce_call::NotDone;
use crate::backup::archive::{ArchiveError, ExportError, ImportError};
use crate::backup::collect::CollectError;
use crate::backup::freshness::Stale;
use crate::backup::{
    BeatError, Broken, KeyError, RemoteError, RepositoryError, RestoreError, RewrapError,
    SealError, SnapshotError,
};
use crate::host::files::FileError;
use crate::node::{NodeKeyError, StoreSettingsError};
use crate::object_store::StoreError;
use crate::tenant::TenantId;

/// Why a backup or restore did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ProtectError {
    /// The store in `node.toml` is none.
    #[error("[store] in node.toml cannot be used")]
    StoreSettings(#[from] StoreSettingsError),
    /// The S3 keys are not there.
    #[error(
        "no S3 keys: give `credentials` under [store] in node.toml, a file of two lines (key id, \
         secret), or a systemd credential `tenantd.s3`; with the latter, a command in a shell \
         that needs them is run by `systemd-run --pipe --wait --property=ImportCredential=tenantd.* \
         tenantd …`"
    )]
    NoCredentials,
    /// The S3 keys cannot be read.
    #[error("{0} does not hold two lines: key id, secret")]
    Credentials(Utf8PathBuf),
    /// The store does not answer.
    #[error("the object store cannot be used")]
    Store(#[from] StoreError),
    /// The store says nothing at all.
    #[error(
        "the object store does not answer within {} s; check its endpoint and the network",
        .0.as_secs()
    )]
    Silent(Duration),
    /// The repository's packs are elsewhere.
    #[error(
        "the snapshots of {name} are in {was}, and the next one would rely on them. Put that back \
         under [store] in node.toml. Or, to begin anew in {now}, move {directory} away; or, when \
         everything was copied there, remove {directory}/store"
    )]
    OtherStore {
        /// The tenant, or the node.
        name: String,
        /// Where they are.
        was: String,
        /// What `node.toml` says now.
        now: String,
        /// The repository's local directory.
        directory: Utf8PathBuf,
    },
    /// A collection broke off.
    #[error("snapshots were not all pruned")]
    Collect(#[source] CollectError),
    /// A recipient in `node.toml` is none.
    #[error("keys.recipients in node.toml cannot be used")]
    Recipient(#[source] SealError),
    /// The root key in `node.toml` is none.
    #[error("keys.root in node.toml cannot be used")]
    RootKey(#[source] KeyError),
    /// The node's own keys.
    #[error(transparent)]
    NodeKey(#[from] NodeKeyError),
    /// No identity is at hand.
    #[error(
        "no identity is on this host to read the backups of {0} with; give one with `tenantd restore {0} --identity FILE`, or as systemd credential \
         `tenantd.identity`"
    )]
    NoIdentity(String),
    /// The repository of a tenant.
    #[error("the repository of {name} cannot be used")]
    Repository {
        /// The tenant, or the node.
        name: String,
        /// Why.
        #[source]
        source: RepositoryError,
    },
    /// A snapshot did not come about.
    #[error("no snapshot of {name} was made")]
    Snapshot {
        /// The tenant, or the node.
        name: String,
        /// Why.
        #[source]
        source: SnapshotError,
    },
    /// A restore did not come about.
    #[error("{name} was not restored; what was there is untouched")]
    Restore {
        /// The tenant, or the node.
        name: String,
        /// Why.
        #[source]
        source: RestoreError,
    },
    /// A drill would fill the disk.
    #[error(
        "the newest snapshot of {name} is {needed} bytes, and a drill of it would leave less than a twentieth of the          tenants' disk, of which {free} bytes are free; make room below /var/lib/tenantd first"
    )]
    NoRoom {
        /// The tenant.
        name: String,
        /// What it takes, in bytes.
        needed: u64,
        /// What is free, in bytes.
        free: u64,
    },
    /// The newest snapshot is not as new as it should be.
    #[error(
        "{name} was not restored, because its newest snapshot in the store is older than it should \
         be. Look for the missing ones first, among the store's hidden versions too; `--allow-old`, \
         or `allow-old = true` under [restore] in node.toml, takes what there is"
    )]
    Stale {
        /// The tenant, or the node.
        name: String,
        /// What was found and what was expected.
        #[source]
        source: Stale,
    },
    /// The chain of snapshots contradicts itself.
    #[error(
        "the snapshots of {name} are no chain, so the newest is not restored by itself: somebody else may have signed with \
         the node's key, or a tenantd went wrong. `tenantd verify` looks at all of them; one that you name by `--snapshot` is taken"
    )]
    Broken {
        /// The tenant, or the node.
        name: String,
        /// Where.
        #[source]
        source: Broken,
    },
    /// An agent was not told that a backup is over.
    #[error(
        "the agent of tenant {tenant} was not told that its backup is over; it may still hold back what it would write"
    )]
    NotReleased {
        /// The tenant.
        tenant: TenantId,
        /// What it answered.
        #[source]
        source: Box<NotDone>,
    },
    /// The node's heartbeat was not stored.
    #[error("the node's heartbeat, which says what the newest snapshots are, was not stored")]
    Heartbeat(#[source] BeatError),
    /// The keys of a repository were not wrapped anew.
    #[error("the keys of {name} were not wrapped for the recipients of node.toml")]
    Rewrap {
        /// The tenant, or the node.
        name: String,
        /// Why.
        #[source]
        source: RewrapError,
    },
    /// A tenant that is to be erased is still here.
    #[error(
        "tenant {0} is still on this host, and its next backups could not be read by anybody; \
         `tenantd remove {0} --purge` first"
    )]
    NotRemoved(TenantId),
    /// What a tenant that is to be erased has left on this host.
    #[error(
        "tenant {0} is removed, but its state is still in {1} and can be read there; delete that \
         directory first"
    )]
    StateLeft(TenantId, Utf8PathBuf),
    /// A snapshot could not be looked into.
    #[error("the snapshot of {name} cannot be read")]
    Read {
        /// The tenant.
        name: String,
        /// Why.
        #[source]
        source: RemoteError,
    },
    /// A path is not in the snapshot.
    #[error(
        "snapshot {snapshot} of {name} has no {path:?}; `tenantd ls {name}` shows what there is"
    )]
    NoPath {
        /// The tenant.
        name: String,
        /// The snapshot's number.
        snapshot: u64,
        /// What was asked for.
        path: String,
    },
    /// A mount as a whole cannot be put beside itself.
    #[error(
        "{0:?} is a whole mount of the tenant, and nothing can be put beside it there; give --to DIR, or \
         restore the tenant without --path"
    )]
    WholeMount(String),
    /// Two restores of paths of one tenant.
    #[error("another path of tenant {0} is being restored; try again when that has ended")]
    PathAtWork(TenantId),
    /// What was restored could not be put beside what is there.
    #[error(
        "what was restored of {path:?} cannot be put beside it; restore it to another directory with --to"
    )]
    Beside {
        /// What was asked for.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A snapshot could not be written as an archive.
    #[error("{name} was not exported")]
    Export {
        /// The tenant.
        name: String,
        /// Why.
        #[source]
        source: ExportError,
    },
    /// An archive is refused.
    #[error(transparent)]
    Archive(Box<ArchiveError>),
    /// An archive's files could not be written.
    #[error(transparent)]
    Import(Box<ImportError>),
    /// A tenant has files that would be replaced.
    #[error(
        "tenant {0} has state on this host already, in {1}; import it under another name with --as, or \
         `tenantd remove {0} --purge` first"
    )]
    HasState(TenantId, Utf8PathBuf),
    /// There is nothing to put back.
    #[error("nothing is kept of tenant {0} from before a restore")]
    NothingKept(TenantId),
    /// The state as a revision has left it is not there.
    #[error(
        "the state as revision {revision} of tenant {tenant} has left it is not kept (any more); `tenantd rollback {tenant} \
         --to {revision} --keep-data` goes back with the present one, and `tenantd snapshots {tenant}` shows older ones that \
         `tenantd restore` brings back"
    )]
    NoRelease {
        /// The tenant.
        tenant: TenantId,
        /// The revision.
        revision: u64,
    },
    /// A state could not be cloned.
    #[error("the state could not be cloned")]
    Clone(#[from] crate::host::tree::TreeError),
    /// A worker died.
    #[error("a worker stopped unexpectedly")]
    Worker(#[source] tokio::task::JoinError),
    /// The kernel gave no random numbers.
    #[error("the kernel gives no random numbers")]
    Random(#[source] getrandom::Error),
    /// What an order asked for did not come about, and the order is gone.
    #[error(transparent)]
    Ordered(Box<ProtectError>),
    /// The store has the repository, and no snapshot in it.
    #[error("the store holds no snapshot of {0} yet; `tenantd backup {0}` makes one")]
    NothingStored(String),
    /// There is no repository.
    #[error("there is no backup of {0}")]
    NoRepository(String),
    /// There is no such snapshot.
    #[error("{name} has no snapshot {snapshot}; `tenantd snapshots` lists them")]
    NoSnapshot {
        /// The tenant.
        name: String,
        /// What was asked for.
        snapshot: u64,
    },
    /// A tenant that had state has none.
    #[error(
        "tenant {0} has lost its state, and an empty snapshot would hide the good ones; \
         `tenantd restore {0}` brings it back"
    )]
    EmptyState(TenantId),
    /// A tenant of a rebuilt node waits for its state.
    #[error(
        "tenant {0} came with the node's catalogue, and its snapshots were not restored yet: one of what is here now \
         would outrank them; `tenantd restore {0}` brings it back"
    )]
    NotRestored(TenantId),
    /// There were snapshots.
    #[error(
        "the store holds no snapshot of {name}, but this host or the node's heartbeat knows of number {snapshot}: \
         the store has lost it or hides it; `--allow-old`, or `allow-old = true` under [restore] in node.toml, goes on without"
    )]
    AllGone {
        /// The tenant, or the node.
        name: String,
        /// The newest that is known of.
        snapshot: u64,
    },
    /// A tenant is running and must not be.
    #[error("tenant {0} runs; a running tenant's state is not replaced")]
    Running(TenantId),
    /// A directory that must be new is there.
    #[error("{0} is there already; a restore goes into a new directory")]
    DirectoryExists(Utf8PathBuf),
    /// The host is not empty.
    #[error("this node has tenants already; a whole node is restored on an empty machine only")]
    NotEmpty,
    /// The host is too small for what the node's tenants were promised.
    #[error(
        "nothing was restored: {0}. Take a larger host, or say on-overcommit = \"warn\" under [capacity] in node.toml and \
         restore all the same"
    )]
    Overcommitted(String),
    /// A node was rebuilt in part.
    #[error(
        "the rebuild of this node was cut short; `tenantd restore --node --identity FILE` ends it, and nothing runs or is \
         backed up before"
    )]
    HalfRestored,
    /// A rebuild that was cut short was of another node.
    #[error(
        "the rebuild of this node was cut short, and it was from another repository ({begun}, now {found}); name that \
         node with --from, or begin again on an empty machine"
    )]
    OtherRebuild {
        /// The prefix that it began with.
        begun: String,
        /// The prefix that would be taken now.
        found: String,
    },
    /// No node of the name that was asked for.
    #[error(
        "the store holds no node {wanted:?} that could be brought back; what was found: {found}. \
         `tenantd restore --node --from NAME` takes one of these"
    )]
    NotThisNode {
        /// The name.
        wanted: String,
        /// What there is.
        found: String,
        /// Whether all that is in the store could be read.
        is_sure: bool,
    },
    /// No node repository can be read.
    #[error("the store holds no node's repository that this identity can read")]
    NoNode,
    /// There is no repository at all.
    #[error("the store holds no repository")]
    EmptyStore,
    /// A file of ours.
    #[error(transparent)]
    File(#[from] FileError),
    /// A document of ours is broken.
    #[error("{path} is broken")]
    Document {
        /// The file.
        path: Utf8PathBuf,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// A report that a finished unit should have left is not there.
    #[error("the unit ended well and left no report at {0}")]
    NoReport(Utf8PathBuf),
    /// systemd could not be asked.
    #[error(transparent)]
    Systemd(#[from] crate::host::systemd::SystemdError),
    /// A tenant's secrets cannot be taken along, or made this host's own.
    #[error(transparent)]
    Secret(#[from] crate::secrets::SecretError),
    /// The state database cannot be copied.
    #[error("the state database cannot be copied")]
    Database(#[from] crate::state::StateError),
}

impl ProtectError {
    /// Whether the same may work later without anything being changed on this host: the store,
    /// the disk or systemd failed for now.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Restore {
                source: RestoreError::Remote(RemoteError::Store(_)),
                ..
            } | Self::Store(_)
                | Self::Silent(_)
                | Self::File(_)
                | Self::Systemd(_)
        )
    }
}
