//! Takes the state of a tenant that came as one file. Anybody may have made the file.
//! It puts files in place; that there is a tenant with them then is the daemon's work.

use std::sync::Arc;

use camino::Utf8Path;

use super::ProtectError;
use super::exchange::{exchange, has_state, is_exchange_open};
use crate::backup::Progress;
use crate::backup::archive::{Archive, ImportRequest, Imported};
use crate::failpoint;
use crate::host::{dirs, space};
use crate::layout::Layout;
use crate::tenant::{TenantId, is_mount_name};

/// Reads an archive through and checks every name in it; nothing is written.
///
/// Directly in `state/` are the agent's mounts: a name there that no spec can have, or a link instead of a directory,
/// would be believed by whatever works on them as root.
pub fn read_archive(
    layout: &Layout,
    file: &Utf8Path,
    allow_special: bool,
) -> Result<Archive, ProtectError> {
    let room = space::of(&layout.data_dir())?.free;
    let checked = Archive::read(file, room, allow_special).and_then(|archive| {
        archive.check_mounts(is_mount_name)?;
        Ok(archive)
    });
    checked.map_err(|source| ProtectError::Archive(Box::new(source)))
}

/// Refuses where the tenant has files on this host that an import would replace.
pub fn check_vacant(layout: &Layout, tenant: &TenantId) -> Result<(), ProtectError> {
    if has_state(&layout.state_dir(tenant)) || is_exchange_open(layout, tenant) {
        return Err(ProtectError::HasState(
            tenant.clone(),
            layout.tenant_dir(tenant),
        ));
    }
    Ok(())
}

/// Writes the archive's files as the state of a tenant that has none.
///
/// A crash leaves all of it or nothing in `state/`.
pub async fn import_state(
    layout: &Layout,
    tenant: &TenantId,
    archive: Archive,
    allow_special: bool,
    progress: Arc<dyn Progress>,
) -> Result<Imported, ProtectError> {
    check_vacant(layout, tenant)?;
    dirs::make(&layout.tenants_dir(), 0o700)?;
    dirs::make(&layout.tenant_dir(tenant), 0o700)?;
    let target = layout.restoring_dir(tenant);
    dirs::remove_tree(&target)?;
    let request = ImportRequest {
        target,
        ownership: nix::unistd::geteuid().is_root(),
        keep_setuid: allow_special,
        progress,
    };
    let written = tokio::task::spawn_blocking(move || archive.extract(&request)).await;
    let imported = written
        .map_err(ProtectError::Worker)?
        .map_err(|source| ProtectError::Import(Box::new(source)))?;
    failpoint::hit("protect.imported");
    exchange(layout, tenant)?;
    Ok(imported)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use camino::Utf8PathBuf;

    use super::*;

    #[test]
    fn a_tenant_with_files_is_not_written_over() {
        let guard = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap());
        let tenant: TenantId = "acme".parse().unwrap();
        fs::create_dir_all(layout.state_dir(&tenant).join("data")).unwrap();
        check_vacant(&layout, &tenant).unwrap();
        fs::write(layout.state_dir(&tenant).join("data/x"), "x").unwrap();
        let refused = check_vacant(&layout, &tenant).unwrap_err();
        assert!(matches!(refused, ProtectError::HasState(..)), "{refused}");
    }
}
