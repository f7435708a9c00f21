//! The pause that a snapshot asks for, made by the host's freezer under the tenant's lock.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::backup::{Pause, PauseError};
use crate::host::freezer::{Freezer, Owner};
use crate::host::lock::TenantLock;
use crate::layout::Layout;
use crate::tenant::TenantId;

/// Longest wait for whoever starts, stops or freezes the tenant at the moment.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// Freezes one tenant for a backup.
pub(super) struct FreezePause {
    layout: Layout,
    tenant: TenantId,
    owner: Owner,
    lock: Mutex<Option<TenantLock>>,
}

impl FreezePause {
    pub(super) fn new(layout: &Layout, tenant: &TenantId, owner: Owner) -> Self {
        Self {
            layout: layout.clone(),
            tenant: tenant.clone(),
            owner,
            lock: Mutex::new(None),
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<TenantLock>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Pause for FreezePause {
    async fn pause(&self) -> Result<(), PauseError> {
        let lock = TenantLock::acquire(&self.layout, &self.tenant, "backup", LOCK_WAIT).await?;
        // About a millisecond; a tenant whose container does not run is as good as frozen.
        Freezer::new(self.layout.clone()).freeze(&lock, self.owner, "point in time of a backup")?;
        *self.held() = Some(lock);
        Ok(())
    }

    async fn resume(&self) -> Result<(), PauseError> {
        let thawed = Freezer::new(self.layout.clone()).thaw(&self.tenant, self.owner);
        *self.held() = None;
        thawed?;
        Ok(())
    }
}
