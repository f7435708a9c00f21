//! Reclaim: a terminated tenant comes back as it was: revision, units, state, and what was wanted of it.

use serde_json::{Value, json};

use super::life::bring_up;
use crate::failpoint;
use crate::reconcile::converge::converge;
use crate::reconcile::error::OperationError;
use crate::reconcile::run::Run;
use crate::state::Wanted;
use crate::tenant::TenantState;

/// Takes a removal back. Run again, it finds the tenant on its way back and goes on.
pub(super) async fn run(run: &Run) -> Result<Value, OperationError> {
    let engine = &run.engine;
    let row = run.row().await?;
    run.step("take the removal back").await?;
    let number = row
        .current_revision
        .ok_or_else(|| OperationError::NoRevision(row.id.clone()))?;
    let wanted = if row.state == TenantState::Terminated {
        let why = run.why(Some("reclaimed".to_owned()), None);
        engine.database.reclaim(row.id.clone(), why).await?
    } else {
        row.wanted
    };
    failpoint::hit("reclaim.taken-back");
    match wanted {
        Wanted::Running => return bring_up(run).await,
        Wanted::Suspended => {
            converge(run).await?;
            run.reach(TenantState::Suspended, run.row().await?.held_because)
                .await?;
        }
        Wanted::Stopped | Wanted::Removed => {
            converge(run).await?;
            run.reach(TenantState::Stopped, None).await?;
        }
    }
    Ok(json!({ "tenant": row.id, "revision": number }))
}
