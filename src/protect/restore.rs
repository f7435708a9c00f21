//! Restores tenants: before they start without state, by order of the daemon, or beside.
//!
//! A restore goes into `restoring/`, whole and checked, before the state that is there is
//! touched. Then two renames exchange them; the old state stays in `replaced/` until the
//! agent is healthy.

use std::fs;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Serialize;

use super::ProtectError;
use super::order::{read_order, remove_order};
use super::report::write_restore_report;
use super::store::{credentials_directory, open_store};
use crate::backup::{
    self, Identity, Progress, PublicKey, RemoteRepository, Repository, RepositorySpec,
    RestoreError, RestoreRequest, SignedCommit, Snapshots, Trust,
};
use crate::failpoint;
use crate::host::files::{self, FileError};
use crate::host::{clock, dirs};
use crate::layout::Layout;
use crate::node::{KeyFiles, NodeSettings};
use crate::tenant::TenantId;

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
}

/// A file in a repository's local directory that says: this came with the node's catalogue,
/// so the store may hold newer snapshots than the directory knows of.
pub(super) const FROM_CATALOGUE: &str = "from-catalogue";

/// Restores a tenant if an order waits for it, or if it has no state and a backup may exist.
///
/// `is_running` is asked only when something would be replaced. Nothing to do is `None`.
pub async fn restore_if_wanted(
    layout: &Layout,
    settings: &NodeSettings,
    tenant: &TenantId,
    is_running: impl AsyncFnOnce() -> Result<bool, ProtectError>,
    progress: Arc<dyn Progress>,
) -> Result<Option<RestoreReport>, ProtectError> {
    finish_exchange(layout, tenant)?;
    let order = read_order(layout, tenant)?;
    if order.is_none() && has_state(&layout.state_dir(tenant)) {
        return Ok(None);
    }
    let Some(spec) = local_spec(layout, tenant.as_str())? else {
        if order.is_none() {
            // Nothing was ever backed up here: the tenant is new.
            return Ok(None);
        }
        remove_order(layout, tenant)?;
        return Err(ProtectError::NoRepository(tenant.to_string()));
    };
    if order.is_none() && is_known_empty(layout, tenant) {
        return Ok(None);
    }
    if is_running().await? {
        return match order {
            None => Ok(None),
            Some(_) => Err(ProtectError::Running(tenant.clone())),
        };
    }
    let wanted = order.clone().unwrap_or_default();
    let restored = async {
        let Some(opened) = open(
            layout,
            settings,
            tenant.as_str(),
            &spec,
            wanted.snapshot,
            wanted.identity.as_ref(),
        )
        .await?
        else {
            return Ok(None);
        };
        let target = layout.restoring_dir(tenant);
        dirs::remove_tree(&target)?;
        let report = opened.restore(tenant.as_str(), &target, progress).await?;
        failpoint::hit("protect.restored");
        exchange(layout, tenant)?;
        opened
            .adopt_if_needed(layout, settings, tenant.as_str(), &spec)
            .await?;
        Ok(Some(report))
    }
    .await;
    let is_once = order.as_ref().is_some_and(|order| !order.until_done);
    if order.is_some() && (is_once || restored.is_ok()) {
        remove_order(layout, tenant)?;
    }
    if let Ok(Some(report)) = &restored {
        write_restore_report(layout, tenant, report)?;
    }
    match restored {
        // Asked for and not there: that is not what no state at all is to a new tenant.
        Ok(None) if is_once => Err(ProtectError::NoRepository(tenant.to_string())),
        Err(error) if is_once => Err(ProtectError::Ordered(Box::new(error))),
        restored => restored,
    }
}

/// Restores a snapshot of `name` into the new directory `to`; changes nothing else.
pub async fn restore_beside(
    layout: &Layout,
    settings: &NodeSettings,
    tenant: &TenantId,
    snapshot: Option<u64>,
    to: &Utf8Path,
    identity: Option<&SecretString>,
    progress: Arc<dyn Progress>,
) -> Result<RestoreReport, ProtectError> {
    if to.exists() {
        return Err(ProtectError::DirectoryExists(to.to_owned()));
    }
    let missing = || ProtectError::NoRepository(tenant.to_string());
    let spec = local_spec(layout, tenant.as_str())?.ok_or_else(missing)?;
    let opened = open(layout, settings, tenant.as_str(), &spec, snapshot, identity)
        .await?
        .ok_or_else(missing)?;
    opened.restore(tenant.as_str(), to, progress).await
}

/// Whether the operator's identity is on this host, so that a restore needs none given.
pub fn has_identity(layout: &Layout) -> Result<bool, ProtectError> {
    let credentials = credentials_directory();
    let identity = KeyFiles::new(layout).operator_identity(credentials.as_deref())?;
    Ok(identity.is_some())
}

/// Removes the state that a restore has replaced, once the agent is healthy with the new one.
pub fn discard_replaced(layout: &Layout, tenant: &TenantId) -> Result<(), ProtectError> {
    Ok(dirs::remove_tree(&layout.replaced_dir(tenant))?)
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

/// Whether any mounted directory below `state/` has anything in it.
pub(super) fn has_state(state: &Utf8Path) -> bool {
    let entries = |path: &Utf8Path| path.read_dir_utf8().into_iter().flatten().flatten();
    entries(state).any(|mount| !mount.path().is_dir() || entries(mount.path()).next().is_some())
}

/// Whether this node made the repository and never committed to it, so that a start without
/// state needs no word from the store.
fn is_known_empty(layout: &Layout, tenant: &TenantId) -> bool {
    let directory = layout.repository_dir(tenant.as_str());
    !directory.join(FROM_CATALOGUE).exists()
        && !directory.join("head.json").exists()
        && !directory.join("intent").exists()
}

/// A repository with the commit to restore from, and what opens it.
pub(super) struct Opened {
    remote: RemoteRepository,
    commit: SignedCommit,
    keys: backup::RepositoryKeys,
    passed_over: u64,
    is_newest: bool,
}

/// Opens the repository of `name`; `None` when it holds no snapshot at all.
async fn open(
    layout: &Layout,
    settings: &NodeSettings,
    name: &str,
    spec: &RepositorySpec,
    snapshot: Option<u64>,
    identity: Option<&SecretString>,
) -> Result<Option<Opened>, ProtectError> {
    let store = open_store(&settings.store)?;
    let failed = |source| ProtectError::Restore {
        name: name.to_owned(),
        source: RestoreError::Remote(source),
    };
    let remote = RemoteRepository::open(store, spec.prefix, Some(spec.id), trust(settings)?)
        .await
        .map_err(failed)?;
    let snapshots = remote.snapshots().await.map_err(failed)?;
    if snapshots.commits.is_empty() && snapshots.refused.is_empty() {
        return Ok(None);
    }
    let chain = snapshots.chain().map_err(failed)?;
    let newest = snapshots.newest().map_err(failed)?;
    let commit = match snapshot {
        None => newest,
        Some(number) => on_chain(&snapshots, number).ok_or_else(|| ProtectError::NoSnapshot {
            name: name.to_owned(),
            snapshot: number,
        })?,
    };
    let identities = match identity {
        Some(text) => vec![Identity::from_text(text).map_err(ProtectError::Recipient)?],
        None => KeyFiles::new(layout)
            .operator_identity(credentials_directory().as_deref())?
            .into_iter()
            .collect(),
    };
    if identities.is_empty() {
        return Err(ProtectError::NoIdentity(name.to_owned()));
    }
    let keys = remote.unlock(commit, &identities).await.map_err(failed)?;
    let (commit, is_newest) = (commit.clone(), commit.name == newest.name);
    let passed_over = (snapshots.refused.len() + chain.forks.len()) as u64;
    Ok(Some(Opened {
        remote,
        commit,
        keys,
        passed_over,
        is_newest,
    }))
}

/// The snapshot of this number in the highest epoch that has it.
fn on_chain(snapshots: &Snapshots, number: u64) -> Option<&SignedCommit> {
    snapshots
        .commits
        .iter()
        .find(|commit| u64::from(commit.name.sequence) == number)
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
    ) -> Self {
        Self {
            remote,
            commit,
            keys,
            passed_over: 0,
            is_newest: true,
        }
    }

    pub(super) async fn restore(
        &self,
        name: &str,
        target: &Utf8Path,
        progress: Arc<dyn Progress>,
    ) -> Result<RestoreReport, ProtectError> {
        let request = RestoreRequest {
            target: target.to_owned(),
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
        })
    }

    /// Has the writer go on where the store's newest commit ended, when this host knows the
    /// repository from the catalogue only.
    async fn adopt_if_needed(
        &self,
        layout: &Layout,
        settings: &NodeSettings,
        name: &str,
        spec: &RepositorySpec,
    ) -> Result<(), ProtectError> {
        let directory = layout.repository_dir(name);
        if !self.is_newest || !directory.join(FROM_CATALOGUE).exists() {
            return Ok(());
        }
        debug_assert_eq!(spec.id, self.remote.id());
        self.adopt(layout, settings, name).await
    }

    /// Makes the local directory of the repository anew, from what the store holds.
    pub(super) async fn adopt(
        &self,
        layout: &Layout,
        settings: &NodeSettings,
        name: &str,
    ) -> Result<(), ProtectError> {
        let directory = layout.repository_dir(name);
        dirs::remove_tree(&directory)?;
        let adoption = self.remote.adoption(&self.keys, Some(self.commit.name));
        Repository::adopt(&directory, open_store(&settings.store)?, adoption)
            .await
            .map_err(|source| ProtectError::Repository {
                name: name.to_owned(),
                source,
            })?;
        Ok(())
    }
}

/// Puts what was restored in place; the state that was there goes to `replaced/`.
fn exchange(layout: &Layout, tenant: &TenantId) -> Result<(), ProtectError> {
    let (state, replaced) = (layout.state_dir(tenant), layout.replaced_dir(tenant));
    dirs::remove_tree(&replaced)?;
    if state.exists() {
        rename(&state, &replaced)?;
    } else {
        // So that a crash before the second rename is seen for what it is.
        dirs::make(&replaced, 0o700)?;
    }
    failpoint::hit("protect.exchanged");
    finish_exchange(layout, tenant)
}

/// The second rename, also after a crash between the two: `replaced/` without `state/` says
/// that `restoring/` is whole.
fn finish_exchange(layout: &Layout, tenant: &TenantId) -> Result<(), ProtectError> {
    let (state, restoring) = (layout.state_dir(tenant), layout.restoring_dir(tenant));
    if layout.replaced_dir(tenant).exists() && !state.exists() && restoring.exists() {
        rename(&restoring, &state)?;
    }
    Ok(())
}

fn rename(from: &Utf8Path, to: &Utf8Path) -> Result<(), ProtectError> {
    let failed = |source| FileError::Io {
        verb: "rename",
        path: from.to_owned(),
        source,
    };
    fs::rename(from, to).map_err(failed)?;
    if let Some(parent) = to.parent() {
        files::sync_dir(parent)?;
    }
    Ok(())
}

/// A name that says when something was set aside.
pub(super) fn aside(path: &Utf8Path) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{path}.{}", clock::now().as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> (tempfile::TempDir, Layout, TenantId) {
        let guard = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
        (guard, Layout::rooted(root), "acme".parse().unwrap())
    }

    fn fill(directory: &Utf8Path, content: &str) {
        fs::create_dir_all(directory.join("data")).unwrap();
        fs::write(directory.join("data/file"), content).unwrap();
    }

    #[test]
    fn empty_mounts_are_no_state() {
        let (_guard, layout, tenant) = host();
        let state = layout.state_dir(&tenant);
        assert!(!has_state(&state));
        fs::create_dir_all(state.join("data")).unwrap();
        assert!(!has_state(&state));
        fill(&state, "x");
        assert!(has_state(&state));
    }

    #[test]
    fn the_old_state_is_kept_and_a_crash_between_the_renames_is_finished() {
        let (_guard, layout, tenant) = host();
        fill(&layout.state_dir(&tenant), "old");
        fill(&layout.restoring_dir(&tenant), "new");
        // The crash: only the first rename was done.
        rename(&layout.state_dir(&tenant), &layout.replaced_dir(&tenant)).unwrap();
        finish_exchange(&layout, &tenant).unwrap();
        let read = |directory: &Utf8Path| fs::read_to_string(directory.join("data/file")).unwrap();
        assert_eq!(read(&layout.state_dir(&tenant)), "new");
        assert_eq!(read(&layout.replaced_dir(&tenant)), "old");
        finish_exchange(&layout, &tenant).unwrap();
        assert_eq!(read(&layout.state_dir(&tenant)), "new");
    }

    #[test]
    fn a_restore_that_was_cut_short_touches_no_state() {
        let (_guard, layout, tenant) = host();
        fill(&layout.state_dir(&tenant), "old");
        fill(&layout.restoring_dir(&tenant), "half");
        finish_exchange(&layout, &tenant).unwrap();
        let path = layout.state_dir(&tenant).join("data/file");
        assert_eq!(fs::read_to_string(path).unwrap(), "old");
    }
}
