//! Restore orders: what the daemon asks a tenant's restore unit to bring back.
//! They are on tmpfs, because they may hold an identity, and end with what was asked for.

use camino::Utf8PathBuf;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::ProtectError;
use super::opened::Wanted;
use crate::host::{dirs, files};
use crate::layout::Layout;
use crate::tenant::TenantId;

/// What is to be brought back.
#[derive(Debug, Clone, Default)]
pub struct RestoreOrder {
    /// The snapshot's number; the newest when none.
    pub snapshot: Option<u64>,
    /// The identity to read it with; that of the host when none.
    pub identity: Option<SecretString>,
    /// Take the newest that there is, though it is older than it should be.
    pub allow_old: bool,
    /// Whether it stays until it is carried out. One that does not is tried once: the state
    /// that is there runs on, and nothing may replace it when nobody expects it any more.
    pub until_done: bool,
}

impl RestoreOrder {
    /// The order as whoever opens a repository takes it.
    pub(super) fn as_wanted(&self) -> Wanted<'_> {
        Wanted {
            snapshot: self.snapshot,
            identity: self.identity.as_ref(),
            allow_old: self.allow_old,
        }
    }
}

/// The order as it is on tmpfs.
#[derive(Serialize, Deserialize)]
struct Written {
    snapshot: Option<u64>,
    identity: Option<String>,
    /// An order of a tenantd that was updated meanwhile has none.
    #[serde(default)]
    allow_old: bool,
    until_done: bool,
}

fn path(layout: &Layout, tenant: &TenantId) -> Utf8PathBuf {
    layout.run_dir().join("restore").join(tenant.as_str())
}

/// Whether an order waits for a tenant's restore unit.
pub fn has_order(layout: &Layout, tenant: &TenantId) -> bool {
    path(layout, tenant).exists()
}

/// Leaves an order for a tenant's restore unit.
pub fn write_order(
    layout: &Layout,
    tenant: &TenantId,
    order: &RestoreOrder,
) -> Result<(), ProtectError> {
    let path = path(layout, tenant);
    if let Some(parent) = path.parent() {
        dirs::make(parent, 0o700)?;
    }
    let written = Written {
        snapshot: order.snapshot,
        identity: order
            .identity
            .as_ref()
            .map(|text| text.expose_secret().to_owned()),
        allow_old: order.allow_old,
        until_done: order.until_done,
    };
    let bytes = serde_json::to_vec(&written).map_err(|source| ProtectError::Document {
        path: path.clone(),
        source,
    })?;
    Ok(files::write(&path, &bytes, 0o600)?)
}

/// The order that waits for a tenant.
pub(super) fn read_order(
    layout: &Layout,
    tenant: &TenantId,
) -> Result<Option<RestoreOrder>, ProtectError> {
    let path = path(layout, tenant);
    let bytes = match files::read(&path, 64 * 1024) {
        Ok(bytes) => bytes,
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let written: Written =
        serde_json::from_slice(&bytes).map_err(|source| ProtectError::Document { path, source })?;
    Ok(Some(RestoreOrder {
        snapshot: written.snapshot,
        identity: written.identity.map(SecretString::from),
        allow_old: written.allow_old,
        until_done: written.until_done,
    }))
}

/// Removes a tenant's order; none is fine.
pub(super) fn remove_order(layout: &Layout, tenant: &TenantId) -> Result<(), ProtectError> {
    files::remove(&path(layout, tenant))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_there_until_it_is_removed() {
        let guard = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
        let layout = Layout::rooted(root);
        let tenant: TenantId = "acme".parse().unwrap();
        assert!(read_order(&layout, &tenant).unwrap().is_none());
        let order = RestoreOrder {
            snapshot: Some(7),
            identity: Some("AGE-SECRET".into()),
            allow_old: true,
            until_done: true,
        };
        assert!(!format!("{order:?}").contains("AGE-SECRET"));
        write_order(&layout, &tenant, &order).unwrap();
        let found = read_order(&layout, &tenant).unwrap().unwrap();
        assert_eq!((found.snapshot, found.until_done), (Some(7), true));
        assert!(found.allow_old);
        assert_eq!(found.identity.unwrap().expose_secret(), "AGE-SECRET");
        remove_order(&layout, &tenant).unwrap();
        remove_order(&layout, &tenant).unwrap();
        assert!(!has_order(&layout, &tenant));
    }
}
