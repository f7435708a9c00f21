//! What each kind of operation does, from its record to its result.
//! Each can be run again from its start at any time and ends the same.

mod apply;
mod backup;
mod erase;
mod gate;
mod kept;
mod life;
mod plan;
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
use crate::state::{OperationKind, TenantRow};
use crate::tenant::TenantId;

pub use apply::ApplyJob;
pub(super) use gate::proven;
pub use plan::{plan, preview, resolve_all};
pub use rollback::{RollbackJob, of_trial as rollback_of_trial, settle as settle_rollback};

/// An age identity, as handed over with a restore.
pub type Identity = SecretString;

/// Runs an operation to its end.
pub(super) async fn run(run: &Run) -> Result<Value, OperationError> {
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
    match refusal(kind, purge, row.state, row.wanted) {
        None => Ok(()),
        Some(refusal) => {
            let ending = engine.database.ending(row.id.clone()).await?;
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
