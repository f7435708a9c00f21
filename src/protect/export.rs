//! A tenant's snapshot as one file, for a user who leaves.

use std::io::Write;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::ProtectError;
use super::inspect::open_snapshot;
use super::opened::Wanted;
use crate::backup::Progress;
use crate::backup::archive::About;
use crate::layout::Layout;
use crate::node::NodeSettings;
use crate::tenant::TenantId;

/// What is exported.
#[derive(Debug, Clone)]
pub struct Export {
    /// The tenant.
    pub tenant: TenantId,
    /// The spec that goes with it.
    pub spec: String,
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExportReport {
    /// The snapshot's number.
    pub snapshot: u64,
    /// The moment the data is of.
    pub taken_at: Timestamp,
    /// Files.
    pub files: u64,
    /// Their sizes added up.
    pub bytes: u64,
}

/// Writes a snapshot of a tenant with its spec to `out`, laid out as [`crate::backup::archive`] says.
pub async fn export<W: Write + Send + 'static>(
    layout: &Layout,
    settings: &NodeSettings,
    export: &Export,
    wanted: Wanted<'_>,
    out: W,
    progress: Arc<dyn Progress>,
) -> Result<ExportReport, ProtectError> {
    let name = export.tenant.as_str();
    let opened = open_snapshot(layout, settings, &export.tenant, wanted).await?;
    let commit = opened.commit();
    let (snapshot, taken_at) = (commit.name.sequence.into(), commit.commit.time);
    let about = About::new(name, &settings.name, taken_at, snapshot);
    let (remote, keys) = opened.source();
    let exported = remote
        .export(commit, keys, &about, &export.spec, out, progress)
        .await
        .map_err(|source| ProtectError::Export {
            name: name.to_owned(),
            source,
        })?;
    Ok(ExportReport {
        snapshot,
        taken_at,
        files: exported.files,
        bytes: exported.bytes,
    })
}
