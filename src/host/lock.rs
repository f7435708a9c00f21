//! One lock per tenant, shared by all processes that freeze, wake, restore or stop it.
//! The kernel frees it when its holder dies; it says who holds it, and nothing about why.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::clock;
use crate::layout::Layout;
use crate::tenant::TenantId;

/// Pause between two looks at a lock that somebody else has; the kernel has no timed flock.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Longest record of a holder that is read.
const HOLDER_LIMIT: u64 = 4096;

/// Who has a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// What it does, for example `backup`.
    pub purpose: String,
    /// Since when.
    pub since: Timestamp,
}

/// The right to change whether and how a tenant runs; given back on drop.
#[derive(Debug)]
pub struct TenantLock {
    tenant: TenantId,
    _file: Flock<File>,
}

/// A file that one process at a time has locked; given back on drop.
#[derive(Debug)]
pub struct FileLock {
    _file: Flock<File>,
}

impl FileLock {
    /// Locks the file at `path`, which is made where it is absent; `None` when another process has it locked.
    pub fn try_acquire(path: &Utf8Path) -> io::Result<Option<Self>> {
        match Flock::lock(open(path)?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { _file: file })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }

    /// As [`Self::try_acquire`], waiting for whoever has it: the kernel frees it when its holder dies.
    pub async fn acquire(path: &Utf8Path) -> io::Result<Self> {
        loop {
            if let Some(lock) = Self::try_acquire(path)? {
                return Ok(lock);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// Why a tenant could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has the lock.
    #[error("tenant {tenant} is locked{}; try again when it has ended", by(holder.as_ref()))]
    Busy {
        /// The tenant.
        tenant: TenantId,
        /// Who has it, when that could be read.
        holder: Option<Holder>,
    },
    /// The lock's file cannot be used.
    #[error(
        "cannot lock tenant {tenant} with {path}; is /run/tenantd there (systemd-tmpfiles --create tenantd.conf) and is this run as root?"
    )]
    File {
        /// The tenant.
        tenant: TenantId,
        /// The lock's file.
        path: Utf8PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

fn by(holder: Option<&Holder>) -> String {
    holder.map_or_else(String::new, |holder| {
        format!(
            " by {} (process {}, since {})",
            holder.purpose, holder.pid, holder.since
        )
    })
}

impl TenantLock {
    /// Takes the tenant's lock, waiting at most `wait` for whoever has it.
    pub async fn acquire(
        layout: &Layout,
        tenant: &TenantId,
        purpose: &str,
        wait: Duration,
    ) -> Result<Self, LockError> {
        let path = layout.lock_file(tenant);
        let failed = |source| LockError::File {
            tenant: tenant.clone(),
            path: path.clone(),
            source,
        };
        let mut file = open(&path).map_err(failed)?;
        let deadline = clock::monotonic() + wait;
        let mut file = loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) if is_at(&locked, &path) => break locked,
                // Whoever had it has removed it with its tenant: it keeps nobody apart any more.
                Ok(_) => {
                    file = open(&path).map_err(failed)?;
                    continue;
                }
                Err((returned, Errno::EWOULDBLOCK)) => file = returned,
                Err((_, errno)) => return Err(failed(errno.into())),
            }
            if clock::monotonic() >= deadline {
                return Err(LockError::Busy {
                    tenant: tenant.clone(),
                    holder: read_holder(&mut file),
                });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        let holder = Holder {
            pid: std::process::id(),
            purpose: purpose.to_owned(),
            since: clock::now(),
        };
        write_holder(&mut file, &holder).map_err(failed)?;
        Ok(Self {
            tenant: tenant.clone(),
            _file: file,
        })
    }

    /// Gives the lock back and removes its file, for a tenant that is no more.
    pub fn remove(self, layout: &Layout) -> io::Result<()> {
        match std::fs::remove_file(layout.lock_file(&self.tenant)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The tenant that is locked.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }
}

/// Whether a file that was opened is still the one at `path`: two processes could else hold locks on two files of one
/// name.
fn is_at(file: &File, path: &Utf8Path) -> bool {
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(opened), Ok(there)) => identity(opened) == identity(there),
        _ => false,
    }
}

fn open(path: &Utf8Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn write_holder(file: &mut File, holder: &Holder) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&serde_json::to_vec(holder)?)
}

/// The holder may be writing its record at this moment; a broken one is no record.
fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(HOLDER_LIMIT).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(dir.path().to_str().unwrap());
        std::fs::create_dir_all(layout.run_dir().join("lock")).unwrap();
        (dir, layout)
    }

    #[tokio::test]
    async fn a_second_one_is_told_who_has_it() {
        let (_dir, layout) = host();
        let tenant: TenantId = "acme".parse().unwrap();
        let first = TenantLock::acquire(&layout, &tenant, "backup", Duration::ZERO)
            .await
            .unwrap();
        let error = TenantLock::acquire(&layout, &tenant, "stop", Duration::from_millis(20))
            .await
            .unwrap_err();
        assert!(
            error.to_string().starts_with(&format!(
                "tenant acme is locked by backup (process {}, since ",
                std::process::id()
            )),
            "{error}"
        );
        drop(first);
        TenantLock::acquire(&layout, &tenant, "stop", Duration::ZERO)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_waiter_gets_it_when_it_is_given_back() {
        let (_dir, layout) = host();
        let tenant: TenantId = "acme".parse().unwrap();
        let first = TenantLock::acquire(&layout, &tenant, "backup", Duration::ZERO)
            .await
            .unwrap();
        let second = TenantLock::acquire(&layout, &tenant, "stop", Duration::from_mins(1));
        let (second, ()) = tokio::join!(second, async move { drop(first) });
        assert_eq!(second.unwrap().tenant(), &tenant);
    }

    #[tokio::test]
    async fn who_waits_for_a_lock_that_is_removed_gets_the_one_that_others_see() {
        let (_dir, layout) = host();
        let tenant: TenantId = "acme".parse().unwrap();
        let first = TenantLock::acquire(&layout, &tenant, "erase", Duration::ZERO)
            .await
            .unwrap();
        let second = TenantLock::acquire(&layout, &tenant, "apply", Duration::from_mins(1));
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        first.remove(&layout).unwrap();
        let second = second.await.unwrap();
        let third = TenantLock::acquire(&layout, &tenant, "backup", Duration::ZERO).await;
        assert!(matches!(third, Err(LockError::Busy { .. })));
        second.remove(&layout).unwrap();
        assert!(!layout.lock_file(&tenant).exists());
    }

    #[test]
    fn a_file_is_locked_by_one_at_a_time() {
        let (_dir, layout) = host();
        let path = layout.drill_lock();
        let first = FileLock::try_acquire(&path).unwrap();
        assert!(first.is_some());
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        drop(first);
        assert!(FileLock::try_acquire(&path).unwrap().is_some());
    }

    #[tokio::test]
    async fn tenants_do_not_lock_each_other() {
        let (_dir, layout) = host();
        let mut locks = Vec::new();
        for tenant in ["acme", "acme-2"] {
            let tenant = tenant.parse().unwrap();
            locks.push(
                TenantLock::acquire(&layout, &tenant, "backup", Duration::ZERO)
                    .await
                    .unwrap(),
            );
        }
        assert_eq!(locks.len(), 2);
    }
}
