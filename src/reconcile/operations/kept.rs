//! What becomes of the state that a restore replaced: it is put back, or given up.

use serde_json::{Value, json};

use super::restore::{go_on, stop_agent};
use crate::protect::{self, ProtectError};
use crate::reconcile::blocking;
use crate::reconcile::error::{OperationError, chain};
use crate::reconcile::run::Run;
use crate::tenant::{Edge, TenantState};

/// Exchanges the present state and the one from before the last restore.
pub(super) async fn put_back(run: &Run) -> Result<Value, OperationError> {
    let engine = &run.engine;
    let row = run.row().await?;
    if row.state != TenantState::Restoring {
        let (layout, tenant) = (engine.layout.clone(), row.id.clone());
        if blocking(move || protect::kept(&layout, &tenant))
            .await
            .is_none()
        {
            return Err(failed(&ProtectError::NothingKept(row.id)));
        }
        run.follow(Edge::Restore, None).await?;
    }
    stop_agent(run).await?;
    run.step("put the state from before the restore back")
        .await?;
    let (layout, tenant) = (engine.layout.clone(), row.id.clone());
    let operation = run.operation.id.to_string();
    let exchanged = blocking(move || protect::put_back(&layout, &tenant, &operation)).await;
    go_on(run).await?;
    exchanged.map_err(|error| failed(&error))?;
    Ok(json!({ "tenant": row.id }))
}

/// Removes the state from before the last restore; the agent goes on running.
pub(super) async fn give_up(run: &Run) -> Result<Value, OperationError> {
    run.step("remove the state from before the restore").await?;
    let (layout, tenant) = (run.engine.layout.clone(), run.tenant()?.clone());
    blocking(move || protect::give_up(&layout, &tenant))
        .await
        .map_err(|error| failed(&error))?;
    Ok(json!({ "tenant": run.tenant()? }))
}

fn failed(error: &ProtectError) -> OperationError {
    OperationError::Restore(chain(error))
}
