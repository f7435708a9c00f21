//! Reports that backup and restore processes leave for whoever started them.

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ProtectError;
use super::quiesce::Quiesced;
use crate::backup::Measure;
use crate::host::{dirs, files};
use crate::layout::Layout;
use crate::tenant::TenantId;

/// How a backup ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BackupReport {
    /// Whether there was anything to store.
    pub outcome: Outcome,
    /// The newest snapshot's number.
    pub snapshot: u64,
    /// The moment the data is of.
    pub taken_at: Timestamp,
    /// Files in it.
    pub files: u64,
    /// Their sizes added up.
    pub bytes: u64,
    /// Bytes newly stored.
    pub sent_bytes: u64,
    /// How long the agent was paused, in microseconds.
    pub pause_us: u64,
    /// Sockets, pipes and devices that were left out.
    pub skipped: u64,
    /// Whether the agent put its files in order for it, where it was to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiesced: Option<Quiesced>,
}

/// Whether a backup stored anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A new snapshot was committed.
    Committed,
    /// Nothing had changed since the newest snapshot.
    Unchanged,
}

fn path(layout: &Layout, kind: &str, tenant: Option<&TenantId>) -> Utf8PathBuf {
    let name = tenant.map_or(".node", TenantId::as_str);
    layout
        .run_dir()
        .join("report")
        .join(format!("{kind}-{name}.json"))
}

/// The reports and lines of progress that there may be of a tenant.
pub fn reports_of(layout: &Layout, tenant: &TenantId) -> Vec<Utf8PathBuf> {
    ["backup", "progress", "restore"]
        .map(|kind| path(layout, kind, Some(tenant)))
        .into()
}

fn write(path: &Utf8Path, report: &impl Serialize) -> Result<(), ProtectError> {
    if let Some(parent) = path.parent() {
        dirs::make(parent, 0o700)?;
    }
    let bytes = serde_json::to_vec(report).map_err(|source| ProtectError::Document {
        path: path.to_owned(),
        source,
    })?;
    Ok(files::write(path, &bytes, 0o600)?)
}

fn read<T: DeserializeOwned>(path: &Utf8Path) -> Result<T, ProtectError> {
    let bytes = match files::read(path, 64 * 1024) {
        Err(error) if error.is_absent() => return Err(ProtectError::NoReport(path.to_owned())),
        other => other?,
    };
    serde_json::from_slice(&bytes).map_err(|source| ProtectError::Document {
        path: path.to_owned(),
        source,
    })
}

/// Leaves the report of a backup.
pub(super) fn write_report(
    layout: &Layout,
    tenant: Option<&TenantId>,
    report: &BackupReport,
) -> Result<(), ProtectError> {
    write(&path(layout, "backup", tenant), report)
}

/// How far a unit's work is, in words and in figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Told {
    /// For people.
    pub line: String,
    /// For programs.
    pub measure: Measure,
}

/// Leaves how far a unit's work for a tenant, or for the node, is, for the daemon to tell; it is gone with
/// [`end_progress`].
pub fn tell_progress(
    layout: &Layout,
    tenant: Option<&TenantId>,
    told: &Told,
) -> Result<(), ProtectError> {
    write(&path(layout, "progress", tenant), told)
}

/// How far the unit at work for a tenant, or for the node, is.
pub fn progress(layout: &Layout, tenant: Option<&TenantId>) -> Option<Told> {
    read(&path(layout, "progress", tenant)).ok()
}

/// Nothing is at work any more.
pub fn end_progress(layout: &Layout, tenant: Option<&TenantId>) -> Result<(), ProtectError> {
    files::remove(&path(layout, "progress", tenant))?;
    Ok(())
}

/// The report of the last backup of a tenant, or of the node.
pub fn read_report(layout: &Layout, tenant: Option<&TenantId>) -> Result<Value, ProtectError> {
    read(&path(layout, "backup", tenant))
}

/// Leaves the report of a restore.
pub(super) fn write_restore_report(
    layout: &Layout,
    tenant: &TenantId,
    report: &impl Serialize,
) -> Result<(), ProtectError> {
    write(&path(layout, "restore", Some(tenant)), report)
}

/// The report of the last restore of a tenant, which is then gone.
pub fn take_restore_report(layout: &Layout, tenant: &TenantId) -> Result<Value, ProtectError> {
    let path = path(layout, "restore", Some(tenant));
    let report = read(&path);
    files::remove(&path)?;
    report
}
