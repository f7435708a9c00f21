//! Erasing a tenant: all that this host has of it, and what its backups could be read with.
//! It is done in an order in which every crash leaves a tenant that is erased by doing it again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::failpoint;
use crate::host::lock::TenantLock;
use crate::host::{clock, dirs, files};
use crate::layout::UnitNames;
use crate::protect::{self, ErasureStatus, ProtectError};
use crate::reconcile::blocking;
use crate::reconcile::converge::done;
use crate::reconcile::error::{OperationError, chain};
use crate::reconcile::run::Run;
use crate::tenant::TenantId;

/// Longest wait for whoever still does something with the tenant.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Erases a tenant whose units are gone.
pub(super) async fn erase(
    run: &Run,
    tenant: &TenantId,
    keep_backups: bool,
) -> Result<Value, OperationError> {
    let engine = &run.engine;
    // From here on nobody gets back what may be half gone.
    engine.database.begin_erasing(tenant.clone()).await?;
    failpoint::hit("remove.erasing");
    run.step("remove the state").await?;
    let mut traces = vec![engine.layout.tenant_dir(tenant)];
    traces.extend(engine.layout.kept_beside(tenant));
    blocking(move || {
        traces
            .iter()
            .try_for_each(|directory| dirs::remove_tree(directory))
    })
    .await?;
    erase_log(run, tenant).await?;
    failpoint::hit("remove.state-gone");
    let backups = if keep_backups {
        "kept"
    } else {
        run.step("erase the keys of its backups").await?;
        erase_backups(run, tenant).await?
    };
    failpoint::hit("remove.keys-gone");
    clean_memory(run, tenant).await?;
    let because = match backups {
        "kept" => "its state; its backups are kept".to_owned(),
        backups => format!("its state; its backups: {backups}"),
    };
    let actor = run.operation.actor.clone();
    engine
        .database
        .forget_tenant(tenant.clone(), actor, Some(because), clock::now())
        .await?;
    Ok(json!({ "tenant": tenant, "backups": backups }))
}

/// Has the tenant's log removed, by a unit that may write there.
async fn erase_log(run: &Run, tenant: &TenantId) -> Result<(), OperationError> {
    let unit = UnitNames(tenant).instance("erase-log", "service");
    let result = run.engine.systemd.start(&unit).await?;
    done(run, &unit, "start", result).await
}

/// Removes what is of a tenant in memory: locks, reports, records of freezes.
async fn clean_memory(run: &Run, tenant: &TenantId) -> Result<(), OperationError> {
    let (layout, id) = (run.engine.layout.clone(), tenant.clone());
    blocking(move || {
        let mut files = protect::reports_of(&layout, &id);
        files.extend([
            layout.freeze_file(&id),
            layout.quiesce_file(&id),
            layout.health_file(&id),
            layout.start_answers_file(&id),
        ]);
        files
            .iter()
            .try_for_each(|file| files::remove(file).map(drop))
    })
    .await?;
    let layout = &run.engine.layout;
    // Whoever has it does something with a tenant that is no more, and finds that out; it goes at the next boot.
    match TenantLock::acquire(layout, tenant, "erase", LOCK_WAIT).await {
        Ok(lock) => {
            if let Err(error) = lock.remove(layout) {
                tracing::warn!(%tenant, error = &error as &dyn std::error::Error, "its lock stays");
            }
        }
        Err(error) => {
            tracing::warn!(%tenant, error = &error as &dyn std::error::Error, "its lock stays");
        }
    }
    Ok(())
}

/// Deletes what a tenant's backups can be read with, or records that it is still to be done.
async fn erase_backups(run: &Run, tenant: &TenantId) -> Result<&'static str, OperationError> {
    let engine = &run.engine;
    let store = engine.settings().store.clone();
    let erased = protect::erase_keys(&engine.layout, &store, tenant, false).await;
    match erased {
        Ok(erasure) if erasure.status == ErasureStatus::Erased => Ok("erased"),
        Ok(_) => Ok("erasure pending"),
        Err(ProtectError::NoRepository(_)) => Ok("none"),
        // The state must be gone before its keys: erased backups beside a state would be the only loss.
        Err(error @ (ProtectError::NotRemoved(_) | ProtectError::StateLeft(..))) => {
            Err(OperationError::Backup(chain(&error)))
        }
        Err(error) => {
            // It is recorded before the store is asked, and then tried again whatever becomes of this.
            let layout = engine.layout.clone();
            let pending = blocking(move || protect::pending_erasures(&layout))
                .await
                .map_err(|error| OperationError::Backup(chain(&error)))?;
            if !pending.iter().any(|erasure| erasure.tenant == *tenant) {
                return Err(OperationError::Backup(chain(&error)));
            }
            tracing::warn!(%tenant, "the keys are not erased yet: {}", chain(&error));
            Ok("erasure pending")
        }
    }
}
