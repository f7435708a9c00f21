//! Drills: the newest snapshot of a tenant is restored into a scratch tenant with no way out, its databases are
//! checked, its agent is started and asked, and all of it is removed again.
//! A drill touches nothing of the tenant itself: no directory, unit, namespace, container or lock.

pub mod databases;
mod error;
mod report;
mod scratch;

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};

use crate::backup::Progress;
use crate::failpoint;
use crate::host::lock::FileLock;
use crate::host::podman::{self, Podman};
use crate::host::process::ProcessId;
use crate::host::systemd::{JobResult, Systemd};
use crate::host::{clock, dirs, files, netns, probe};
use crate::layout::{Layout, UnitNames};
use crate::node::NodeSettings;
use crate::protect::{self, CheckOutcome, Checked, Newest, ProtectError, is_fault, story};
use crate::quadlet;
use crate::quadlet::validate::Tools;
use crate::tenant::{Period, Runtime, TenantId};

use databases::{Bounds, Databases};
pub use error::DrillError;
pub use report::Drilled;

/// Longest unit file or `runtime.json` that is read.
const FILE_LIMIT: u64 = 1 << 20;

/// Most databases of one tenant that are checked.
const DATABASES: usize = 1000;

/// Longest time for the databases of one tenant.
const DATABASES_TIME: Duration = Duration::from_mins(10);

/// How a drill says how far it is.
pub struct Told {
    /// Told of the restore.
    pub progress: Arc<dyn Progress>,
    /// Told in a line what is being done.
    pub step: Box<Step>,
}

/// Takes a line on what is being done with a tenant.
pub type Step = dyn Fn(&TenantId, &str);

/// Drills the newest snapshots of `tenants`, of all when there are none given, one after the other, and remembers what
/// was found. Tenants that no backup was made of yet are left out when none are given.
///
/// # Errors
/// No drill can be made on this host, another one is at work, or this process was asked to end. What is wrong with
/// one tenant is in the result.
pub async fn run(
    layout: &Layout,
    settings: &NodeSettings,
    tenants: &[TenantId],
    identity: Option<&SecretString>,
    told: &Told,
) -> Result<Vec<Drilled>, DrillError> {
    if identity.is_none() && !protect::has_identity(layout)? {
        return Err(DrillError::NoIdentity);
    }
    let (is_all, tenants) = if tenants.is_empty() {
        (true, protect::tenants(layout))
    } else {
        (false, tenants.to_vec())
    };
    let _lock = lock(layout)?.ok_or(DrillError::Busy)?;
    let systemd = Systemd::connect().await?;
    let podman = Podman::connect(podman::SOCKET.into()).await?;
    scratch::clean_all(layout, &systemd, &podman).await?;
    let mut drilled = Vec::new();
    for tenant in &tenants {
        let drill = Drill {
            layout,
            settings,
            systemd: &systemd,
            tenant,
            told,
        };
        let ended = tokio::select! {
            ended = drill.run(identity) => ended,
            () = asked_to_end() => Err(DrillError::Interrupted),
        };
        scratch::clean(layout, &systemd, &podman, tenant).await?;
        let one = match ended {
            Ok(one) => one,
            Err(DrillError::Protect(error)) if is_all && is_unborn(&error) => continue,
            Err(error @ DrillError::Interrupted) => return Err(error),
            Err(error) => Drilled::skipped(tenant, story(&error)),
        };
        protect::note_drill(layout, tenant, one.noted(clock::now()))?;
        drilled.push(one);
    }
    Ok(drilled)
}

/// Remembers of every tenant that it could not be drilled for want of an identity.
pub fn note_no_identity(layout: &Layout) -> Result<(), DrillError> {
    for tenant in protect::tenants(layout) {
        let checked = Checked {
            at: clock::now(),
            snapshot: 0,
            outcome: CheckOutcome::Skipped,
            detail: "no identity is on this host to read its backups with".to_owned(),
        };
        protect::note_drill(layout, &tenant, checked)?;
    }
    Ok(())
}

/// Removes what drills that were killed have left; while one is at work, nothing.
pub async fn clean(layout: &Layout) -> Result<(), DrillError> {
    let Some(_lock) = lock(layout)? else {
        return Ok(());
    };
    let systemd = Systemd::connect().await?;
    let podman = Podman::connect(podman::SOCKET.into()).await?;
    scratch::clean_all(layout, &systemd, &podman).await
}

fn lock(layout: &Layout) -> Result<Option<FileLock>, DrillError> {
    let path = layout.drill_lock();
    FileLock::try_acquire(&path).map_err(|source| DrillError::Lock { path, source })
}

/// Ends when this process is asked to end.
async fn asked_to_end() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn is_unborn(error: &ProtectError) -> bool {
    matches!(
        error,
        ProtectError::NothingStored(_) | ProtectError::NoRepository(_)
    )
}

/// One drill of one tenant.
struct Drill<'a> {
    layout: &'a Layout,
    settings: &'a NodeSettings,
    systemd: &'a Systemd,
    tenant: &'a TenantId,
    told: &'a Told,
}

impl Drill<'_> {
    /// Makes the scratch tenant and looks at it; removing it is the caller's.
    async fn run(&self, identity: Option<&SecretString>) -> Result<Drilled, DrillError> {
        let (runtime, quadlet) = self.planned()?;
        self.tell("looking for its newest snapshot");
        let newest = Newest::open(self.layout, self.settings, self.tenant, identity).await;
        let newest = match newest {
            Ok(newest) => newest,
            Err(error) if is_fault(&error) => {
                return Ok(Drilled::faulty(self.tenant, story(&error)));
            }
            Err(error) => return Err(error.into()),
        };
        let mut drilled = Drilled::of(self.tenant, newest.snapshot());

        // From here on something is there to be removed; this directory, made first and removed last, says so.
        dirs::make(&self.layout.drills_dir(), 0o700)?;
        dirs::make(&self.layout.drill_dir(self.tenant), 0o700)?;
        files::sync_dir(&self.layout.drills_dir())?;
        failpoint::hit("drill.noted");
        let state = self.layout.drill_state_dir(self.tenant);
        match newest
            .restore(&state, Arc::clone(&self.told.progress))
            .await
        {
            Ok(report) => {
                drilled.files = report.files;
                drilled.bytes = report.bytes;
                drilled.taken_at = Some(report.taken_at);
            }
            Err(error) if is_fault(&error) => {
                drilled.fail(story(&error));
                return Ok(drilled);
            }
            Err(error) => return Err(error.into()),
        }
        failpoint::hit("drill.restored");
        self.tell("checking its databases");
        drilled.databases = self.databases(&state).await?;
        if drilled.fail_for_databases() {
            return Ok(drilled);
        }
        self.tell("starting its agent with no way out");
        match self.start(&runtime, &quadlet).await? {
            Ok(took) => {
                drilled.ready_after_ms = Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
            }
            Err(problem) => drilled.fail(problem),
        }
        Ok(drilled)
    }

    fn tell(&self, step: &str) {
        (self.told.step)(self.tenant, step);
    }

    /// The tenant's facts, and the Quadlet file of its scratch tenant.
    fn planned(&self) -> Result<(Runtime, String), DrillError> {
        let (layout, tenant) = (self.layout, self.tenant);
        let path = layout
            .quadlet_dir(tenant)
            .join(UnitNames(tenant).quadlet_file());
        let installed = read(tenant, &path)?;
        let path = layout.runtime_file(tenant);
        let runtime: Runtime = serde_json::from_slice(&read(tenant, &path)?)
            .map_err(|source| DrillError::Runtime { path, source })?;
        let timeout = Period::from_seconds(runtime.start_timeout_seconds);
        let installed = String::from_utf8_lossy(&installed);
        let quadlet = quadlet::scratch_quadlet(&installed, tenant, timeout, layout)?;
        Ok((runtime, quadlet))
    }

    async fn databases(&self, state: &Utf8Path) -> Result<Databases, DrillError> {
        let state = state.to_owned();
        let workshop = self.layout.drill_dir(self.tenant).join("workshop");
        dirs::make(&workshop, 0o700)?;
        let bounds = Bounds {
            databases: DATABASES,
            until: clock::monotonic() + DATABASES_TIME,
        };
        blocking(move || databases::check(state.as_std_path(), workshop.as_std_path(), bounds))
            .await?
            .map_err(DrillError::Databases)
    }

    /// Starts the agent and asks it; how long it took until it was ready, or why it is not.
    async fn start(
        &self,
        runtime: &Runtime,
        quadlet: &str,
    ) -> Result<Result<Duration, String>, DrillError> {
        let names = UnitNames(self.tenant);
        let (name, unit) = (names.drill(), names.drill_service());
        let quadlet = quadlet.to_owned();
        let service =
            blocking(move || quadlet::scratch_service(&Tools::default(), &name, &quadlet))
                .await??;
        scratch::make_mounts(self.layout, self.tenant)?;
        let namespace = self.layout.drill_netns(self.tenant);
        let made = namespace.clone();
        blocking(move || netns::up(&made)).await??;
        scratch::deliver_secrets(self.layout, self.tenant, runtime).await?;
        let path = self.layout.drill_unit(self.tenant);
        dirs::make(path.parent().unwrap_or(&path), 0o755)?;
        // systemd reads the file of a unit that it does not know when it is first asked for it.
        files::write(&path, service.as_bytes(), 0o644)?;
        let begin = clock::monotonic();
        let result = self.systemd.start(&unit).await?;
        failpoint::hit("drill.started");
        if result != JobResult::Done {
            return Ok(Err(format!(
                "its container did not start (`{result}`); `journalctl -u {unit}` tells why"
            )));
        }
        let service = self.systemd.details(&unit).await?.service;
        let main = service
            .and_then(|service| service.main_pid)
            .and_then(ProcessId::of);
        let target = probe::Target::Tcp(([127, 0, 0, 1], runtime.port).into());
        let limit = Duration::from_secs(runtime.start_timeout_seconds.into());
        let asked = runtime.start_probe.clone();
        let ready = blocking(move || {
            netns::inside(&namespace, || {
                let is_alive = || main.is_some_and(ProcessId::is_alive);
                let ready = probe::until_ready(&target, &asked, limit, is_alive, |_| ());
                Ok::<_, std::io::Error>(
                    tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()?
                        .block_on(ready),
                )
            })
        });
        Ok(match ready.await??.map_err(DrillError::Asking)? {
            Ok(()) => Ok(begin.elapsed()),
            Err(error) => Err(format!(
                "{}; `journalctl -u {unit}` has its log",
                story(&error)
            )),
        })
    }
}

fn read(tenant: &TenantId, path: &Utf8Path) -> Result<Vec<u8>, DrillError> {
    files::read(path, FILE_LIMIT).map_err(|error| {
        if error.is_absent() {
            DrillError::NotInstalled(tenant.clone())
        } else {
            error.into()
        }
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DrillError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(DrillError::Task)
}
