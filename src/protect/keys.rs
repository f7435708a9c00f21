//! The keys of this host's repositories: for whom they are wrapped, wrapping them anew, and erasing a tenant.
//! What an erasure still waits for is recorded, so that it is not forgotten.

use camino::Utf8PathBuf;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ProtectError;
use super::heartbeat::known_head;
use super::opened::local_spec;
use super::store::open_collector;
use super::tenant::{repositories, shown_name};
use crate::backup::{self, BucketPrefix, Identity, Recipient, Removal, RepositoryError, Rewrapped};
use crate::failpoint;
use crate::host::{clock, dirs, files};
use crate::layout::Layout;
use crate::node::{KeyFiles, NodeSettings, StoreSettings};
use crate::tenant::TenantId;

/// Longest record of an erasure.
const LIMIT: u64 = 64 * 1024;

/// All keys that this host knows of; no secret is among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KeyReport {
    /// The operator's root key that this node trusts.
    pub root: String,
    /// This node's own key, where it has one.
    pub node: Option<NodeKeyReport>,
    /// Why the node cannot sign, if so.
    pub fault: Option<String>,
    /// For whom new repositories are wrapped.
    pub recipients: Vec<String>,
    /// Whether an identity that reads backups is on this host.
    pub identity_on_host: bool,
    /// The operator's secret keys that are on this host and should not be.
    pub operators_keys_on_host: Vec<Utf8PathBuf>,
    /// All repositories of this host.
    pub repositories: Vec<RepositoryReport>,
    /// Tenants whose keys were, or are to be, erased.
    pub erasures: Vec<Erasure>,
}

/// This node's own key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NodeKeyReport {
    /// Its public half.
    pub key: String,
    /// Its fingerprint, by which reports name it.
    pub fingerprint: String,
    /// The epoch that it is certified for.
    pub epoch: u32,
}

/// For whom a repository's keys are wrapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RepositoryReport {
    /// The tenant, or `(node)`.
    pub tenant: String,
    /// Its prefix in the store.
    pub repository: BucketPrefix,
    /// The recipients; none where another node made it and nothing is known.
    pub recipients: Option<Vec<String>>,
    /// Whether they are those of `node.toml`.
    pub is_current: bool,
}

/// A tenant whose keys are to be erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Erasure {
    /// The tenant.
    pub tenant: TenantId,
    /// The prefix of its repository.
    pub repository: BucketPrefix,
    /// Whether a snapshot was stored: a store that knows nothing of the repository is then another one, or away.
    #[serde(default)]
    pub was_stored: bool,
    /// When it was asked for first.
    pub asked_at: Timestamp,
    /// How far it is.
    pub status: ErasureStatus,
    /// What the last attempt has found.
    pub last: Option<Removal>,
}

/// How far an erasure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErasureStatus {
    /// Key objects are still in the store: whoever has the identity can read the backups.
    Pending,
    /// Nobody can read them any more.
    Erased,
}

impl std::fmt::Display for ErasureStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Pending => "erasure pending",
            Self::Erased => "erased",
        })
    }
}

/// What became of one repository's keys.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rotated {
    /// The tenant, or `(node)`.
    pub tenant: String,
    /// Its prefix in the store.
    pub repository: BucketPrefix,
    /// Whether they were wrapped anew, or would be.
    pub is_new: bool,
    /// What became of the old objects.
    pub old: Removal,
}

fn recipients(settings: &NodeSettings) -> Result<Vec<Recipient>, ProtectError> {
    let parsed = settings.keys.recipients.iter().map(|text| text.parse());
    parsed
        .collect::<Result<_, _>>()
        .map_err(ProtectError::Recipient)
}

fn local(name: &str) -> impl FnOnce(RepositoryError) -> ProtectError {
    let name = name.to_owned();
    |source| ProtectError::Repository { name, source }
}

/// Looks at this host's keys; asks neither the store nor the daemon.
pub fn show_keys(layout: &Layout, settings: &NodeSettings) -> Result<KeyReport, ProtectError> {
    let files = KeyFiles::new(layout);
    let (node, fault) = match files.signer() {
        Ok(signer) => {
            let statement = signer.certificate.statement();
            let node = NodeKeyReport {
                key: statement.key.to_string(),
                fingerprint: statement.key.fingerprint(),
                epoch: statement.epoch,
            };
            (Some(node), None)
        }
        Err(error) => (None, Some(error.to_string())),
    };
    let mut wanted: Vec<String> = recipients(settings)?
        .iter()
        .map(ToString::to_string)
        .collect();
    wanted.sort_unstable();
    let mut reports = Vec::new();
    for name in repositories(layout) {
        let Some(spec) = local_spec(layout, &name)? else {
            continue;
        };
        let known =
            backup::known_recipients(&layout.repository_dir(&name)).map_err(local(&name))?;
        reports.push(RepositoryReport {
            tenant: shown_name(&name),
            repository: spec.prefix,
            is_current: known.as_ref() == Some(&wanted),
            recipients: known,
        });
    }
    Ok(KeyReport {
        root: settings.keys.root.clone(),
        node,
        fault,
        recipients: settings.keys.recipients.clone(),
        identity_on_host: files.operator_identity(None)?.is_some(),
        operators_keys_on_host: files.operators(),
        repositories: reports,
        erasures: erasures(layout)?,
    })
}

/// Wraps the keys of all repositories, or of one tenant's, for the recipients of `node.toml`.
///
/// # Errors
/// The first that fails; those before it are done, and it may be repeated.
pub async fn rotate_keys(
    layout: &Layout,
    settings: &NodeSettings,
    store: &StoreSettings,
    only: &[TenantId],
    identity: &Identity,
    dry_run: bool,
) -> Result<Vec<Rotated>, ProtectError> {
    let recipients = recipients(settings)?;
    let store = open_collector(store)?;
    let names = match only {
        [] => repositories(layout),
        only => only.iter().map(ToString::to_string).collect(),
    };
    let mut rotated = Vec::new();
    for name in names {
        let spec = local_spec(layout, &name)?;
        let spec = spec.ok_or_else(|| ProtectError::NoRepository(shown_name(&name)))?;
        let directory = layout.repository_dir(&name);
        let end = backup::rewrap(&store, &directory, &spec, identity, &recipients, dry_run)
            .await
            .map_err(|source| ProtectError::Rewrap {
                name: shown_name(&name),
                source,
            })?;
        let (is_new, old) = match end {
            Rewrapped::Unchanged => (false, Removal::default()),
            Rewrapped::Anew { old } => (true, old),
        };
        rotated.push(Rotated {
            tenant: shown_name(&name),
            repository: spec.prefix,
            is_new,
            old,
        });
    }
    Ok(rotated)
}

/// Erases a tenant that is not on this host any more: deletes what its backups could be read with.
///
/// That it is to be done is recorded first. What the store holds back, for Object Lock or because the
/// key may not delete, stays recorded as pending; repeating it goes on.
pub async fn erase_keys(
    layout: &Layout,
    store: &StoreSettings,
    tenant: &TenantId,
    dry_run: bool,
) -> Result<Erasure, ProtectError> {
    if layout.runtime_file(tenant).exists() {
        return Err(ProtectError::NotRemoved(tenant.clone()));
    }
    let state = layout.tenant_dir(tenant);
    if state.exists() {
        return Err(ProtectError::StateLeft(tenant.clone(), state));
    }
    let spec = local_spec(layout, tenant.as_str())?;
    let begun = erasures(layout)?;
    let begun = begun.into_iter().rev().find(|one| one.tenant == *tenant);
    let mut erasure = match (spec, begun) {
        (Some(spec), _) => Erasure {
            tenant: tenant.clone(),
            repository: spec.prefix,
            was_stored: {
                let directory = layout.repository_dir(tenant.as_str());
                known_head(&directory, tenant.as_str())?.is_some()
            },
            asked_at: clock::now(),
            status: ErasureStatus::Pending,
            last: None,
        },
        (None, Some(begun)) => begun,
        (None, None) => return Err(ProtectError::NoRepository(tenant.to_string())),
    };
    if !dry_run {
        record(layout, &erasure)?;
        failpoint::hit("keys.erasing");
        // With it go the host's copy of the keys and every way to write on.
        dirs::remove_tree(&layout.repository_dir(tenant.as_str()))?;
    }
    // After the record: a store that cannot be used now is one to go on with later.
    let store = open_collector(store)?;
    let removal = backup::erase(&store, erasure.repository, erasure.was_stored, dry_run).await?;
    if removal.is_complete() {
        erasure.status = ErasureStatus::Erased;
    }
    erasure.last = Some(removal);
    if !dry_run {
        record(layout, &erasure)?;
    }
    Ok(erasure)
}

/// Goes on with every erasure that is pending; the first trouble of each is logged and leaves it pending.
/// Returns those that are pending still.
pub async fn go_on_erasing(
    layout: &Layout,
    store: &StoreSettings,
) -> Result<Vec<Erasure>, ProtectError> {
    let pending = pending_erasures(layout)?;
    if pending.is_empty() {
        return Ok(pending);
    }
    let store = open_collector(store)?;
    let mut left = Vec::new();
    for mut erasure in pending {
        // By the prefix: a tenant that has come back under the same name has another repository.
        match backup::erase(&store, erasure.repository, erasure.was_stored, false).await {
            Ok(removal) => {
                if removal.is_complete() {
                    erasure.status = ErasureStatus::Erased;
                }
                erasure.last = Some(removal);
                record(layout, &erasure)?;
            }
            Err(error) => {
                let tenant = &erasure.tenant;
                tracing::warn!(%tenant, error = &error as &dyn std::error::Error, "its keys are not erased yet");
            }
        }
        if erasure.status == ErasureStatus::Pending {
            left.push(erasure);
        }
    }
    Ok(left)
}

/// Erasures that are not done.
pub fn pending_erasures(layout: &Layout) -> Result<Vec<Erasure>, ProtectError> {
    let mut erasures = erasures(layout)?;
    erasures.retain(|erasure| erasure.status == ErasureStatus::Pending);
    Ok(erasures)
}

fn record_file(layout: &Layout, repository: BucketPrefix) -> Utf8PathBuf {
    layout.erasures_dir().join(format!("{repository}.json"))
}

fn record(layout: &Layout, erasure: &Erasure) -> Result<(), ProtectError> {
    let path = record_file(layout, erasure.repository);
    dirs::make(&layout.erasures_dir(), 0o700)?;
    let document = serde_json::to_vec(erasure).map_err(|source| ProtectError::Document {
        path: path.clone(),
        source,
    })?;
    Ok(files::write(&path, &document, 0o600)?)
}

/// All erasures, in the order in which they were asked for.
pub(super) fn erasures(layout: &Layout) -> Result<Vec<Erasure>, ProtectError> {
    let mut erasures = Vec::new();
    let entries = layout.erasures_dir().read_dir_utf8();
    for entry in entries.into_iter().flatten().flatten() {
        if entry.path().extension() != Some("json") {
            continue;
        }
        let bytes = files::read(entry.path(), LIMIT)?;
        let erasure: Erasure =
            serde_json::from_slice(&bytes).map_err(|source| ProtectError::Document {
                path: entry.path().to_owned(),
                source,
            })?;
        erasures.push(erasure);
    }
    erasures.sort_by_key(|erasure| erasure.asked_at);
    Ok(erasures)
}
