//! `tenantd unit quota`: the storage limit of one tenant, as its `runtime.json` says.

use super::runtime;
use crate::host::quota::{self, Limited};
use crate::layout::Layout;
use crate::tenant::TenantId;

/// Has the file system keep a tenant's state to its plan.
pub(super) fn limit(layout: &Layout, tenant: &TenantId) -> anyhow::Result<()> {
    let Some(storage) = runtime(layout, tenant)?.storage else {
        tracing::info!("this host keeps no storage limits");
        return Ok(());
    };
    Ok(quota::limit(&Limited {
        project: storage.project,
        bytes: storage.bytes,
        directory: layout.state_dir(tenant),
        free: vec![
            layout.before_restore_dir(tenant),
            layout.replaced_dir(tenant),
        ],
    })?)
}
