//! The pause that a snapshot asks for, made by the host's freezer under the tenant's lock.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::quiesce::{self, Quiesced};
use super::verify::story;
use crate::backup::{Pause, PauseError};
use crate::host::freezer::{Freezer, Owner};
use crate::host::lock::TenantLock;
use crate::layout::Layout;
use crate::tenant::{QuiesceCalls, TenantId};

/// Longest wait for whoever starts, stops or freezes the tenant at the moment.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// Freezes one tenant for a backup.
pub(super) struct FreezePause {
    layout: Layout,
    tenant: TenantId,
    owner: Owner,
    calls: Option<QuiesceCalls>,
    lock: Mutex<Option<TenantLock>>,
    quiesced: Mutex<Option<Quiesced>>,
}

impl FreezePause {
    /// With `calls` the agent is asked to put its files in order first.
    pub(super) fn new(
        layout: &Layout,
        tenant: &TenantId,
        owner: Owner,
        calls: Option<QuiesceCalls>,
    ) -> Self {
        Self {
            layout: layout.clone(),
            tenant: tenant.clone(),
            owner,
            calls,
            lock: Mutex::new(None),
            quiesced: Mutex::new(None),
        }
    }

    /// What the agent made of it, if it was asked.
    pub(super) fn quiesced(&self) -> Option<Quiesced> {
        self.told().clone()
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Option<Quiesced>> {
        self.quiesced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<TenantLock>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Pause for FreezePause {
    async fn prepare(&self) -> Result<(), PauseError> {
        let Some(calls) = &self.calls else {
            return Ok(());
        };
        match quiesce::begin(&self.layout, &self.tenant, calls).await {
            Ok(was_asked) => {
                *self.told() = was_asked.then_some(Quiesced::Done);
                Ok(())
            }
            Err(error) if calls.required => Err(error),
            Err(error) => {
                let why = story(error.as_ref());
                tracing::warn!(
                    "the agent did not put its files in order, so the backup is as after a power cut: {why}"
                );
                *self.told() = Some(Quiesced::Failed(why));
                Ok(())
            }
        }
    }

    async fn release(&self) {
        if self.calls.is_none() {
            return;
        }
        if let Err(error) = quiesce::end(&self.layout, &self.tenant).await {
            let why = story(&error);
            tracing::warn!("{why}");
            let mut told = self.told();
            // Why it did not begin says more.
            if !matches!(*told, Some(Quiesced::Failed(_))) {
                *told = Some(Quiesced::Failed(why));
            }
        }
    }

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
