//! Rebuilds a node on an empty machine from its own repository: settings, specs, state
//! database and catalogue. The tenants' state follows when their restore units start.

use std::fs;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::{ExposeSecret, SecretString};

use super::ProtectError;
use super::exchange::aside;
use super::node::DATABASE;
use super::opened::{FROM_CATALOGUE, Opened, RestoreReport, trust};
use super::order::{RestoreOrder, write_order};
use super::store::{Patience, open_store};
use super::tenant::NODE;
use crate::backup::{Identity, Progress, RemoteError, RemoteRepository, RestoreError};
use crate::host::dirs;
use crate::host::files::{self, FileError};
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
    progress: Arc<dyn Progress>,
) -> Result<(RestoreReport, Vec<TenantId>), ProtectError> {
    if !super::tenants(layout).is_empty() {
        return Err(ProtectError::NotEmpty);
    }
    let opened = find(settings, identity).await?;
    let restored = layout.data_dir().join("restoring-node");
    dirs::remove_tree(&restored)?;
    let report = opened.restore("the node", &restored, progress).await?;
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
                until_done: true,
            },
        )?;
    }
    dirs::remove_tree(&restored)?;
    Ok((report, tenants))
}

/// The newest snapshot of a node in the store that the identity can read. Which of the
/// repositories are nodes' is inside their ciphertext, so each is asked.
async fn find(settings: &NodeSettings, identity: &SecretString) -> Result<Opened, ProtectError> {
    let store = open_store(&settings.store, Patience::Usual)?;
    let failed = |source: RemoteError| ProtectError::Restore {
        name: "the node".to_owned(),
        source: RestoreError::Remote(source),
    };
    let identities = [Identity::from_text(identity).map_err(ProtectError::Recipient)?];
    let mut newest: Option<(Opened, _)> = None;
    for prefix in RemoteRepository::find(&*store).await.map_err(failed)? {
        let candidate = async {
            let trust = trust(settings)?;
            let remote = RemoteRepository::open(Arc::clone(&store), prefix, None, trust)
                .await
                .map_err(failed)?;
            let snapshots = remote.snapshots().await.map_err(failed)?;
            let commit = snapshots.newest().map_err(failed)?.clone();
            let keys = remote.unlock(&commit, &identities).await.map_err(failed)?;
            let tree = remote.tree(&commit, &keys).await.map_err(failed)?;
            Ok::<_, ProtectError>((remote, commit, keys, tree.header.labels))
        };
        let (remote, commit, keys, labels) = match candidate.await {
            Ok(found) => found,
            Err(error) => {
                // Another operator's, or empty: not ours to restore from.
                tracing::debug!(%prefix, error = &error as &dyn std::error::Error, "passed over");
                continue;
            }
        };
        let time = commit.commit.time;
        let is_node = labels.get("kind").is_some_and(|kind| kind == "node");
        if is_node && newest.as_ref().is_none_or(|(_, newest)| time > *newest) {
            newest = Some((Opened::new(remote, commit, keys), time));
        }
    }
    newest.map(|(opened, _)| opened).ok_or(ProtectError::NoNode)
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
