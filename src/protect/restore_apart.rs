//! Restores a snapshot, or one path of it, apart from the tenant's state: nothing that is there is replaced, and the
//! agent may run.

use std::fs;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use super::ProtectError;
use super::inspect::{open_snapshot, resolve};
use super::opened::{Opened, RestoreReport, Wanted};
use crate::backup::{self, EntryKind, Progress, parent_path, selection};
use crate::host::dirs;
use crate::layout::Layout;
use crate::node::NodeSettings;
use crate::tenant::TenantId;

/// What is restored, and where it goes.
#[derive(Debug, Clone)]
pub struct Apart {
    /// What of it, below the state directory; all without it.
    pub path: Option<String>,
    /// Where to.
    pub place: Place,
}

/// Where what is restored goes.
#[derive(Debug, Clone)]
pub enum Place {
    /// Into this new directory.
    Directory(Utf8PathBuf),
    /// Into the tenant's state, beside what has the name now, as `<name>.restored-<snapshot>`.
    Beside,
}

/// Restores as `apart` says, and gives where it is now.
pub async fn restore_apart(
    layout: &Layout,
    settings: &NodeSettings,
    tenant: &TenantId,
    apart: &Apart,
    wanted: Wanted<'_>,
    progress: Arc<dyn Progress>,
) -> Result<(RestoreReport, Utf8PathBuf), ProtectError> {
    if let Place::Directory(to) = &apart.place
        && to.exists()
    {
        return Err(ProtectError::DirectoryExists(to.clone()));
    }
    let opened = open_snapshot(layout, settings, tenant, wanted).await?;
    let Some(text) = &apart.path else {
        let to = match &apart.place {
            Place::Directory(to) => to,
            Place::Beside => return Err(ProtectError::WholeMount("/".to_owned())),
        };
        let restored = opened.restore(tenant.as_str(), to, None, progress).await?;
        return Ok((restored, to.clone()));
    };
    let entries = opened.entries(tenant.as_str()).await?;
    let path = resolve(&opened, tenant, &entries, text)?;
    match &apart.place {
        Place::Directory(to) => {
            let restored = opened.restore(tenant.as_str(), to, Some(path), progress);
            Ok((restored.await?, to.clone()))
        }
        Place::Beside => {
            let is_directory = selection::find(&entries, &path)
                .and_then(|found| found.first())
                .is_some_and(|entry| matches!(entry.kind, EntryKind::Directory(_)));
            beside(layout, &opened, tenant, path, is_directory, progress).await
        }
    }
}

/// Restores where the agent cannot reach it, and moves it into the state in one step.
async fn beside(
    layout: &Layout,
    opened: &Opened,
    tenant: &TenantId,
    path: Vec<u8>,
    is_directory: bool,
    progress: Arc<dyn Progress>,
) -> Result<(RestoreReport, Utf8PathBuf), ProtectError> {
    // The state directory holds one directory for each mount; what is beside these, no agent sees.
    if parent_path(&path) == b"." {
        return Err(ProtectError::WholeMount(backup::escape_path(&path)));
    }
    let staging = layout.tenant_dir(tenant).join("restoring-path");
    dirs::remove_tree(&staging)?;
    let report = opened
        .restore(tenant.as_str(), &staging, Some(path.clone()), progress)
        .await?;
    let suffix = format!(".restored-{}", report.snapshot);
    let moved = only_content(&staging, is_directory)
        .and_then(|from| backup::move_beside(&from, &layout.state_dir(tenant), &path, &suffix));
    dirs::remove_tree(&staging)?;
    let moved = moved.map_err(|source| ProtectError::Beside {
        path: backup::escape_path(&path),
        source,
    })?;
    Ok((report, layout.state_dir(tenant).join(moved)))
}

/// What is to be moved: the directory itself, or the one file that lies in it.
fn only_content(staging: &Utf8Path, is_directory: bool) -> std::io::Result<std::path::PathBuf> {
    if is_directory {
        return Ok(staging.as_std_path().to_owned());
    }
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let entry = fs::read_dir(staging)?.next().ok_or_else(missing)?;
    Ok(entry?.path())
}
