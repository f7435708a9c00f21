//! One operation at a time per tenant, within the daemon.
//! Other processes are kept apart by the lock file of `host::freezer`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use tokio::sync::OwnedMutexGuard;

use crate::tenant::TenantId;

/// The locks, made on demand and forgotten when nobody holds or waits for them.
#[derive(Default)]
pub struct TenantLocks {
    locks: Mutex<HashMap<TenantId, Arc<tokio::sync::Mutex<()>>>>,
}

impl TenantLocks {
    /// Takes a place in the queue for `tenant`, at once: turns come in the order of these calls, whenever the futures
    /// that they give are awaited.
    pub fn queue(
        &self,
        tenant: &TenantId,
    ) -> impl Future<Output = OwnedMutexGuard<()>> + Send + use<> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(tenant.clone()).or_default())
        };
        let mut turn = Box::pin(lock.lock_owned());
        // A mutex of tokio knows those who wait for it in the order in which they have first asked.
        let first = turn.as_mut().now_or_never();
        async move {
            match first {
                Some(guard) => guard,
                None => turn.await,
            }
        }
    }

    /// The turn with `tenant`, if nobody has it or waits for it.
    pub fn try_lock(&self, tenant: &TenantId) -> Option<OwnedMutexGuard<()>> {
        self.queue(tenant).now_or_never()
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
        let first = locks.queue(&a).await;
        assert!(locks.is_busy(&a));
        drop(locks.queue(&b).await);
        assert!(locks.try_lock(&a).is_none() && locks.try_lock(&b).is_some());
        let second = locks.queue(&a);
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        drop(second.await);
        assert!(!locks.is_busy(&a));
    }

    #[tokio::test]
    async fn turns_come_in_the_order_of_asking_and_not_of_waiting() {
        let locks = TenantLocks::default();
        let tenant: TenantId = "a".parse().unwrap();
        let first = locks.queue(&tenant);
        let (second, third) = (locks.queue(&tenant), locks.queue(&tenant));
        // Already while nobody has awaited anything.
        assert!(locks.is_busy(&tenant));
        tokio::pin!(second, third);
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(first.await);
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(second.await);
        drop(third.await);
    }
}
