//! The sleep service: its connections, and its look at all tenants every few seconds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::codec::{Framed, LinesCodec};

use super::bed::Bed;
use super::decide::{Agent, Step, decide, relieve};
use super::look::{look, runtime, tenants};
use super::wire::{Asked, LONGEST, Told};
use crate::host::freezer::Freezer;
use crate::host::systemd::Systemd;
use crate::host::{clock, memory};
use crate::layout::{Layout, UnitNames};
use crate::tenant::{Runtime, TenantId};

/// From one look to the next.
const LOOK: Duration = Duration::from_secs(2);

/// Words that wait for a door which does not read.
const WAITING: usize = 16;

/// Who is on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A tenant's ingress door.
    Door(TenantId),
    /// Root.
    Root,
}

/// What starts and stops units.
#[async_trait]
pub trait Units: Send + Sync {
    /// Starts a unit and waits until that has ended; else why not.
    async fn start(&self, unit: &str) -> Result<(), String>;
    /// Stops one.
    async fn stop(&self, unit: &str) -> Result<(), String>;
}

#[async_trait]
impl Units for Systemd {
    async fn start(&self, unit: &str) -> Result<(), String> {
        match Systemd::start(self, unit).await {
            Ok(result) if result.is_done() => Ok(()),
            Ok(other) => Err(format!("its job ended with `{other}`")),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn stop(&self, unit: &str) -> Result<(), String> {
        match Systemd::stop(self, unit).await {
            Ok(result) if result.is_done() => Ok(()),
            Ok(other) => Err(format!("its job ended with `{other}`")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Puts the tenants of one host to sleep and wakes them.
pub struct Service {
    pub(super) layout: Layout,
    pub(super) freezer: Freezer,
    pub(super) units: Box<dyn Units>,
    /// Places for agents that start at a time.
    pub(super) starts: Semaphore,
    beds: Mutex<BTreeMap<TenantId, Arc<Bed>>>,
    doors: AtomicU64,
}

impl Service {
    /// A service for the tenants of `layout`, which starts so many agents at a time.
    pub fn new(layout: Layout, units: Box<dyn Units>, starts: usize) -> Arc<Self> {
        Arc::new(Self {
            freezer: Freezer::new(layout.clone()),
            layout,
            units,
            starts: Semaphore::new(starts),
            beds: Mutex::default(),
            doors: AtomicU64::new(0),
        })
    }

    /// Serves until the process ends. `who` tells who is on a connection; others are not heard.
    pub async fn run(
        self: Arc<Self>,
        listener: UnixListener,
        who: impl Fn(&UnixStream) -> Option<Peer>,
    ) {
        let mut ticks = clock::ticks(LOOK);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => if let Some(peer) = who(&stream) {
                        tokio::spawn(Arc::clone(&self).hear(stream, peer));
                    },
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                _ = ticks.recv() => self.look_at_all(),
            }
        }
    }

    pub(super) fn bed(&self, tenant: &TenantId) -> Arc<Bed> {
        let mut beds = self.beds.lock().unwrap_or_else(PoisonError::into_inner);
        let bed = beds.entry(tenant.clone());
        Arc::clone(bed.or_insert_with(|| Arc::new(Bed::new(tenant.clone()))))
    }

    /// Looks at every tenant once, and begins what is to be done.
    pub(super) fn look_at_all(self: &Arc<Self>) {
        let now = clock::monotonic();
        let has_swap = memory::has_swap(&self.layout);
        let mut frozen = Vec::new();
        let there = tenants(&self.layout);
        self.forget_all_but(&there);
        for runtime in &there {
            let bed = self.bed(&runtime.tenant);
            let seen = look(&self.layout, &bed, now, has_swap);
            let Some(times) = runtime.sleep else {
                // It slept, and is always on from now on.
                if matches!(seen.agent, Agent::Frozen { .. }) {
                    self.begin(&bed, Begin::Wake);
                }
                continue;
            };
            if let Agent::Frozen { length, .. } = seen.agent {
                if !self.freezer.is_still(&runtime.tenant) {
                    // A container that was started anew since, or a thaw that was cut short.
                    self.begin(&bed, Begin::Wake);
                    continue;
                }
                frozen.push((runtime.tenant.clone(), length));
            }
            match decide(&seen, &times) {
                Step::Leave => {}
                step => self.begin(&bed, Begin::Step(step)),
            }
        }
        let candidates = frozen.iter().map(|(tenant, length)| (tenant, *length));
        if let Some(tenant) = relieve(candidates, memory::pressure(&self.layout)) {
            self.begin(&self.bed(tenant), Begin::Relieve);
        }
    }

    fn forget_all_but(&self, there: &[Runtime]) {
        let mut beds = self.beds.lock().unwrap_or_else(PoisonError::into_inner);
        beds.retain(|tenant, bed| {
            // One that somebody is at work with is another's too.
            Arc::strong_count(bed) > 1 || there.iter().any(|runtime| runtime.tenant == *tenant)
        });
    }

    /// Does it beside the others, unless something is done to this one already.
    fn begin(self: &Arc<Self>, bed: &Arc<Bed>, begin: Begin) {
        if bed.turn.try_lock().is_err() {
            return;
        }
        let (service, bed) = (Arc::clone(self), Arc::clone(bed));
        tokio::spawn(async move {
            let done = match begin {
                Begin::Wake => service.wake(&bed).await,
                Begin::Relieve => {
                    service.stop(&bed, "the host is short of memory").await;
                    Ok(())
                }
                Begin::Step(Step::Freeze) => {
                    let frozen = service.freeze(&bed, Told::Close, "idle").await;
                    frozen.map(|frozen| {
                        if frozen {
                            tracing::info!(tenant = %bed.tenant, "idle, and frozen");
                        }
                    })
                }
                Begin::Step(Step::PageOut) => service.page_out(&bed).await,
                Begin::Step(Step::Stop) => {
                    service.stop(&bed, "it has slept for long").await;
                    Ok(())
                }
                Begin::Step(Step::OpenDoor) => {
                    let door = UnitNames(&bed.tenant).instance("ingress", "service");
                    if let Err(why) = service.units.start(&door).await {
                        tracing::warn!(tenant = %bed.tenant, "{door} did not start: {why}");
                    }
                    Ok(())
                }
                Begin::Step(Step::Leave) => Ok(()),
            };
            if let Err(error) = done {
                tracing::warn!(
                    tenant = %bed.tenant,
                    error = &error as &dyn std::error::Error,
                    "its sleep was not changed"
                );
            }
        });
    }

    /// Hears one connection to its end.
    async fn hear(self: Arc<Self>, stream: UnixStream, peer: Peer) {
        let framed = Framed::new(stream, LinesCodec::new_with_max_length(LONGEST));
        let (mut sink, mut lines) = framed.split();
        let (told, mut to_tell) = mpsc::channel::<Told>(WAITING);
        let number = self.doors.fetch_add(1, Ordering::Relaxed);
        let bed = match &peer {
            Peer::Door(tenant) => {
                let bed = self.bed(tenant);
                bed.memory().connect(number, told.clone());
                Some(bed)
            }
            Peer::Root => None,
        };
        let writer = tokio::spawn(async move {
            while let Some(told) = to_tell.recv().await {
                if sink.send(told.to_string()).await.is_err() {
                    break;
                }
            }
        });
        while let Some(Ok(line)) = lines.next().await {
            let Ok(asked) = line.parse() else { break };
            let answer = match (&bed, asked) {
                (Some(bed), asked) => self.hear_door(bed, asked).await,
                (None, Asked::WakeTenant(tenant)) => Some(self.wake_for_root(&tenant).await),
                (None, Asked::SleepTenant(tenant)) => Some(self.sleep_for_root(&tenant).await),
                (None, _) => break,
            };
            if let Some(answer) = answer
                && told.send(answer).await.is_err()
            {
                break;
            }
        }
        if let Some(bed) = bed {
            let mut memory = bed.memory();
            memory.disconnect(number);
            // A door that has gone had something to do until now, as far as anybody knows.
            memory.woken = clock::monotonic();
        }
        drop(told);
        // It ends when nobody can tell anything any more.
        let _ = writer.await;
    }

    async fn hear_door(self: &Arc<Self>, bed: &Arc<Bed>, asked: Asked) -> Option<Told> {
        match asked {
            Asked::Look => Some(self.standing(bed)),
            Asked::Wake => {
                {
                    let mut memory = bed.memory();
                    memory.note_idle(false);
                    // Whoever waits for the door to close has lost: somebody came.
                    memory.closed(false);
                }
                match self.wake(bed).await {
                    Ok(()) => Some(Told::Awake),
                    Err(error) => {
                        tracing::warn!(
                            tenant = %bed.tenant,
                            error = &error as &dyn std::error::Error,
                            "it was not woken"
                        );
                        Some(Told::Refused(error.to_string()))
                    }
                }
            }
            Asked::Idle | Asked::Active => {
                let is_idle = asked == Asked::Idle;
                let mut memory = bed.memory();
                memory.note_idle(is_idle);
                if !is_idle {
                    memory.closed(false);
                }
                None
            }
            Asked::Closed => {
                bed.memory().closed(true);
                None
            }
            Asked::WakeTenant(_) | Asked::SleepTenant(_) => {
                Some(Told::Refused("a door speaks for its own tenant".to_owned()))
            }
        }
    }

    fn standing(&self, bed: &Bed) -> Told {
        if self.is_asleep(bed) {
            Told::Frozen
        } else if self.freezer.is_running(&bed.tenant).unwrap_or(true) || bed.memory().starting {
            Told::Awake
        } else {
            Told::Stopped
        }
    }

    async fn wake_for_root(self: &Arc<Self>, tenant: &TenantId) -> Told {
        if let Err(why) = self.may_sleep(tenant) {
            return Told::Refused(why);
        }
        match self.wake(&self.bed(tenant)).await {
            Ok(()) => Told::Awake,
            Err(error) => Told::Refused(error.to_string()),
        }
    }

    async fn sleep_for_root(self: &Arc<Self>, tenant: &TenantId) -> Told {
        if let Err(why) = self.may_sleep(tenant) {
            return Told::Refused(why);
        }
        let bed = self.bed(tenant);
        match self.freeze(&bed, Told::CloseNow, "an operator asked").await {
            Ok(true) => Told::Frozen,
            Ok(false) if self.standing(&bed) == Told::Stopped => Told::Stopped,
            Ok(false) => Told::Refused(format!(
                "somebody came to {tenant} meanwhile, or another is at work on it; try again"
            )),
            Err(error) => Told::Refused(error.to_string()),
        }
    }

    fn may_sleep(&self, tenant: &TenantId) -> Result<(), String> {
        let runtime = runtime(&self.layout, tenant)
            .ok_or_else(|| format!("there is no tenant {tenant} with units on this host"))?;
        if self.layout.held_file(tenant).exists() {
            return Err(format!(
                "tenant {tenant} is held: it neither sleeps nor wakes until `tenantd start` or `resume`"
            ));
        }
        runtime.sleep.map(drop).ok_or_else(|| {
            format!(
                "tenant {tenant} is always on; `wake = \"on-demand\"` in its spec lets it sleep"
            )
        })
    }
}

/// What is begun beside the others.
enum Begin {
    Wake,
    Relieve,
    Step(Step),
}
