//! Remove: every unit, namespace and slice of the tenant goes. Its state and its backups stay until the
//! plan's retention is over, or go at once with `purge`.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::erase::erase;
use crate::failpoint;
use crate::host::{clock, files};
use crate::reconcile::blocking;
use crate::reconcile::converge::converge;
use crate::reconcile::error::OperationError;
use crate::reconcile::run::Run;
use crate::state::{Retry, TenantRow, Wanted};
use crate::tenant::TenantState;

/// Removes a tenant. Run again, it finds less to do.
pub(super) async fn run(run: &Run) -> Result<Value, OperationError> {
    let tenant = run.tenant()?.clone();
    let (engine, request) = (&run.engine, &run.operation.request);
    let purge = request["purge"].as_bool().unwrap_or(false);
    let keep_backups = request["keep-backups"].as_bool().unwrap_or(false);
    let row = engine.database.find_tenant(tenant.clone()).await?;
    if let Some(row) = &row
        && row.state != TenantState::Terminated
    {
        run.step("take the units away").await?;
        engine.database.begin_ending(tenant.clone()).await?;
        engine
            .database
            .set_retry(tenant.clone(), Retry::default())
            .await?;
        run.want(Wanted::Removed, None).await?;
        converge(run).await?;
        engine.database.end_trial(tenant.clone()).await?;
        failpoint::hit("remove.units-gone");
        // Neither may outlive the units: a tenant that comes back starts as it is wanted then.
        for file in [
            engine.layout.held_file(&tenant),
            engine.layout.runtime_file(&tenant),
        ] {
            blocking(move || files::remove(&file)).await?;
        }
    }
    match row {
        Some(row) if !purge && row.current_revision.is_some() => terminate(run, &row).await,
        // It never ran: there is nothing to come back to, and what is there was there before it.
        Some(_) if !purge => {
            let actor = run.operation.actor.clone();
            let directory = engine.layout.tenant_dir(&tenant);
            engine
                .database
                .forget_tenant(tenant.clone(), actor, None, clock::now())
                .await?;
            Ok(json!({ "tenant": tenant, "kept-state": directory }))
        }
        // Done already, by this operation before it was cut short, or by the one before it. Erasing is asked for.
        None if !purge => {
            let directory = engine.layout.tenant_dir(&tenant);
            Ok(json!({ "tenant": tenant, "kept-state": directory }))
        }
        _ => erase(run, &tenant, keep_backups).await,
    }
}

async fn terminate(run: &Run, row: &TenantRow) -> Result<Value, OperationError> {
    let database = &run.engine.database;
    let stored = match row.current_revision {
        Some(number) => database.revision(row.id.clone(), number).await?,
        None => None,
    };
    let retention = stored.map_or(0, |stored| {
        stored.revision.resolved.limits.retention.seconds()
    });
    let retention = SignedDuration::from_secs(retention.into());
    let erase_at = clock::now()
        .checked_add(retention)
        .unwrap_or(Timestamp::MAX);
    let why = run.why(None, None);
    let erase_at = database.terminate(row.id.clone(), erase_at, why).await?;
    failpoint::hit("remove.terminated");
    Ok(json!({ "tenant": row.id, "erase-at": erase_at }))
}
