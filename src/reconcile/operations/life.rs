//! Start, stop, restart, suspend, resume: what is wanted is recorded, then made so.

use serde_json::{Value, json};

use crate::reconcile::converge::{converge, start_agent, wait_healthy};
use crate::reconcile::decide::Step;
use crate::reconcile::error::OperationError;
use crate::reconcile::run::Run;
use crate::state::{TenantRow, Wanted};
use crate::tenant::{Edge, TenantState};

/// Starts a stopped tenant, or one that systemd has given up.
pub(super) async fn start(run: &Run) -> Result<Value, OperationError> {
    let row = run.row().await?;
    if row.wanted == Wanted::Suspended {
        return Err(suspended(&row));
    }
    bring_up(run, row).await
}

/// Ends a suspension.
pub(super) async fn resume(run: &Run) -> Result<Value, OperationError> {
    let row = run.row().await?;
    bring_up(run, row).await
}

async fn bring_up(run: &Run, row: TenantRow) -> Result<Value, OperationError> {
    let Some(revision) = row.current_revision else {
        return Err(OperationError::NoRevision(row.id));
    };
    run.want(Wanted::Running, None).await?;
    if row.state != TenantState::Running {
        run.follow(Edge::Start, None).await?;
    }
    let up = async {
        converge(run).await?;
        // Systemd gives an agent up after a number of crashes; the operator asks again.
        start_agent(run, &Step::StartAgent).await?;
        wait_healthy(run).await
    };
    match up.await {
        Ok(()) => {
            run.set_state(TenantState::Running, None).await?;
            Ok(json!({ "tenant": row.id, "revision": revision }))
        }
        Err(error) => {
            run.follow(Edge::Fail, Some(error.chain())).await?;
            Err(error)
        }
    }
}

/// Holds a tenant until `start`.
pub(super) async fn stop(run: &Run) -> Result<Value, OperationError> {
    let row = run.row().await?;
    if row.wanted == Wanted::Suspended {
        return Err(suspended(&row));
    }
    hold(run, Wanted::Stopped, Edge::Stop, None).await
}

/// Holds a tenant until `resume`.
pub(super) async fn suspend(run: &Run) -> Result<Value, OperationError> {
    let reason = run.operation.request["reason"]
        .as_str()
        .unwrap_or("operator")
        .to_owned();
    hold(run, Wanted::Suspended, Edge::Suspend, Some(reason)).await
}

async fn hold(
    run: &Run,
    wanted: Wanted,
    edge: Edge,
    because: Option<String>,
) -> Result<Value, OperationError> {
    run.want(wanted, because.clone()).await?;
    converge(run).await?;
    run.follow(edge, because).await?;
    Ok(json!({ "tenant": run.tenant()? }))
}

/// Stops and starts the agent.
pub(super) async fn restart(run: &Run) -> Result<Value, OperationError> {
    let row = run.row().await?;
    match row.wanted {
        Wanted::Suspended => return Err(suspended(&row)),
        Wanted::Stopped | Wanted::Removed => return Err(OperationError::Held(row.id)),
        Wanted::Running => {}
    }
    run.follow(Edge::Restart, None).await?;
    let up = async {
        converge(run).await?;
        start_agent(run, &Step::RestartAgent).await?;
        wait_healthy(run).await
    };
    match up.await {
        Ok(()) => {
            run.set_state(TenantState::Running, None).await?;
            Ok(json!({ "tenant": row.id, "revision": row.current_revision }))
        }
        Err(error) => {
            run.follow(Edge::Fail, Some(error.chain())).await?;
            Err(error)
        }
    }
}

fn suspended(row: &TenantRow) -> OperationError {
    OperationError::Suspended {
        tenant: row.id.clone(),
        because: row
            .held_because
            .clone()
            .unwrap_or_else(|| "operator".to_owned()),
    }
}
