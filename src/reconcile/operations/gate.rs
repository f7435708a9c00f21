//! What stands between an apply and what has failed before: the breaker and the memory of images.
//! The decisions are `policy`'s; here they meet the records.

use crate::host::clock;
use crate::reconcile::engine::Engine;
use crate::reconcile::error::OperationError;
use crate::reconcile::policy::{blamed, breaker, failed_before};
use crate::reconcile::run::Run;
use crate::state::{Rollback, TenantRow};
use crate::tenant::{FailureCause, ImageId, TenantId};

/// Refuses an image that has failed this tenant before, and anything new while the breaker is open.
pub(super) async fn check(
    run: &Run,
    row: &TenantRow,
    image: &ImageId,
    force: bool,
) -> Result<(), OperationError> {
    if force {
        return Ok(());
    }
    let engine = &run.engine;
    let rollbacks = engine.database.rollbacks(row.id.clone()).await?;
    if let Some(open) = breaker(&rollbacks, &engine.settings().failure) {
        return Err(OperationError::BreakerOpen {
            tenant: row.id.clone(),
            rollbacks: open.rollbacks,
            since: open.since,
        });
    }
    match failed_before(&rollbacks, &image.to_string()) {
        None => Ok(()),
        Some(revision) => Err(OperationError::FailedBefore {
            tenant: row.id.clone(),
            image: image.clone(),
            revision,
        }),
    }
}

/// A revision is healthy: its image is not to blame for anything, and what failed before does not count any more.
pub async fn proven(engine: &Engine, tenant: TenantId, number: u64) -> Result<(), OperationError> {
    let database = &engine.database;
    if let Some(stored) = database.revision(tenant.clone(), number).await? {
        database
            .acquit(tenant.clone(), stored.revision.image)
            .await?;
    }
    Ok(database.forgive(tenant).await?)
}

/// Remembers that a revision is rolled back, and for what cause, before it is.
pub(super) async fn note_rollback(
    run: &Run,
    failed: u64,
    cause: Option<FailureCause>,
) -> Result<(), OperationError> {
    let (database, row) = (&run.engine.database, run.row().await?);
    let Some(good) = row.good_revision.filter(|good| *good != failed) else {
        return Ok(());
    };
    let image = async |number| {
        let stored = database.revision(row.id.clone(), number).await?;
        Ok::<_, OperationError>(stored.map(|stored| stored.revision.image.to_string()))
    };
    let (new, old) = (image(failed).await?, image(good).await?);
    let blamed = blamed(
        cause,
        new.as_deref().unwrap_or_default(),
        old.as_deref().unwrap_or_default(),
    );
    let rollback = Rollback {
        revision: failed,
        at: clock::now(),
        image: blamed.map(str::to_owned),
        cause,
        counts: true,
    };
    Ok(database.note_rollback(row.id.clone(), rollback).await?)
}
