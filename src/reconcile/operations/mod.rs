//! What each kind of operation does, from its record to its result.
//! Each can be run again from its start at any time and ends the same.

mod apply;
mod back;
mod backup;
mod erase;
mod failed_alike;
mod gate;
mod kept;
mod life;
mod plan;
mod premise;
mod reclaim;
mod release;
mod remove;
mod restore;
mod rollback;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::converge::converge;
use super::engine::Engine;
use super::error::OperationError;
use super::run::Run;
use super::verbs::refusal;
use crate::host::clock;
use crate::state::{Operation, OperationKind, TenantRow};
use crate::tenant::TenantId;

pub use apply::ApplyJob;
pub use failed_alike::failed_alike;
pub(super) use gate::proven;
pub use plan::{plan, preview, resolve_all};
pub use premise::by_itself;
pub use rollback::{
    RollbackJob, of_trial as rollback_of_trial, release_before, settle as settle_rollback,
};

/// An age identity, as handed over with a restore.
pub type Identity = SecretString;

/// Runs an operation to its end.
pub(super) async fn run(run: &Run) -> Result<Value, OperationError> {
    if !is_still_wanted(run).await? {
        return Ok(json!({ "tenant": run.tenant()?, "nothing-to-do": true }));
    }
    refuse_now(run).await?;
    refuse_changed(run).await?;
    match run.operation.kind {
        OperationKind::Apply => apply::run(run).await,
        OperationKind::Start => life::start(run).await,
        OperationKind::Stop => life::stop(run).await,
        OperationKind::Restart => life::restart(run).await,
        OperationKind::Suspend => life::suspend(run).await,
        OperationKind::Resume => life::resume(run).await,
        OperationKind::Remove => remove::run(run).await,
        OperationKind::Reclaim => reclaim::run(run).await,
        OperationKind::Backup => backup::run(run).await,
        OperationKind::Restore => restore::run(run).await,
        OperationKind::Rollback => rollback::run(run).await,
        OperationKind::Reconcile => reconcile(run).await,
    }
}

/// Whether what tenantd has asked of itself is still to be done, now that it is its turn.
async fn is_still_wanted(run: &Run) -> Result<bool, OperationError> {
    let Operation { kind, request, .. } = &run.operation;
    if run.is_taken_up() || !premise::is_by_itself(request) {
        return Ok(true);
    }
    let (database, tenant) = (&run.engine.database, run.tenant()?.clone());
    let Some(row) = database.find_tenant(tenant.clone()).await? else {
        return Ok(false);
    };
    let ending = database.ending(tenant).await?;
    let holds = premise::holds(*kind, request, &row, ending.as_ref(), clock::now());
    if !holds {
        tracing::info!("somebody else was faster; nothing is left to do");
    }
    Ok(holds)
}

/// Refuses what cannot be done to the tenant where it stands, now that it is the operation's turn.
async fn refuse_now(run: &Run) -> Result<(), OperationError> {
    let operation = &run.operation;
    let Some(tenant) = operation.tenant.clone() else {
        return Ok(());
    };
    // What was begun goes on: it has moved the tenant itself.
    let has_begun = operation.step.is_some();
    match run.engine.database.find_tenant(tenant).await? {
        Some(row) if !has_begun => {
            refuse(&run.engine, operation.kind, &operation.request, &row).await
        }
        _ => Ok(()),
    }
}

/// Refuses what cannot be done to a tenant where it stands.
pub async fn refuse(
    engine: &Engine,
    kind: OperationKind,
    request: &Value,
    row: &TenantRow,
) -> Result<(), OperationError> {
    let purge = request["purge"].as_bool().unwrap_or(false);
    let ending = engine.database.ending(row.id.clone()).await?;
    let erasing = ending.as_ref().is_some_and(|ending| ending.erasing);
    match refusal(kind, purge, erasing, row.state, row.wanted) {
        None => Ok(()),
        Some(refusal) => {
            let erase_at = ending.and_then(|ending| ending.erase_at);
            Err(OperationError::refused(refusal, row, kind, erase_at))
        }
    }
}

/// Refuses to change what is not what it was when the change was thought of. What goes on after a crash has passed this.
async fn refuse_changed(run: &Run) -> Result<(), OperationError> {
    let expected = run.operation.request["if-revision"].as_u64();
    let (Some(expected), Some(tenant), false) =
        (expected, &run.operation.tenant, run.is_taken_up())
    else {
        return Ok(());
    };
    let row = run.engine.database.find_tenant(tenant.clone()).await?;
    check_revision(tenant, expected, row.as_ref())
}

/// Refuses when another revision than the expected one is installed.
pub fn check_revision(
    tenant: &TenantId,
    expected: u64,
    row: Option<&TenantRow>,
) -> Result<(), OperationError> {
    let found = row.and_then(|row| row.current_revision);
    if found == Some(expected) {
        return Ok(());
    }
    Err(OperationError::RevisionChanged {
        tenant: tenant.clone(),
        expected,
        found,
    })
}

/// Puts right what is not as recorded.
async fn reconcile(run: &Run) -> Result<Value, OperationError> {
    converge(run).await?;
    Ok(json!({ "tenant": run.tenant()? }))
}
