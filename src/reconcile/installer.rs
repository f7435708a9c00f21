//! Checks, installs and loads unit sets: one at a time, and many in one go.
//!
//! Checking and reloading cost the same for one tenant as for ten, and two generator runs
//! at a time can corrupt a unit: so whatever waits while a round is at work goes into the
//! next round together, and a round waits a moment for those that are on their way to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::approach::{Approach, Approaches};
use super::blocking;
use super::error::OperationError;
use crate::failpoint;
use crate::host::systemd::{LoadState, Systemd};
use crate::host::{dirs, files};
use crate::layout::{Layout, UnitNames};
use crate::quadlet::validate::{Tools, ValidateError, validate};
use crate::quadlet::{UnitFile, UnitSet};
use crate::tenant::TenantId;

/// Jobs in one round at most; a round takes all that waits.
const QUEUE: usize = 256;

/// Longest wait of a round for those on their way to it. A round costs several times as much.
const GATHER: Duration = Duration::from_millis(150);

/// Asks for rounds and waits for them. Cheap to clone.
#[derive(Clone)]
pub struct Installer {
    jobs: mpsc::Sender<Job>,
    approaches: Approaches,
}

/// What is wanted of a round for one tenant.
enum Wish {
    /// Would the host accept this unit set?
    Check(UnitSet),
    /// Write and remove these files, then load them.
    Install {
        unit_set: Option<UnitSet>,
        write: Vec<Utf8PathBuf>,
        remove: Vec<Utf8PathBuf>,
    },
}

struct Job {
    tenant: TenantId,
    wish: Wish,
    /// The good answer announces the operation anew: nobody knows better when it may come again.
    answer: oneshot::Sender<Result<Approach, OperationError>>,
}

impl Installer {
    /// Starts the task that does the rounds; it ends with the last handle.
    pub fn start(layout: Layout, systemd: Systemd) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let approaches = Approaches::default();
        tokio::spawn(rounds(layout, systemd, queue, approaches.clone()));
        Self { jobs, approaches }
    }

    /// Announces an operation that will ask for a round soon.
    pub fn approach(&self) -> Approach {
        self.approaches.announce()
    }

    /// Has the host's generator and verifier check `unit_set` within the whole merged tree.
    ///
    /// Whose units are good is on its way to have them installed, and announced as such.
    pub async fn check(
        &self,
        tenant: TenantId,
        unit_set: UnitSet,
        approach: Option<Approach>,
    ) -> Result<Approach, OperationError> {
        self.ask(tenant, Wish::Check(unit_set), approach).await
    }

    /// Writes and removes files, reloads systemd and makes sure that it took them in.
    /// With nothing to write or remove it only reloads.
    pub async fn install(
        &self,
        tenant: TenantId,
        unit_set: Option<UnitSet>,
        write: Vec<Utf8PathBuf>,
        remove: Vec<Utf8PathBuf>,
        approach: Option<Approach>,
    ) -> Result<(), OperationError> {
        let wish = Wish::Install {
            unit_set,
            write,
            remove,
        };
        self.ask(tenant, wish, approach).await.map(drop)
    }

    async fn ask(
        &self,
        tenant: TenantId,
        wish: Wish,
        approach: Option<Approach>,
    ) -> Result<Approach, OperationError> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            tenant,
            wish,
            answer,
        };
        // The task lives as long as this handle.
        self.jobs
            .send(job)
            .await
            .map_err(|_| OperationError::Interrupted)?;
        // It has arrived.
        drop(approach);
        answered.await.map_err(|_| OperationError::Interrupted)?
    }
}

async fn rounds(
    layout: Layout,
    systemd: Systemd,
    mut queue: mpsc::Receiver<Job>,
    approaches: Approaches,
) {
    let mut waiting = Vec::new();
    while queue.recv_many(&mut waiting, QUEUE).await > 0 {
        // The channel hands over what arrived meanwhile, so nothing is lost when this ends.
        let _ = timeout(GATHER, approaches.none_left()).await;
        while let Ok(job) = queue.try_recv() {
            waiting.push(job);
        }
        let (checks, installs): (Vec<_>, Vec<_>) = waiting
            .drain(..)
            .partition(|job| matches!(job.wish, Wish::Check(_)));
        if !checks.is_empty() {
            check_round(&layout, checks, &approaches).await;
        }
        if !installs.is_empty() {
            install_round(&layout, &systemd, installs, &approaches).await;
        }
    }
}

/// One check for all; when there are complaints, those without one are checked again by
/// themselves, so that one bad tenant does not take the others with it.
async fn check_round(layout: &Layout, mut jobs: Vec<Job>, approaches: &Approaches) {
    while !jobs.is_empty() {
        let sets: BTreeMap<TenantId, UnitSet> = jobs
            .iter()
            .filter_map(|job| match &job.wish {
                Wish::Check(set) => Some((job.tenant.clone(), set.clone())),
                Wish::Install { .. } => None,
            })
            .collect();
        let staged = layout.clone();
        let report = match blocking(move || validate(&Tools::default(), &staged, &sets)).await {
            Ok(report) => report,
            Err(error) => return refuse_all(jobs, error),
        };
        let (bad, good): (Vec<_>, Vec<_>) = jobs
            .into_iter()
            .partition(|job| !report.against(&job.tenant).is_empty());
        let settled = bad.is_empty();
        for job in bad {
            let complaints = report.against(&job.tenant);
            let error = OperationError::Units {
                complaints: complaints.iter().map(ToString::to_string).collect(),
                tenant: job.tenant,
            };
            let _ = job.answer.send(Err(error));
        }
        if settled {
            for job in good {
                let _ = job.answer.send(Ok(approaches.announce()));
            }
            return;
        }
        jobs = good;
    }
}

/// What cannot be checked is not installed; each learns why.
fn refuse_all(jobs: Vec<Job>, error: ValidateError) {
    let error = Arc::new(error);
    for job in jobs {
        let _ = job
            .answer
            .send(Err(OperationError::Check(Arc::clone(&error))));
    }
}

async fn install_round(
    layout: &Layout,
    systemd: &Systemd,
    jobs: Vec<Job>,
    approaches: &Approaches,
) {
    // Side by side: most of it is waiting for the disk, which syncs many files in one go.
    let written = join_all(jobs.into_iter().map(write)).await;
    failpoint::hit("install.written");
    let mut failed = systemd.reload().await.err();
    failpoint::hit("install.reloaded");
    let told = written.into_iter().flatten().map(|written| {
        let failed = failed.take();
        async move {
            let result = match failed {
                Some(error) => Err(error.into()),
                None if written.has_units => loaded(layout, systemd, &written.tenant).await,
                None => Ok(()),
            };
            let _ = written.answer.send(result.map(|()| approaches.announce()));
        }
    });
    join_all(told).await;
}

/// A job whose files are on the disk; it waits for the reload.
struct Written {
    tenant: TenantId,
    has_units: bool,
    answer: oneshot::Sender<Result<Approach, OperationError>>,
}

/// Writes what a job says; one that fails is told so and is done.
async fn write(job: Job) -> Option<Written> {
    let Wish::Install {
        unit_set,
        write,
        remove,
    } = job.wish
    else {
        return None;
    };
    let (owner, has_units) = (job.tenant.clone(), unit_set.is_some());
    match blocking(move || put(&owner, unit_set.as_ref(), &write, &remove)).await {
        Ok(()) => Some(Written {
            tenant: job.tenant,
            has_units,
            answer: job.answer,
        }),
        Err(error) => {
            let _ = job.answer.send(Err(error.into()));
            None
        }
    }
}

/// Whether a directory is the tenant's own, so that it goes when it is empty: that of its
/// Quadlet files, and those of drop-ins for its instances.
fn owns(tenant: &TenantId, directory: &Utf8Path) -> bool {
    let name = directory.file_name().unwrap_or_default();
    let is_drop_in = name.contains(&format!("@{}.", tenant.escaped())) && name.ends_with(".d");
    name == tenant.as_str() || is_drop_in
}

fn put(
    tenant: &TenantId,
    unit_set: Option<&UnitSet>,
    write: &[Utf8PathBuf],
    remove: &[Utf8PathBuf],
) -> Result<(), files::FileError> {
    for path in remove {
        files::remove(path)?;
        if let Some(parent) = path.parent().filter(|parent| owns(tenant, parent)) {
            dirs::remove_if_empty(parent)?;
        }
    }
    for path in write {
        let Some(file) = unit_set.and_then(|set| set.get(path)) else {
            continue;
        };
        if let Some(parent) = path.parent() {
            dirs::make(parent, 0o755)?;
        }
        match file {
            UnitFile::Text(text) => files::write(path, text.as_bytes(), 0o644)?,
            UnitFile::Link(target) => files::symlink(target, path)?,
        }
        failpoint::hit("install.one-written");
    }
    Ok(())
}

/// After a reload, a unit can be missing, stale, or read from another file.
async fn loaded(
    layout: &Layout,
    systemd: &Systemd,
    tenant: &TenantId,
) -> Result<(), OperationError> {
    let names = UnitNames(tenant);
    let unit = names.service();
    let details = systemd.general(&unit).await?;
    let expected = layout.quadlet_dir(tenant).join(names.quadlet_file());
    let found = if details.load != LoadState::Loaded {
        format!("load state {:?}", details.load)
    } else if details.need_daemon_reload {
        "it wants another reload".to_owned()
    } else if details.source_path.as_ref() != Some(&expected) {
        format!("made from {:?}", details.source_path)
    } else {
        return Ok(());
    };
    Err(OperationError::NotLoaded {
        tenant: tenant.clone(),
        unit,
        found,
    })
}
