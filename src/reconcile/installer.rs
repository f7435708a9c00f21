//! Checks, installs and loads unit sets: one at a time, and many in one go.
//!
//! Checking and reloading cost the same for one tenant as for ten, and two generator runs
//! at a time can corrupt a unit: so whatever waits while a round is at work goes into the
//! next round together.

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::{mpsc, oneshot};

use super::blocking;
use super::error::OperationError;
use crate::failpoint;
use crate::host::systemd::{LoadState, Systemd};
use crate::host::{dirs, files};
use crate::layout::{Layout, UnitNames};
use crate::quadlet::validate::{Tools, ValidateError, validate};
use crate::quadlet::{UnitFile, UnitSet};
use crate::tenant::TenantId;

/// Asks for rounds and waits for them. Cheap to clone.
#[derive(Clone)]
pub struct Installer {
    jobs: mpsc::Sender<Job>,
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
    answer: oneshot::Sender<Result<(), OperationError>>,
}

impl Installer {
    /// Starts the task that does the rounds; it ends with the last handle.
    pub fn start(layout: Layout, systemd: Systemd) -> Self {
        // A round takes all that waits, so the queue only has to hold one host's tenants.
        let (jobs, queue) = mpsc::channel(256);
        tokio::spawn(rounds(layout, systemd, queue));
        Self { jobs }
    }

    /// Has the host's generator and verifier check `unit_set` within the whole merged tree.
    pub async fn check(&self, tenant: TenantId, unit_set: UnitSet) -> Result<(), OperationError> {
        self.ask(tenant, Wish::Check(unit_set)).await
    }

    /// Writes and removes files, reloads systemd and makes sure that it took them in.
    /// With nothing to write or remove it only reloads.
    pub async fn install(
        &self,
        tenant: TenantId,
        unit_set: Option<UnitSet>,
        write: Vec<Utf8PathBuf>,
        remove: Vec<Utf8PathBuf>,
    ) -> Result<(), OperationError> {
        self.ask(
            tenant,
            Wish::Install {
                unit_set,
                write,
                remove,
            },
        )
        .await
    }

    async fn ask(&self, tenant: TenantId, wish: Wish) -> Result<(), OperationError> {
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
        answered.await.map_err(|_| OperationError::Interrupted)?
    }
}

async fn rounds(layout: Layout, systemd: Systemd, mut queue: mpsc::Receiver<Job>) {
    let mut waiting = Vec::new();
    while queue.recv_many(&mut waiting, 256).await > 0 {
        let (checks, installs): (Vec<_>, Vec<_>) = waiting
            .drain(..)
            .partition(|job| matches!(job.wish, Wish::Check(_)));
        if !checks.is_empty() {
            check_round(&layout, checks).await;
        }
        if !installs.is_empty() {
            install_round(&layout, &systemd, installs).await;
        }
    }
}

/// One check for all; when there are complaints, those without one are checked again by
/// themselves, so that one bad tenant does not take the others with it.
async fn check_round(layout: &Layout, mut jobs: Vec<Job>) {
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
                let _ = job.answer.send(Ok(()));
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

async fn install_round(layout: &Layout, systemd: &Systemd, jobs: Vec<Job>) {
    let mut written = Vec::new();
    for job in jobs {
        let Job {
            tenant,
            wish,
            answer,
        } = job;
        let Wish::Install {
            unit_set,
            write,
            remove,
        } = wish
        else {
            continue;
        };
        let (owner, set) = (tenant.clone(), unit_set.clone());
        match blocking(move || put(&owner, set.as_ref(), &write, &remove)).await {
            Ok(()) => written.push((tenant, unit_set, answer)),
            Err(error) => {
                let _ = answer.send(Err(error.into()));
            }
        }
    }
    failpoint::hit("install.written");
    let reloaded = systemd.reload().await;
    failpoint::hit("install.reloaded");
    let mut failed = reloaded.err();
    for (tenant, unit_set, answer) in written {
        let result = match failed.take() {
            Some(error) => Err(error.into()),
            None if unit_set.is_some() => loaded(layout, systemd, &tenant).await,
            None => Ok(()),
        };
        let _ = answer.send(result);
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
    let details = systemd.details(&unit).await?;
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
