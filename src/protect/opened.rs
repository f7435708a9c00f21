//! A repository opened for reading, with the commit to restore from and what unlocks it.
//! Whom this host trusts and which identity it has is decided here; where state goes is not.

use std::sync::Arc;

use camino::Utf8Path;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Serialize;

use super::ProtectError;
use super::catalogued::{is_catalogued, settle};
use super::forget::forget_gone;
use super::forks::{Fork, forks, remember};
use super::heartbeat::{known_head, word};
use super::store::{Patience, credentials_directory, open_store};
use crate::backup::freshness::{Evidence, Stale, judge};
use crate::backup::{
    self, Chain, CommitName, Entry, Identity, Progress, PublicKey, RemoteError, RemoteRepository,
    Repository, RepositoryId, RepositorySpec, RestoreError, RestoreRequest, SignedCommit,
    Snapshots, Trust,
};
use crate::failpoint;
use crate::host::clock;
use crate::layout::Layout;
use crate::node::{KeyFiles, NodeSettings};
use crate::object_store::ObjectStore;

/// What was brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RestoreReport {
    /// The snapshot's number.
    pub snapshot: u64,
    /// The moment the data is of.
    pub taken_at: Timestamp,
    /// Files.
    pub files: u64,
    /// Their sizes added up.
    pub bytes: u64,
    /// Bytes fetched from the store.
    pub fetched_bytes: u64,
    /// Commits that were passed over: forks, and those that do not verify.
    pub passed_over: u64,
    /// Those of them that a trusted node signed, newest first: another node, or one that was replaced,
    /// has written to this repository as well.
    pub forks: Vec<Fork>,
    /// Why it was not new enough, where that was allowed.
    pub doubt: Option<String>,
}

/// Which snapshot to take, and with what.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// The snapshot's number; the newest when none.
    pub snapshot: Option<u64>,
    /// The identity to read it with; that of the host when none.
    pub identity: Option<&'a SecretString>,
    /// Take the newest that there is, though it is older than it should be.
    pub allow_old: bool,
}

/// Whether the operator's identity is on this host, so that a restore needs none given.
pub fn has_identity(layout: &Layout) -> Result<bool, ProtectError> {
    let credentials = credentials_directory();
    let identity = KeyFiles::new(layout).operator_identity(credentials.as_deref())?;
    Ok(identity.is_some())
}

pub(super) fn local_spec(
    layout: &Layout,
    name: &str,
) -> Result<Option<RepositorySpec>, ProtectError> {
    backup::read_local_spec(&layout.repository_dir(name)).map_err(|source| {
        ProtectError::Repository {
            name: name.to_owned(),
            source,
        }
    })
}

/// A repository with the commit to restore from, and what opens it.
pub(super) struct Opened {
    remote: RemoteRepository,
    commit: SignedCommit,
    keys: backup::RepositoryKeys,
    passed_over: u64,
    forks: Vec<Fork>,
    doubt: Option<Stale>,
    /// The newest commit, which may be another: whoever writes goes on from it.
    newest: CommitName,
}

/// Opens the repository of `name`; `None` when it holds no snapshot at all.
pub(super) async fn open(
    layout: &Layout,
    settings: &NodeSettings,
    name: &str,
    spec: &RepositorySpec,
    wanted: Wanted<'_>,
) -> Result<Option<Opened>, ProtectError> {
    let store = open_store(&settings.store, Patience::Usual)?;
    let failed = |source| ProtectError::Restore {
        name: name.to_owned(),
        source: RestoreError::Remote(source),
    };
    let remote = RemoteRepository::open(
        Arc::clone(&store),
        spec.prefix,
        Some(spec.id),
        trust(settings)?,
    )
    .await
    .map_err(failed)?
    .with_known(&layout.repository_dir(name));
    let snapshots = remote.snapshots().await.map_err(failed)?;
    if snapshots.commits.is_empty() && snapshots.refused.is_empty() {
        if !(wanted.allow_old || settings.restore.allow_old) {
            refuse_loss(layout, settings, &store, name, spec.id).await?;
        }
        return Ok(None);
    }
    let chain = match (snapshots.chain(), wanted.snapshot) {
        // What the newest is does not matter to whoever names another one.
        (Err(unclear @ RemoteError::Ambiguous(_)), Some(number)) => {
            snapshots.chain_from(number).ok_or(unclear)
        }
        (chain, _) => chain,
    };
    let chain = chain.map_err(failed)?;
    let newest = snapshots.head(&chain).map_err(failed)?;
    let forks = forks(&snapshots, &chain);
    remember(&layout.repository_dir(name), &forks)?;
    forget_gone(layout, name, &snapshots)?;
    let mut doubt = None;
    let commit = match wanted.snapshot {
        None => {
            if let Some(source) = chain.broken {
                let name = name.to_owned();
                return Err(ProtectError::Broken { name, source });
            }
            let evidence = Evidence {
                head: newest.name,
                time: newest.commit.time,
                unreadable: snapshots.unreadable(),
                seen: known_head(&layout.repository_dir(name), name)?.map(|(_, head)| head),
                word: word(layout, settings, &store, name, spec.id).await?,
                now: clock::now(),
            };
            doubt = judge_head(name, settings, wanted.allow_old, &evidence)?;
            newest
        }
        Some(number) => {
            numbered(&snapshots, &chain, number).ok_or_else(|| ProtectError::NoSnapshot {
                name: name.to_owned(),
                snapshot: number,
            })?
        }
    };
    let identities = identities(layout, wanted.identity)?;
    if identities.is_empty() {
        return Err(ProtectError::NoIdentity(name.to_owned()));
    }
    let keys = remote.unlock(commit, &identities).await.map_err(failed)?;
    Ok(Some(Opened {
        newest: newest.name,
        commit: commit.clone(),
        passed_over: (snapshots.refused.len() + chain.forks.len()) as u64,
        forks,
        doubt,
        remote,
        keys,
    }))
}

/// Refuses a store that holds nothing where this host or the node's heartbeat knows of a snapshot.
async fn refuse_loss(
    layout: &Layout,
    settings: &NodeSettings,
    store: &Arc<dyn ObjectStore>,
    name: &str,
    repository: RepositoryId,
) -> Result<(), ProtectError> {
    let seen = known_head(&layout.repository_dir(name), name)?.map(|(_, head)| head);
    let word = word(layout, settings, store, name, repository).await?;
    match seen.or(word.and_then(|word| word.head)) {
        None => Ok(()),
        Some(head) => Err(ProtectError::AllGone {
            name: name.to_owned(),
            snapshot: head.sequence.into(),
        }),
    }
}

/// The identity that was given, or the one that is on this host.
pub(super) fn identities(
    layout: &Layout,
    given: Option<&SecretString>,
) -> Result<Vec<Identity>, ProtectError> {
    Ok(match given {
        Some(text) => vec![Identity::from_text(text).map_err(ProtectError::Recipient)?],
        None => KeyFiles::new(layout)
            .operator_identity(credentials_directory().as_deref())?
            .into_iter()
            .collect(),
    })
}

/// Judges the head of a repository. What the operator allows nevertheless is told.
pub(super) fn judge_head(
    name: &str,
    settings: &NodeSettings,
    allow_old: bool,
    evidence: &Evidence,
) -> Result<Option<Stale>, ProtectError> {
    match judge(&settings.restore.demands(), evidence) {
        Ok(()) => Ok(None),
        Err(stale) if allow_old || settings.restore.allow_old => {
            tracing::warn!("{name} is restored from an old snapshot, as allowed: {stale}");
            Ok(Some(stale))
        }
        Err(source) => Err(ProtectError::Stale {
            name: name.to_owned(),
            source,
        }),
    }
}

/// The snapshot of this number: that of the chain, or where it has none, that of a fork.
fn numbered<'a>(snapshots: &'a Snapshots, chain: &Chain, number: u64) -> Option<&'a SignedCommit> {
    let is_wanted = |commit: &&SignedCommit| u64::from(commit.name.sequence) == number;
    let mut on_chain = snapshots
        .commits
        .iter()
        .filter(|commit| chain.line.contains(&commit.name));
    on_chain
        .find(is_wanted)
        .or_else(|| snapshots.commits.iter().find(is_wanted))
}

pub(super) fn trust(settings: &NodeSettings) -> Result<Trust, ProtectError> {
    let root: PublicKey = settings.keys.root.parse().map_err(ProtectError::RootKey)?;
    Ok(Trust::root(root))
}

impl Opened {
    pub(super) fn new(
        remote: RemoteRepository,
        commit: SignedCommit,
        keys: backup::RepositoryKeys,
        forks: Vec<Fork>,
        doubt: Option<Stale>,
    ) -> Self {
        Self {
            newest: commit.name,
            remote,
            commit,
            keys,
            passed_over: forks.len() as u64,
            forks,
            doubt,
        }
    }

    /// Restores the snapshot, or what one path in it names, into the new directory `target`.
    pub(super) async fn restore(
        &self,
        name: &str,
        target: &Utf8Path,
        only: Option<Vec<u8>>,
        progress: Arc<dyn Progress>,
    ) -> Result<RestoreReport, ProtectError> {
        let request = RestoreRequest {
            target: target.to_owned(),
            only,
            ownership: nix::unistd::geteuid().is_root(),
            keep_setuid: false,
            progress,
        };
        let report = self
            .remote
            .restore(&self.commit, &self.keys, &request)
            .await
            .map_err(|source| ProtectError::Restore {
                name: name.to_owned(),
                source,
            })?;
        Ok(RestoreReport {
            snapshot: self.commit.name.sequence.into(),
            taken_at: self.commit.commit.time,
            files: report.files,
            bytes: report.bytes,
            fetched_bytes: report.fetched,
            passed_over: self.passed_over,
            forks: self.forks.clone(),
            doubt: self.doubt(),
        })
    }

    /// Why it is not as new as it should be, where that was allowed.
    pub(super) fn doubt(&self) -> Option<String> {
        self.doubt.as_ref().map(ToString::to_string)
    }

    /// Which snapshot it is.
    pub(super) fn commit(&self) -> &SignedCommit {
        &self.commit
    }

    /// Where it is read from, and with what.
    pub(super) fn source(&self) -> (&RemoteRepository, &backup::RepositoryKeys) {
        (&self.remote, &self.keys)
    }

    /// All entries of the snapshot.
    pub(super) async fn entries(&self, name: &str) -> Result<Vec<Entry>, ProtectError> {
        let tree = self.remote.tree(&self.commit, &self.keys).await;
        let failed = |source| ProtectError::Read {
            name: name.to_owned(),
            source,
        };
        Ok(tree.map_err(failed)?.entries)
    }

    /// Has the writer go on where the store's newest commit ended, whichever was restored, when this host
    /// knows the repository from the catalogue only.
    pub(super) async fn adopt_if_needed(
        &self,
        layout: &Layout,
        settings: &NodeSettings,
        name: &str,
    ) -> Result<(), ProtectError> {
        let directory = layout.repository_dir(name);
        if !is_catalogued(&directory) {
            return Ok(());
        }
        self.adopt(layout, settings, name).await?;
        // Last: until then nobody writes there, and this is repeated.
        settle(&directory)?;
        failpoint::hit("protect.adopted");
        Ok(())
    }

    /// Makes the local directory of the repository anew, from what the store holds.
    pub(super) async fn adopt(
        &self,
        layout: &Layout,
        settings: &NodeSettings,
        name: &str,
    ) -> Result<(), ProtectError> {
        let directory = layout.repository_dir(name);
        let adoption = self.remote.adoption(&self.keys, Some(self.newest));
        let store = open_store(&settings.store, Patience::Usual)?;
        Repository::adopt(&directory, store, adoption)
            .await
            .map_err(|source| ProtectError::Repository {
                name: name.to_owned(),
                source,
            })?;
        remember(&directory, &self.forks)
    }
}
