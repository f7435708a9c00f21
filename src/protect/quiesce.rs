//! Asks an agent to put its files in order before it is paused, and says when that is over, also for a backup that was killed.
//! What it costs to be told no is the template's choice; here it is asked, recorded and reported.

use serde::{Deserialize, Serialize};

use super::ProtectError;
use super::quiesce_call::{NotDone, ask};
use crate::failpoint;
use crate::host::freezer::Freezer;
use crate::host::process::ProcessId;
use crate::host::{dirs, files};
use crate::layout::Layout;
use crate::tenant::{QuiesceCalls, Runtime, TenantId};

/// Longest record, and longest `runtime.json`.
const LIMIT: u64 = 64 << 10;

/// The end is asked for so often, …
const ENDINGS: u32 = 2;
/// … each time no longer than this, so that it fits into the stop of a backup's unit (30 s).
const END_WITHIN: u32 = 10;

/// What an agent made of it, for the report of its backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "result", content = "why")]
pub enum Quiesced {
    /// It said that its files are in order, and was told when that was over.
    Done,
    /// It did not, or could not be told when it was over.
    Failed(String),
}

/// An agent that was asked, until it is told that it is over.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// Whose end makes it over.
    process: ProcessId,
    calls: QuiesceCalls,
}

/// What a tenant's units say it is to be asked; nothing where they cannot be read.
pub(super) fn calls(layout: &Layout, tenant: &TenantId) -> Option<QuiesceCalls> {
    let bytes = files::read(&layout.runtime_file(tenant), LIMIT).ok()?;
    serde_json::from_slice::<Runtime>(&bytes).ok()?.quiesce
}

/// Asks a running agent to put its files in order. One that does not run has them in order.
///
/// # Errors
/// It does not agree in time, or what is asked cannot be recorded first.
pub(super) async fn begin(
    layout: &Layout,
    tenant: &TenantId,
    calls: &QuiesceCalls,
) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    // A request through the ingress would start an agent that does not run, and wake one that sleeps.
    let freezer = Freezer::new(layout.clone());
    if !freezer.is_running(tenant)? || freezer.record(tenant)?.is_some() {
        return Ok(false);
    }
    let path = layout.quiesce_file(tenant);
    if let Some(parent) = path.parent() {
        dirs::make(parent, 0o700)?;
    }
    let record = Record {
        process: ProcessId::own(),
        calls: calls.clone(),
    };
    files::write(&path, &serde_json::to_vec(&record)?, 0o600)?;
    ask(layout, tenant, &calls.begin, calls.timeout_seconds).await?;
    failpoint::hit("protect.quiesced");
    Ok(true)
}

/// Tells an agent that was asked that it is over; one that was not is left alone.
///
/// # Errors
/// It does not answer; it is not asked again.
pub(super) async fn end(layout: &Layout, tenant: &TenantId) -> Result<(), ProtectError> {
    let path = layout.quiesce_file(tenant);
    let bytes = match files::read(&path, LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if error.is_absent() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let told = match serde_json::from_slice::<Record>(&bytes) {
        Ok(Record { calls, .. }) => tell(layout, tenant, &calls).await,
        // It was written whole or not at all, by a tenantd of another version.
        Err(error) => {
            tracing::warn!(%path, %error, "a record of a quiesced agent is broken");
            Ok(())
        }
    };
    files::remove(&path)?;
    told.map_err(|source| ProtectError::NotReleased {
        tenant: tenant.clone(),
        source: Box::new(source),
    })
}

async fn tell(layout: &Layout, tenant: &TenantId, calls: &QuiesceCalls) -> Result<(), NotDone> {
    let Some(end) = &calls.end else { return Ok(()) };
    // One that has ended since has nothing to be told.
    let is_running = || Freezer::new(layout.clone()).is_running(tenant);
    let mut told = Ok(());
    for _ in 0..ENDINGS {
        if !is_running().unwrap_or(true) {
            return Ok(());
        }
        told = ask(layout, tenant, end, calls.timeout_seconds.min(END_WITHIN)).await;
        if told.is_ok() {
            break;
        }
    }
    told
}

/// Ends what backups that are not at work any more have begun, of one tenant or of all.
///
/// # Errors
/// An agent does not answer.
pub async fn release_abandoned(
    layout: &Layout,
    only: Option<&TenantId>,
) -> Result<(), ProtectError> {
    let directory = layout.run_dir().join("quiesced");
    let tenants: Vec<TenantId> = match only {
        Some(tenant) => vec![tenant.clone()],
        None => directory
            .read_dir_utf8()
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().parse().ok())
            .collect(),
    };
    let is_at_work = |tenant: &TenantId| {
        let bytes = files::read(&layout.quiesce_file(tenant), LIMIT).ok()?;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        Some(record.process.is_alive())
    };
    let mut result = Ok(());
    for tenant in tenants {
        if is_at_work(&tenant) != Some(true) {
            // One agent's trouble must not keep another one waiting.
            result = end(layout, &tenant).await.and(result);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protect::samples::host;
    use crate::tenant::QuiesceCall;

    fn asked() -> QuiesceCalls {
        QuiesceCalls {
            begin: QuiesceCall::Request("/begin".to_owned()),
            end: Some(QuiesceCall::Request("/end".to_owned())),
            timeout_seconds: 1,
            required: true,
        }
    }

    #[tokio::test]
    async fn an_agent_that_does_not_run_is_not_asked_anything() {
        let (_guard, layout, tenant) = host();
        assert!(!begin(&layout, &tenant, &asked()).await.unwrap());
        assert!(!layout.quiesce_file(&tenant).exists());
        end(&layout, &tenant).await.unwrap();
        release_abandoned(&layout, Some(&tenant)).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_dead_backup_has_begun_is_ended_and_what_a_living_one_has_is_left_alone() {
        let (_guard, layout, tenant) = host();
        let file = layout.quiesce_file(&tenant);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let record = Record {
            process: ProcessId::own(),
            calls: asked(),
        };
        std::fs::write(&file, serde_json::to_vec(&record).unwrap()).unwrap();
        release_abandoned(&layout, None).await.unwrap();
        assert!(file.exists());
        std::fs::write(&file, "of another version").unwrap();
        release_abandoned(&layout, None).await.unwrap();
        assert!(!file.exists());
    }
}
