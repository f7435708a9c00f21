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
use crate::host::files::FileError;
use crate::host::lock::FileLock;
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
    let lock = lock_staging(layout, tenant)?;
    let _lock = lock.ok_or_else(|| ProtectError::PathAtWork(tenant.clone()))?;
    let staging = staging(layout, tenant);
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

/// Where a path is restored before it is moved; the agent does not see it.
fn staging(layout: &Layout, tenant: &TenantId) -> Utf8PathBuf {
    layout.tenant_dir(tenant).join("restoring-path")
}

/// The right to use it, as long as somebody else has not got it.
fn lock_staging(layout: &Layout, tenant: &TenantId) -> Result<Option<FileLock>, ProtectError> {
    let path = layout.tenant_dir(tenant).join("restoring-path.lock");
    FileLock::try_acquire(&path).map_err(|source| {
        let verb = "lock";
        FileError::Io { verb, path, source }.into()
    })
}

/// Removes what a restore of a path has left that was killed; one that is at work is left alone.
///
/// # Errors
/// It cannot be removed.
pub(super) fn clear_abandoned(layout: &Layout, tenant: &TenantId) -> Result<(), ProtectError> {
    let staging = staging(layout, tenant);
    if staging.exists() && lock_staging(layout, tenant)?.is_some() {
        tracing::warn!(path = %staging, "what a restore that was killed has left is removed");
        dirs::remove_tree(&staging)?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protect::samples::{fill, host};

    #[test]
    fn what_a_killed_restore_has_left_is_cleared_and_one_at_work_is_left_alone() {
        let (_guard, layout, tenant) = host();
        fs::create_dir_all(layout.tenant_dir(&tenant)).unwrap();
        clear_abandoned(&layout, &tenant).unwrap();
        fill(&staging(&layout, &tenant), "half of it");
        let at_work = lock_staging(&layout, &tenant).unwrap();
        clear_abandoned(&layout, &tenant).unwrap();
        assert!(staging(&layout, &tenant).exists());
        drop(at_work);
        clear_abandoned(&layout, &tenant).unwrap();
        assert!(!staging(&layout, &tenant).exists());
    }
}
