//! What is done to a tenant: freezing, paging out, stopping, waking. Each can be repeated after a kill anywhere: the
//! freezer records before it freezes, and a stop or start that was asked for is systemd's.

use std::sync::Arc;
use std::time::Duration;

use super::bed::Bed;
use super::service::Service;
use super::wire::Told;
use crate::failpoint;
use crate::host::cgroup;
use crate::host::clock;
use crate::host::freezer::{FreezeError, Frozen, Owner};
use crate::host::lock::{LockError, TenantLock};
use crate::layout::UnitNames;

/// Longest time in which a door ends its connections.
const CLOSING: Duration = Duration::from_secs(5);

/// Longest wait for whoever is at work on a tenant that could be put to sleep: it can sleep later.
const LOCK_TO_SLEEP: Duration = Duration::from_millis(500);

/// The same for one that somebody waits for.
const LOCK_TO_WAKE: Duration = Duration::from_secs(10);

/// Why a tenant could not be frozen or thawed.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// Another process is at work on it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The freezer failed.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
}

impl Service {
    /// Has the agent run: thaws it, or asks systemd to start it. It does not wait for a start.
    pub async fn wake(self: &Arc<Self>, bed: &Arc<Bed>) -> Result<(), ActError> {
        bed.memory().woken = clock::monotonic();
        if self.layout.held_file(&bed.tenant).exists() {
            return Ok(());
        }
        let _turn = bed.turn.lock().await;
        let is_ours = match self.freezer.record(&bed.tenant) {
            Ok(record) => record.is_some_and(|record| record.owner == Owner::Sleep),
            // Whoever wrote it, nobody could thaw it by it.
            Err(FreezeError::BrokenRecord { .. }) => true,
            Err(error) => return Err(error.into()),
        };
        if is_ours {
            let _lock =
                TenantLock::acquire(&self.layout, &bed.tenant, "wake", LOCK_TO_WAKE).await?;
            // About a millisecond, for which somebody waits: not worth another thread.
            self.freezer.thaw(&bed.tenant, Owner::Sleep)?;
            failpoint::hit("sleep.thawed");
            tracing::info!(tenant = %bed.tenant, "woken");
        }
        let stopping = {
            let mut memory = bed.memory();
            memory.frozen = None;
            // Woken is when it may run again, not when that was asked for.
            memory.woken = clock::monotonic();
            memory.stopping
        };
        if stopping || !self.freezer.is_running(&bed.tenant)? {
            self.start(bed);
        }
        Ok(())
    }

    /// Has systemd start the agent, once however many want it.
    fn start(self: &Arc<Self>, bed: &Arc<Bed>) {
        if std::mem::replace(&mut bed.memory().starting, true) {
            return;
        }
        let (service, bed) = (Arc::clone(self), Arc::clone(bed));
        tokio::spawn(async move {
            // Twenty that are wanted at once take turns, as those do that are applied.
            let _place = service.starts.acquire().await;
            tracing::info!(tenant = %bed.tenant, "starting the agent, which is wanted");
            let unit = UnitNames(&bed.tenant).service();
            if let Err(why) = service.units.start(&unit).await {
                tracing::warn!(tenant = %bed.tenant, "{unit} did not start: {why}");
            }
            bed.memory().starting = false;
        });
    }

    /// Has the door end its connections and freezes the agent; whether it is frozen.
    pub async fn freeze(&self, bed: &Bed, close: Told, why: &str) -> Result<bool, ActError> {
        let _turn = bed.turn.lock().await;
        if !self.is_awake(bed)? {
            return Ok(self.is_asleep(bed));
        }
        if !bed.close(close, CLOSING).await {
            return Ok(false);
        }
        failpoint::hit("sleep.closed");
        let lock = TenantLock::acquire(&self.layout, &bed.tenant, "sleep", LOCK_TO_SLEEP).await?;
        // It may have been stopped, or frozen by another, while its door closed.
        if !self.is_awake(bed)? {
            return Ok(self.is_asleep(bed));
        }
        let (freezer, why) = (self.freezer.clone(), why.to_owned());
        let frozen =
            tokio::task::spawn_blocking(move || freezer.freeze(&lock, Owner::Sleep, &why)).await;
        failpoint::hit("sleep.frozen");
        match frozen {
            Ok(frozen) => Ok(frozen? == Frozen::Yes),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn is_awake(&self, bed: &Bed) -> Result<bool, FreezeError> {
        let is_free = self.freezer.record(&bed.tenant)?.is_none();
        Ok(is_free && self.freezer.is_running(&bed.tenant)?)
    }

    /// Whether it was put to sleep: frozen.
    pub fn is_asleep(&self, bed: &Bed) -> bool {
        let record = self.freezer.record(&bed.tenant);
        record.is_ok_and(|record| record.is_some_and(|record| record.owner == Owner::Sleep))
    }

    /// Gives the memory of a frozen agent back: what is not backed by files goes to swap.
    pub async fn page_out(&self, bed: &Bed) -> Result<(), ActError> {
        let Ok(Some(group)) = cgroup::payload(&self.layout, &bed.tenant) else {
            return Ok(());
        };
        // Seconds, in which somebody may come: it is not waited for with the turn in hand.
        let reclaimed = tokio::task::spawn_blocking(move || cgroup::reclaim(&group)).await;
        if let Ok(Err(error)) = reclaimed {
            tracing::info!(tenant = %bed.tenant, %error, "not all of its memory was given back");
        }
        let _turn = bed.turn.lock().await;
        Ok(self.freezer.note_paged_out(&bed.tenant)?)
    }

    /// Ends a frozen agent, until somebody comes. Its unit thaws it first, so that it hears the signal.
    pub async fn stop(self: &Arc<Self>, bed: &Arc<Bed>, why: &'static str) {
        let _turn = bed.turn.lock().await;
        if !self.is_asleep(bed) || !bed.close(Told::Close, CLOSING).await {
            return;
        }
        failpoint::hit("sleep.stopping");
        bed.memory().stopping = true;
        let (service, bed) = (Arc::clone(self), Arc::clone(bed));
        // The turn is given back: who comes meanwhile has systemd start it after the stop.
        tokio::spawn(async move {
            tracing::info!(tenant = %bed.tenant, "stopping the agent: {why}");
            let unit = UnitNames(&bed.tenant).service();
            if let Err(error) = service.units.stop(&unit).await {
                tracing::warn!(tenant = %bed.tenant, "{unit} did not stop: {error}");
            }
            let mut memory = bed.memory();
            memory.stopping = false;
            if !memory.starting {
                memory.tell(Told::Leave);
            }
        });
    }
}
