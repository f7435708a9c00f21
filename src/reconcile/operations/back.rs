//! Back from a revision that failed while it was brought in, by an update or by the first start of a tenant that was
//! held meanwhile: to the release before it, units and data, or to none where there is none.

use super::release::{self, Data};
use super::{gate, rollback};
use crate::failpoint;
use crate::host::clock;
use crate::reconcile::attempts;
use crate::reconcile::converge::converge;
use crate::reconcile::diagnose::cause_of;
use crate::reconcile::error::OperationError;
use crate::reconcile::run::Run;
use crate::reconcile::trials;
use crate::state::{TenantRow, Trial, Wanted};
use crate::tenant::TenantState;

/// What was decided about this very operation before it was cut short: the revision that failed, and why.
pub(super) async fn decided_before(run: &Run) -> Result<Option<(u64, String)>, OperationError> {
    let ours = decision(run).await?;
    Ok(ours.and_then(|trial| Some((trial.revision, trial.failure?))))
}

async fn decision(run: &Run) -> Result<Option<Trial>, OperationError> {
    let trial = run.engine.database.trial(run.tenant()?.clone()).await?;
    Ok(trial.filter(|trial| trial.operation == run.operation.id && trial.failure.is_some()))
}

/// Puts the release before `failed` back, or takes the units of a first revision away. Gives the error that the
/// operation ends with.
///
/// `before` is the tenant as it was before the operation.
///
/// # Errors
/// What is to be done cannot be recorded.
pub(super) async fn roll_back(
    run: &Run,
    before: &TenantRow,
    failed: u64,
    error: OperationError,
) -> Result<OperationError, OperationError> {
    let database = &run.engine.database;
    let tenant = before.id.clone();
    tracing::warn!(revision = failed, "{error}");
    attempts::keep(run, Some(failed), &error).await;
    let cause = match decision(run).await? {
        Some(trial) => trial.cause,
        None => cause_of(run, &error).await,
    };
    gate::note_rollback(run, failed, cause).await?;
    // Decided from here on: a run that is taken up goes back, and does not try again.
    database
        .set_trial(Trial {
            tenant: tenant.clone(),
            revision: failed,
            operation: run.operation.id,
            ends_at: clock::now(),
            restarts_before: 0,
            crashes: 0,
            failure: Some(error.chain()),
            cause,
        })
        .await?;
    // The release that the operation found is one to go back to, though it had still to show that it is good.
    let found = before.current_revision.filter(|found| *found != failed);
    let row = run.row().await?;
    let good = row.good_revision.filter(|good| *good != failed);
    let kept = match good.or(found) {
        Some(kept) => Some(kept),
        None => rollback::release_before(&run.engine, &row, failed).await,
    };
    failpoint::hit("apply.rolling-back");
    let Some(kept) = kept else {
        database
            .set_current_revision(tenant.clone(), None, false)
            .await?;
        run.step("take the failed units away").await?;
        converge(run).await?;
        run.fail(&error, cause).await?;
        database.end_trial(tenant).await?;
        return Ok(error);
    };
    // What never started has written nothing.
    let has_written = may_have_started(&error) || run.is_taken_up();
    let data = if has_written && release::has_clone(run, kept).await? {
        Data::Cloned
    } else {
        Data::Kept
    };
    match release::go_back(run, (failed, kept), data).await {
        Ok(aside) => {
            let state = match before.wanted {
                Wanted::Running => TenantState::Running,
                Wanted::Suspended => TenantState::Suspended,
                Wanted::Stopped | Wanted::Removed => TenantState::Stopped,
            };
            match before.wanted {
                Wanted::Running => trials::arrived(run, kept).await?,
                _ => database.end_trial(tenant.clone()).await?,
            }
            run.reach(state, Some(format!("revision {failed} failed")))
                .await?;
            Ok(OperationError::RolledBack {
                tenant,
                failed,
                kept,
                aside: aside.map(Box::new),
                cause: Box::new(error),
            })
        }
        Err(source) => {
            trials::going_back_failed(run).await?;
            run.fail(&source, cause).await?;
            Ok(OperationError::NotRolledBack {
                tenant,
                failed,
                kept,
                why: error.chain(),
                source: Box::new(source),
            })
        }
    }
}

/// Whether the agent of a revision that failed so may have run, and so have changed its data.
pub(super) fn may_have_started(error: &OperationError) -> bool {
    matches!(
        error,
        OperationError::Job { .. }
            | OperationError::NotHealthy { .. }
            | OperationError::Unsettled(_)
            | OperationError::Earlier(_)
    )
}
