//! The pause that a snapshot asks for, made by the host's freezer under the tenant's lock.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::quiesce::{self, Quiesced};
use super::verify::story;
use crate::backup::{Pause, PauseError};
use crate::host::freezer::{Freezer, Frozen, Owner};
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
    quiesced: Mutex<Option<Quiesced>>,
    state: Mutex<State>,
}

/// How far a pause is.
#[derive(Default)]
struct State {
    /// What the freeze found, and the lock that was taken for it.
    paused: Option<(TenantLock, Frozen)>,
    has_held: bool,
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
            quiesced: Mutex::new(None),
            state: Mutex::default(),
        }
    }

    /// What the agent made of it, if it was asked.
    pub(super) fn quiesced(&self) -> Option<Quiesced> {
        self.told().clone()
    }

    fn told(&self) -> MutexGuard<'_, Option<Quiesced>> {
        self.quiesced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let freezer = Freezer::new(self.layout.clone());
        let frozen = freezer.freeze(&lock, self.owner, "point in time of a backup")?;
        *self.state() = State {
            paused: Some((lock, frozen)),
            has_held: false,
        };
        Ok(())
    }

    async fn resume(&self) -> Result<(), PauseError> {
        let freezer = Freezer::new(self.layout.clone());
        let paused = self.state().paused.take();
        // A stop needs no lock to thaw what it stops, and systemd none to start an agent.
        let runs = freezer.is_running(&self.tenant);
        let was_frozen = freezer.thaw(&self.tenant, self.owner)?;
        if let Some((_lock, frozen)) = paused {
            self.state().has_held = match frozen {
                Frozen::Yes => was_frozen,
                Frozen::NotRunning => !runs?,
                Frozen::Asleep => freezer.is_still(&self.tenant),
            };
        }
        Ok(())
    }

    fn has_held(&self) -> bool {
        self.state().has_held
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use camino::Utf8PathBuf;

    use super::*;
    use crate::protect::samples::host;

    /// What happens in the pause.
    type Meanwhile<'a> = &'a dyn Fn(&Layout, &TenantId);

    /// The control group of a container, as a kernel shows it that freezes at once.
    fn group(layout: &Layout, tenant: &TenantId) -> Utf8PathBuf {
        let names = crate::layout::UnitNames(tenant);
        let slices = layout.root().join("sys/fs/cgroup/tenant.slice");
        let service = slices.join(names.slice()).join(names.service());
        service.join("libpod-payload-1")
    }

    #[tokio::test]
    async fn a_tenant_that_sleeps_is_backed_up_as_it_is_and_sleeps_on() {
        let (_guard, layout, tenant) = host();
        for name in ["lock", "frozen"] {
            fs::create_dir_all(layout.run_dir().join(name)).unwrap();
        }
        start(&layout, &tenant);
        let freezer = Freezer::new(layout.clone());
        let lock = TenantLock::acquire(&layout, &tenant, "test", Duration::ZERO)
            .await
            .unwrap();
        let events = group(&layout, &tenant).join("cgroup.events");
        fs::write(&events, "populated 1\nfrozen 1\n").unwrap();
        freezer.freeze(&lock, Owner::Sleep, "idle").unwrap();
        drop(lock);

        let pause = FreezePause::new(&layout, &tenant, Owner::Backup, None);
        pause.pause().await.unwrap();
        // Whoever comes now waits for the lock.
        let woken = TenantLock::acquire(&layout, &tenant, "wake", Duration::ZERO).await;
        assert!(woken.is_err());
        pause.resume().await.unwrap();
        assert!(pause.has_held());
        let record = freezer.record(&tenant).unwrap().unwrap();
        assert_eq!(record.owner, Owner::Sleep);
        let asked = fs::read_to_string(group(&layout, &tenant).join("cgroup.freeze"));
        assert_eq!(asked.unwrap(), "1");

        // A stop thaws without the lock.
        pause.pause().await.unwrap();
        fs::write(&events, "populated 1\nfrozen 0\n").unwrap();
        pause.resume().await.unwrap();
        assert!(!pause.has_held());
    }

    fn start(layout: &Layout, tenant: &TenantId) {
        let group = group(layout, tenant);
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cgroup.freeze"), "0").unwrap();
        // Without processes no state is waited for.
        fs::write(group.join("cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
    }

    async fn held(runs: bool, meanwhile: Meanwhile<'_>) -> bool {
        let (_guard, layout, tenant) = host();
        for name in ["lock", "frozen"] {
            fs::create_dir_all(layout.run_dir().join(name)).unwrap();
        }
        if runs {
            start(&layout, &tenant);
        }
        let pause = FreezePause::new(&layout, &tenant, Owner::Backup, None);
        pause.pause().await.unwrap();
        meanwhile(&layout, &tenant);
        pause.resume().await.unwrap();
        let held = pause.has_held();
        // Once more, as when a backup is broken off.
        pause.resume().await.unwrap();
        assert_eq!(pause.has_held(), held);
        held
    }

    #[tokio::test]
    async fn a_pause_in_which_the_agent_was_thawed_or_started_has_not_held() {
        let nothing: Meanwhile<'_> = &|_, _| {};
        assert!(held(true, nothing).await);
        assert!(held(false, nothing).await);
        let stop: Meanwhile<'_> = &|layout, tenant| {
            Freezer::new(layout.clone()).thaw_all(tenant).unwrap();
            fs::remove_dir_all(group(layout, tenant)).unwrap();
        };
        assert!(!held(true, stop).await);
        assert!(!held(false, &start).await);
    }
}
