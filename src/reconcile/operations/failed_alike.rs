//! What a file under `tenants.d` asks for has been tried and the agent was no good: it is not tried at every reload.
//! Whoever applies by hand knows what he does, and is not asked.

use super::plan::is_same;
use crate::api::Document;
use crate::reconcile::engine::Engine;
use crate::reconcile::error::OperationError;
use crate::reconcile::image::Images;
use crate::reconcile::secrets;
use crate::state::{MadeRevision, OperationStatus, Rollback, TenantRow};
use crate::tenant::{FailureCause, ResolvedSpec, TenantState};

/// The revision that was made of exactly what `spec` is now made of, if it was the last one that was tried and its agent
/// failed.
pub async fn failed_alike(
    engine: &Engine,
    images: &mut Images,
    row: &TenantRow,
    document: &Document,
    spec: &ResolvedSpec,
) -> Result<Option<u64>, OperationError> {
    let database = &engine.database;
    let made = database.revisions(row.id.clone()).await?;
    let rollbacks = database.rollbacks(row.id.clone()).await?;
    let Some(newest) = made
        .first()
        .filter(|newest| has_failed(newest, row, &rollbacks))
    else {
        return Ok(None);
    };
    let planned = secrets::planned(engine, spec).await?;
    let image = images.local(engine, spec).await?;
    let is_alike = image
        .is_some_and(|image| is_same(&newest.revision, spec, &document.text, &image, &planned));
    Ok(is_alike.then_some(newest.revision.number.0))
}

/// Whether a revision's agent was no good. What the host was to blame for may go better another time.
fn has_failed(newest: &MadeRevision, row: &TenantRow, rollbacks: &[Rollback]) -> bool {
    let number = newest.revision.number.0;
    if row.current_revision == Some(number) {
        return false;
    }
    let cause = match rollbacks
        .iter()
        .find(|rollback| rollback.revision == number)
    {
        Some(rollback) => rollback.cause,
        // A first one has nothing to be rolled back to.
        None if row.current_revision.is_none()
            && row.state == TenantState::Failed
            && newest.status == Some(OperationStatus::Failed) =>
        {
            row.cause
        }
        None => None,
    };
    cause.is_some_and(FailureCause::is_the_agents)
}
