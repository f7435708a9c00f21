//! Freezing a tenant's processes and thawing them, also after the process that froze them was killed.
//! It needs the tenant's lock for a freeze; when to freeze is decided elsewhere.
//!
//! Only the container's payload group is frozen, by `cgroup.freeze` (1.4 ms). Its parent, the
//! service, stays unfrozen: conmon lives there, and systemd's own freezer state would make a
//! later stop fail. Podman's database is not told (its pause takes 20 to 70 ms): for Podman a
//! frozen container runs, and unlike a paused one it can be stopped once it is thawed, which
//! `ExecStop=-tenantd unit thaw` of the container's service does before Quadlet's own.

mod cgroup;
mod record;

use std::time::Duration;

use camino::Utf8PathBuf;

use super::{clock, files};
use crate::host::lock::TenantLock;
use crate::host::process::ProcessId;
use crate::layout::Layout;
use crate::tenant::TenantId;

pub use record::{Owner, Record};

/// Longest wait for the kernel to stop all processes of a tenant. Processes in uninterruptible
/// sleep, for example on a slow disk, delay a freeze.
const FREEZE_WAIT: Duration = Duration::from_secs(5);

/// Longest wait for the kernel to let all processes of a tenant run again.
const THAW_WAIT: Duration = Duration::from_secs(5);

/// Why a tenant could not be frozen or thawed.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// The container's control group cannot be found or used.
    #[error(
        "cannot use the control group {path} of tenant {tenant}; cgroup v2 and root are needed"
    )]
    Group {
        /// The tenant.
        tenant: TenantId,
        /// The group.
        path: Utf8PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The kernel did not reach the state in time.
    #[error("tenant {tenant} could not be {verb} within {} s; it runs on", wait.as_secs())]
    Slow {
        /// The tenant.
        tenant: TenantId,
        /// What was tried.
        verb: &'static str,
        /// The time it was given.
        wait: Duration,
    },
    /// The record of the freeze cannot be used.
    #[error("cannot record the freeze of tenant {tenant}")]
    Record {
        /// The tenant.
        tenant: TenantId,
        /// The cause.
        #[source]
        source: files::FileError,
    },
    /// The record of the freeze makes no sense.
    #[error(
        "{path} is no record of a freeze of tenant {tenant}; `tenantd unit thaw {tenant}` replaces it"
    )]
    BrokenRecord {
        /// The tenant.
        tenant: TenantId,
        /// The record's file.
        path: Utf8PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The directory of all records cannot be read.
    #[error("cannot read {dir}, where freezes are recorded")]
    Records {
        /// The directory.
        dir: Utf8PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Somebody else has frozen the tenant.
    #[error("tenant {tenant} is already frozen by {} ({}), since {}", record.owner, record.reason, record.at)]
    Taken {
        /// The tenant.
        tenant: TenantId,
        /// Who and why.
        record: Record,
    },
}

/// What a freeze found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frozen {
    /// The tenant's processes stand still.
    Yes,
    /// No container runs, so nothing can change the state either.
    NotRunning,
    /// They stood still already, because the tenant sleeps; it does so on until somebody comes, who needs the lock.
    Asleep,
}

/// Freezes and thaws the tenants of one host. Its calls block for about a millisecond, and at
/// most for five seconds.
#[derive(Debug, Clone)]
pub struct Freezer {
    layout: Layout,
}

impl Freezer {
    /// A freezer for the tenants of `layout`.
    pub fn new(layout: Layout) -> Self {
        Self { layout }
    }

    /// Freezes the locked tenant for `owner`.
    ///
    /// What `owner` itself left frozen, because it was killed, it may freeze again.
    pub fn freeze(
        &self,
        lock: &TenantLock,
        owner: Owner,
        reason: &str,
    ) -> Result<Frozen, FreezeError> {
        let tenant = lock.tenant();
        let record = record::read(&self.layout, tenant)?;
        let Some(group) = cgroup::find(&self.layout, tenant)? else {
            return Ok(Frozen::NotRunning);
        };
        match record {
            Some(record) if record.owner == owner => {}
            Some(record) if record.owner == Owner::Sleep && cgroup::is_still(&group) => {
                return Ok(Frozen::Asleep);
            }
            // A record of one that was started anew since says nothing.
            Some(record) if record.owner == Owner::Sleep => {}
            Some(record) => {
                return Err(FreezeError::Taken {
                    tenant: tenant.clone(),
                    record,
                });
            }
            None => {}
        }
        // Recorded first: a kill after the freeze must leave a trace for the thaw.
        let record = Record {
            owner,
            reason: reason.to_owned(),
            process: ProcessId::own(),
            at: clock::now(),
            paged_out: None,
        };
        record::write(&self.layout, tenant, &record)?;
        match cgroup::set_frozen(&group, true, FREEZE_WAIT) {
            Ok(true) => Ok(Frozen::Yes),
            Ok(false) => {
                record::remove(&self.layout, tenant)?;
                Ok(Frozen::NotRunning)
            }
            Err(error) => {
                // A group that froze only in part must not stay so.
                self.thaw_all(tenant)?;
                Err(group_error(tenant, group, "frozen", FREEZE_WAIT, error))
            }
        }
    }

    /// Thaws the tenant if `owner` froze it, whoever calls, and says whether it had.
    ///
    /// `false` tells a backup that its tenant was thawed by a stop meanwhile and that what it
    /// has cloned may not be of one moment. Needs no lock.
    pub fn thaw(&self, tenant: &TenantId, owner: Owner) -> Result<bool, FreezeError> {
        match record::read(&self.layout, tenant) {
            Ok(Some(record)) if record.owner == owner => self.thaw_all(tenant).map(|()| true),
            Ok(_) => Ok(false),
            Err(FreezeError::BrokenRecord { .. }) => self.thaw_all(tenant).map(|()| true),
            Err(error) => Err(error),
        }
    }

    /// Thaws the tenant if `owner` froze it and the process that did is gone, and says whether
    /// that was so. What a living process froze, it thaws itself.
    pub fn thaw_abandoned(&self, tenant: &TenantId, owner: Owner) -> Result<bool, FreezeError> {
        match record::read(&self.layout, tenant) {
            Ok(Some(record)) if record.process.is_alive() => Ok(false),
            _ => self.thaw(tenant, owner),
        }
    }

    /// Thaws the tenant whoever froze it, recorded or not. Repeatable.
    pub fn thaw_all(&self, tenant: &TenantId) -> Result<(), FreezeError> {
        if let Some(group) = cgroup::find(&self.layout, tenant)? {
            cgroup::set_frozen(&group, false, THAW_WAIT)
                .map_err(|error| group_error(tenant, group, "thawed", THAW_WAIT, error))?;
        }
        record::remove(&self.layout, tenant)
    }

    /// Whether the tenant's processes stand still at this moment, whatever is recorded.
    pub fn is_still(&self, tenant: &TenantId) -> bool {
        let group = cgroup::find(&self.layout, tenant).ok().flatten();
        group.is_some_and(|group| cgroup::is_still(&group))
    }

    /// Records that the memory of a tenant which sleeps was given back.
    pub fn note_paged_out(&self, tenant: &TenantId) -> Result<(), FreezeError> {
        match record::read(&self.layout, tenant)? {
            Some(mut found) if found.owner == Owner::Sleep => {
                found.paged_out = Some(clock::now());
                record::write(&self.layout, tenant, &found)
            }
            _ => Ok(()),
        }
    }

    /// Whether the tenant's container runs.
    ///
    /// # Errors
    /// The control groups cannot be read.
    pub fn is_running(&self, tenant: &TenantId) -> Result<bool, FreezeError> {
        Ok(cgroup::find(&self.layout, tenant)?.is_some())
    }

    /// Who froze the tenant, if anybody has.
    pub fn record(&self, tenant: &TenantId) -> Result<Option<Record>, FreezeError> {
        record::read(&self.layout, tenant)
    }

    /// All tenants that have a record of a freeze; names that are no tenants are passed over.
    pub fn recorded(&self) -> Result<Vec<TenantId>, FreezeError> {
        let dir = self.layout.run_dir().join("frozen");
        let entries = match dir.read_dir_utf8() {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(FreezeError::Records { dir, source }),
        };
        Ok(entries
            .filter_map(|entry| entry.ok()?.file_name().parse().ok())
            .collect())
    }
}

fn group_error(
    tenant: &TenantId,
    path: Utf8PathBuf,
    verb: &'static str,
    wait: Duration,
    source: std::io::Error,
) -> FreezeError {
    let tenant = tenant.clone();
    if source.kind() == std::io::ErrorKind::TimedOut {
        FreezeError::Slow { tenant, verb, wait }
    } else {
        FreezeError::Group {
            tenant,
            path,
            source,
        }
    }
}

#[cfg(test)]
mod tests;
