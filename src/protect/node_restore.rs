//! Rebuilds a node on an empty machine from its own repository: settings, specs, state
//! database and catalogue. The tenants' state follows when their restore units start.

use std::fs;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::ProtectError;
use super::exchange::aside;
use super::forks::forks;
use super::heartbeat::said;
use super::node::DATABASE;
use super::opened::{FROM_CATALOGUE, Opened, RestoreReport, judge_head, trust};
use super::order::{RestoreOrder, write_order};
use super::store::{Patience, open_store};
use super::tenant::NODE;
use crate::backup::freshness::Evidence;
use crate::backup::{
    Identity, Progress, RemoteError, RemoteRepository, RepositoryKeys, RestoreError, SignedCommit,
    Snapshots,
};
use crate::host::files::{self, FileError};
use crate::host::{clock, dirs};
use crate::layout::Layout;
use crate::node::NodeSettings;
use crate::tenant::TenantId;

/// Rebuilds this node. The machine must have been set up (`tenantd init` with the operator's
/// root key, recipients and store) and have no tenants; the daemon must not run.
///
/// The identity is handed to the tenants' restore units on tmpfs and is not kept: only when
/// they have run, those of held tenants too, may the machine be rebooted.
pub async fn restore_node(
    layout: &Layout,
    settings: &NodeSettings,
    identity: &SecretString,
    allow_old: bool,
    progress: Arc<dyn Progress>,
) -> Result<(RestoreReport, Vec<TenantId>), ProtectError> {
    if !super::tenants(layout).is_empty() {
        return Err(ProtectError::NotEmpty);
    }
    let opened = find(settings, identity, allow_old).await?;
    let restored = layout.data_dir().join("restoring-node");
    dirs::remove_tree(&restored)?;
    let report = opened
        .restore("the node", &restored, None, progress)
        .await?;
    let tenants = put_in_place(layout, &restored)?;
    opened.adopt(layout, settings, NODE).await?;
    for tenant in &tenants {
        let identity = Some(identity.expose_secret().to_owned().into());
        write_order(
            layout,
            tenant,
            &RestoreOrder {
                snapshot: None,
                identity,
                allow_old,
                until_done: true,
            },
        )?;
    }
    dirs::remove_tree(&restored)?;
    Ok((report, tenants))
}

/// A node's repository that the identity can read, and its newest snapshot.
struct Candidate {
    remote: RemoteRepository,
    snapshots: Snapshots,
    commit: SignedCommit,
    keys: RepositoryKeys,
    /// Whether the snapshot is of a node of this one's name.
    is_namesake: bool,
}

impl Candidate {
    /// Of the nodes that share a store, the one of this name comes first, then the one that was
    /// certified last, then the newest.
    fn rank(&self) -> (bool, u32, Timestamp) {
        (
            self.is_namesake,
            self.commit.name.epoch,
            self.commit.commit.time,
        )
    }
}

/// The newest snapshot of a node in the store that the identity can read. Which of the
/// repositories are nodes' is inside their ciphertext, so each is asked.
async fn find(
    settings: &NodeSettings,
    identity: &SecretString,
    allow_old: bool,
) -> Result<Opened, ProtectError> {
    let store = open_store(&settings.store, Patience::Usual)?;
    let failed = |source: RemoteError| ProtectError::Restore {
        name: "the node".to_owned(),
        source: RestoreError::Remote(source),
    };
    let identities = [Identity::from_text(identity).map_err(ProtectError::Recipient)?];
    let mut newest: Option<Candidate> = None;
    for prefix in RemoteRepository::find(&*store).await.map_err(failed)? {
        let trust = trust(settings)?;
        let candidate = async {
            let remote = RemoteRepository::open(Arc::clone(&store), prefix, None, trust).await?;
            let snapshots = remote.snapshots().await?;
            let commit = snapshots.newest()?.clone();
            let keys = remote.unlock(&commit, &identities).await?;
            let labels = remote.tree(&commit, &keys).await?.header.labels;
            let says = |label: &str, value: &str| labels.get(label).is_some_and(|v| v == value);
            Ok(says("kind", "node").then(|| Candidate {
                is_namesake: says("node", &settings.name),
                remote,
                snapshots,
                commit,
                keys,
            }))
        };
        match candidate.await {
            Ok(Some(found)) if newest.as_ref().is_none_or(|n| found.rank() > n.rank()) => {
                newest = Some(found);
            }
            Ok(_) => {}
            Err(error) => {
                // Another operator's, or empty: not ours to restore from.
                let error: RemoteError = error;
                tracing::debug!(%prefix, error = &error as &dyn std::error::Error, "passed over");
            }
        }
    }
    let found = newest.ok_or(ProtectError::NoNode)?;
    let beat = found.remote.heartbeat().await.map_err(failed)?;
    let evidence = Evidence {
        head: found.commit.name,
        time: found.commit.commit.time,
        unreadable: found.snapshots.unreadable(),
        seen: None,
        word: beat.map(|beat| said(&beat, found.remote.id())),
        now: clock::now(),
    };
    let doubt = judge_head("the node", settings, allow_old, &evidence)?;
    let forks = forks(&found.snapshots, &found.snapshots.chain().map_err(failed)?);
    Ok(Opened::new(
        found.remote,
        found.commit,
        found.keys,
        forks,
        doubt,
    ))
}

/// Copies the restored files to their places. The database comes last: it says that the
/// rest is there. `node.toml` stays that of this machine.
fn put_in_place(layout: &Layout, restored: &Utf8Path) -> Result<Vec<TenantId>, ProtectError> {
    for (name, directory) in [
        ("tenants.d", layout.specs_dir()),
        ("templates.d", layout.templates_dir()),
        ("plans.d", layout.plans_dir()),
    ] {
        copy_all(&restored.join(name), &directory, 0o644)?;
    }
    copy_all(&restored.join("erasures"), &layout.erasures_dir(), 0o600)?;
    let mut tenants = Vec::new();
    for name in names(&restored.join("tenants"))? {
        let Ok(tenant) = name.parse::<TenantId>() else {
            continue;
        };
        dirs::make(&layout.tenants_dir(), 0o700)?;
        copy_all(
            &restored.join("tenants").join(&name),
            &layout.tenant_dir(&tenant),
            0o600,
        )?;
        tenants.push(tenant);
    }
    for name in names(&restored.join("repositories"))? {
        let directory = layout.repository_dir(&name);
        copy_all(
            &restored.join("repositories").join(&name),
            &directory,
            0o600,
        )?;
        files::write(&directory.join("published"), b"", 0o600)?;
        files::write(&directory.join(FROM_CATALOGUE), b"", 0o600)?;
    }
    let database = layout.database();
    if database.exists() {
        // A daemon has run here before, without tenants: what it knows is set aside.
        for suffix in ["-wal", "-shm"] {
            files::remove(&Utf8PathBuf::from(format!("{database}{suffix}")))?;
        }
        let failed = |source| FileError::Io {
            verb: "rename",
            path: database.clone(),
            source,
        };
        fs::rename(&database, aside(&database)).map_err(failed)?;
    }
    copy(&restored.join(DATABASE), &database, 0o600)?;
    Ok(tenants)
}

fn names(directory: &Utf8Path) -> Result<Vec<String>, ProtectError> {
    let entries = match directory.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            let path = directory.to_owned();
            return Err(FileError::Io {
                verb: "read",
                path,
                source,
            }
            .into());
        }
    };
    Ok(entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_owned()))
        .collect())
}

fn copy_all(from: &Utf8Path, to: &Utf8Path, mode: u32) -> Result<(), ProtectError> {
    for name in names(from)? {
        dirs::make(to, 0o700)?;
        copy(&from.join(&name), &to.join(&name), mode)?;
    }
    Ok(())
}

fn copy(from: &Utf8Path, to: &Utf8Path, mode: u32) -> Result<(), ProtectError> {
    // The database is the largest of them; a gigabyte of it would be decades of records.
    let bytes = files::read(from, 1 << 30)?;
    Ok(files::write(to, &bytes, mode)?)
}
