//! What a drill makes on the host beside the restored state, and its removal.
//! Removing is repeatable and needs to know nothing but the tenant: a drill that was killed is cleaned by the next one.

use std::os::unix::fs::MetadataExt as _;

use camino::Utf8Path;

use super::blocking;
use super::error::DrillError;
use crate::host::podman::Podman;
use crate::host::secret_mount::{self, Owner};
use crate::host::systemd::{Systemd, SystemdError};
use crate::host::{dirs, files, netns};
use crate::layout::{Layout, UnitNames};
use crate::secrets;
use crate::tenant::{Runtime, TenantId};

/// Makes the directories of mounts that the snapshot does not have: caches, and state that is new since. They are
/// owned as the tenant's own.
pub(super) fn make_mounts(layout: &Layout, tenant: &TenantId) -> Result<(), DrillError> {
    let places = [
        (layout.state_dir(tenant), layout.drill_state_dir(tenant)),
        (layout.cache_dir(tenant), layout.drill_cache_dir(tenant)),
    ];
    for (own, scratch) in places {
        dirs::make(&scratch, 0o700)?;
        for (name, uid, gid) in mounts(&own)? {
            dirs::make_owned(&scratch.join(name), 0o700, uid, gid)?;
        }
    }
    Ok(())
}

/// Gives the scratch tenant the secrets of the tenant: without them its agent may not start, and it has no way out to use
/// them on.
pub(super) async fn deliver_secrets(
    layout: &Layout,
    tenant: &TenantId,
    runtime: &Runtime,
) -> Result<(), DrillError> {
    let Some(delivery) = &runtime.secrets else {
        return Ok(());
    };
    let mut values = Vec::new();
    for secret in &delivery.files {
        let value = secrets::value(layout, tenant, &secret.name, secret.version).await?;
        values.push((secret.file.clone(), value));
    }
    let owner = Owner {
        uid: delivery.uid,
        gid: delivery.gid,
    };
    let path = layout.drill_secret_mount(tenant);
    blocking(move || {
        let files = values.iter().map(|(file, value)| (file.as_str(), value));
        secret_mount::deliver(&path, owner, files)
    })
    .await??;
    Ok(())
}

/// The directories in `parent`, with their owners; none when a tenant has no such mounts.
fn mounts(parent: &Utf8Path) -> Result<Vec<(String, u32, u32)>, DrillError> {
    let failed = |source| files::FileError::Io {
        verb: "look into",
        path: parent.to_owned(),
        source,
    };
    let mut mounts = Vec::new();
    let entries = match parent.read_dir_utf8() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(mounts),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let metadata = entry.metadata().map_err(failed)?;
        if metadata.is_dir() {
            mounts.push((entry.file_name().to_owned(), metadata.uid(), metadata.gid()));
        }
    }
    Ok(mounts)
}

/// Removes the scratch tenants of all drills.
pub(super) async fn clean_all(
    layout: &Layout,
    systemd: &Systemd,
    podman: &Podman,
) -> Result<(), DrillError> {
    let Ok(entries) = layout.drills_dir().read_dir_utf8() else {
        return Ok(());
    };
    let left = entries.filter_map(|entry| entry.ok()?.file_name().parse::<TenantId>().ok());
    for tenant in left.collect::<Vec<_>>() {
        tracing::info!(%tenant, "removing what a drill has left");
        clean(layout, systemd, podman, &tenant).await?;
    }
    Ok(())
}

/// Removes the scratch tenant of a drill of `tenant`, whatever there is of it.
pub(super) async fn clean(
    layout: &Layout,
    systemd: &Systemd,
    podman: &Podman,
    tenant: &TenantId,
) -> Result<(), DrillError> {
    let names = UnitNames(tenant);
    let unit = names.drill_service();
    match systemd.stop(&unit).await {
        Ok(_) | Err(SystemdError::NoSuchUnit { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    // A failed unit stays loaded, and the next drill's file would not be read.
    systemd.reset_failed(&unit).await?;
    files::remove(&layout.drill_unit(tenant)).or_else(|error| {
        if error.is_absent() {
            Ok(false)
        } else {
            Err(error)
        }
    })?;
    podman.remove_container(&names.drill()).await?;
    let namespace = layout.drill_netns(tenant);
    blocking(move || netns::down(&namespace)).await??;
    let secrets = layout.drill_secret_mount(tenant);
    blocking(move || secret_mount::take_down(&secrets)).await??;
    // The last: as long as it is there, somebody has to clean.
    let directory = layout.drill_dir(tenant);
    blocking(move || dirs::remove_tree(&directory)).await??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_that_the_snapshot_lacks_are_made_and_a_tenant_may_have_no_caches() {
        let guard = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(guard.path().to_str().unwrap());
        let tenant: TenantId = "acme".parse().unwrap();
        for name in ["data", "new"] {
            dirs::make(&layout.state_dir(&tenant).join(name), 0o700).unwrap();
        }
        let restored = layout.drill_state_dir(&tenant).join("data");
        dirs::make(&restored, 0o750).unwrap();
        make_mounts(&layout, &tenant).unwrap();
        assert!(layout.drill_state_dir(&tenant).join("new").is_dir());
        assert_eq!(restored.metadata().unwrap().mode() & 0o777, 0o750);
        let caches = layout.drill_cache_dir(&tenant).read_dir_utf8().unwrap();
        assert_eq!(caches.count(), 0);
    }
}
