//! One operation at a time per tenant, within the daemon.
//! Other processes are kept apart by the lock file of `host::freezer`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::tenant::TenantId;

/// The locks, made on demand and forgotten when nobody holds or waits for them.
#[derive(Default)]
pub struct TenantLocks {
    locks: Mutex<HashMap<TenantId, Arc<tokio::sync::Mutex<()>>>>,
}

impl TenantLocks {
    /// Waits for its turn with `tenant`; fair, in order of asking.
    pub async fn lock(&self, tenant: &TenantId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(tenant.clone()).or_default())
        };
        lock.lock_owned().await
    }

    /// Whether an operation is at work on `tenant`.
    pub fn is_busy(&self, tenant: &TenantId) -> bool {
        let locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks
            .get(tenant)
            .is_some_and(|lock| lock.try_lock().is_err())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_waits_for_the_first_and_others_do_not() {
        let locks = TenantLocks::default();
        let (a, b): (TenantId, TenantId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let first = locks.lock(&a).await;
        assert!(locks.is_busy(&a));
        drop(locks.lock(&b).await);
        let second = locks.lock(&a);
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        drop(second.await);
        assert!(!locks.is_busy(&a));
    }
}
