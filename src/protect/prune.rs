//! Collects repositories of a store with an administrator's key, on any machine.
//! Where it runs on the host itself, what the host remembers follows.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use super::forget::forget_all_but;
use super::store::open_collector;
use super::tenant::repositories;
use super::{ProtectError, opened};
use crate::backup::collect::{
    CollectReport, CollectRequest, Fate, JudgedSnapshot, collect, find_repositories,
};
use crate::backup::{BucketPrefix, CommitName, PublicKey, Trust};
use crate::layout::Layout;
use crate::node::StoreSettings;
use crate::object_store::Collector;
use crate::tenant::TenantId;

/// What to collect, and whom to believe.
#[derive(Debug, Clone)]
pub struct PruneRequest {
    /// The store, with a key that may delete.
    pub store: StoreSettings,
    /// The operator's root key.
    pub root: String,
    /// Only these repositories, …
    pub repositories: Vec<BucketPrefix>,
    /// … or those of these tenants, as this host knows them; all when both are empty.
    pub tenants: Vec<TenantId>,
    /// By which rules.
    pub collect: CollectRequest,
}

/// What became of one repository.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pruned {
    /// The tenant, or `(node)`, where this host knows.
    pub tenant: Option<String>,
    /// The rest.
    #[serde(flatten)]
    pub report: CollectReport,
}

/// Collects one repository after the other.
///
/// # Errors
/// The store fails, or nothing of what was asked for is there.
pub async fn prune(layout: &Layout, request: &PruneRequest) -> Result<Vec<Pruned>, ProtectError> {
    let root: PublicKey = request.root.parse().map_err(ProtectError::RootKey)?;
    let trust = Trust::root(root);
    let store = open_collector(&request.store)?;
    let names = local_names(layout)?;
    let mut pruned = Vec::new();
    for prefix in wanted(&store, layout, request).await? {
        let report = collect(&store, prefix, &trust, &request.collect)
            .await
            .map_err(ProtectError::Collect)?;
        let name = names.get(&prefix);
        if let Some(name) = name
            && report.blocked.is_none()
            && report.refused.is_empty()
            && !request.collect.dry_run
        {
            forget(layout, name, &report)?;
        }
        pruned.push(Pruned {
            tenant: name.map(|name| super::tenant::shown_name(name)),
            report,
        });
    }
    Ok(pruned)
}

async fn wanted(
    store: &Arc<dyn Collector>,
    layout: &Layout,
    request: &PruneRequest,
) -> Result<Vec<BucketPrefix>, ProtectError> {
    let mut wanted = request.repositories.clone();
    for tenant in &request.tenants {
        let spec = opened::local_spec(layout, tenant.as_str())?;
        let spec = spec.ok_or_else(|| ProtectError::NoRepository(tenant.to_string()))?;
        wanted.push(spec.prefix);
    }
    let found = if wanted.is_empty() || !request.repositories.is_empty() {
        find_repositories(store).await?
    } else {
        return Ok(wanted);
    };
    if wanted.is_empty() {
        return Ok(found);
    }
    match wanted.iter().find(|prefix| !found.contains(prefix)) {
        Some(missing) => Err(ProtectError::NoRepository(missing.to_string())),
        None => Ok(wanted),
    }
}

/// The repositories that this host keeps, by prefix; none on a machine that is no host of ours.
fn local_names(layout: &Layout) -> Result<HashMap<BucketPrefix, String>, ProtectError> {
    let mut names = HashMap::new();
    for name in repositories(layout) {
        if let Some(spec) = opened::local_spec(layout, &name)? {
            names.insert(spec.prefix, name);
        }
    }
    Ok(names)
}

/// Forgets the records of snapshots that are gone, so that `tenantd snapshots` shows what there is.
fn forget(layout: &Layout, name: &str, report: &CollectReport) -> Result<(), ProtectError> {
    let there = report.snapshots.iter().filter(|s| s.fate != Fate::Deleted);
    let newest = report
        .snapshots
        .iter()
        .max_by_key(|s| (s.epoch, s.snapshot));
    let name_of = |snapshot: &JudgedSnapshot| CommitName {
        epoch: snapshot.epoch,
        sequence: snapshot.snapshot,
        digest: snapshot.commit,
    };
    forget_all_but(layout, name, there.chain(newest).map(name_of))
}
