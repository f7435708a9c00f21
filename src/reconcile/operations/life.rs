//! Start, stop, restart, suspend, resume: what is wanted is recorded, then made so.

use serde_json::{Value, json};

use super::back::{decided_before, may_have_started, roll_back};
use super::premise::is_by_itself;
use super::rollback::release_before;
use crate::reconcile::converge::{converge, start_agent, wait_healthy};
use crate::reconcile::decide::Step;
use crate::reconcile::diagnose::cause_of;
use crate::reconcile::error::OperationError;
use crate::reconcile::run::Run;
use crate::reconcile::trials;
use crate::state::{TenantRow, Wanted};
use crate::tenant::{Edge, FailureCause, TenantState};

/// Starts a stopped tenant, or one that systemd has given up. An operator who asks begins anew:
/// what failed before does not count any more.
pub(super) async fn start(run: &Run) -> Result<Value, OperationError> {
    if !is_by_itself(&run.operation.request) {
        let tenant = run.tenant()?.clone();
        run.engine.database.forgive(tenant).await?;
    }
    bring_up(run).await
}

/// Ends a suspension.
pub(super) async fn resume(run: &Run) -> Result<Value, OperationError> {
    bring_up(run).await
}

/// Has the agent run, and answer.
pub(super) async fn bring_up(run: &Run) -> Result<Value, OperationError> {
    let row = run.row().await?;
    let Some(revision) = row.current_revision else {
        return Err(OperationError::NoRevision(row.id));
    };
    let before = TenantRow {
        wanted: Wanted::Running,
        ..row.clone()
    };
    if let Some((failed, why)) = decided_before(run).await? {
        return Err(roll_back(run, &before, failed, OperationError::Earlier(why)).await?);
    }
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
        Err(error) if is_unproven(run, &row, revision, &error).await => {
            Err(roll_back(run, &before, revision, error).await?)
        }
        up => {
            came_up(run, Some(revision), up).await?;
            Ok(json!({ "tenant": row.id, "revision": revision }))
        }
    }
}

/// Whether it is a revision's own fault that it does not come up, and there is an earlier release: it was applied while
/// the tenant was held, so this is the first that is seen of it.
async fn is_unproven(run: &Run, row: &TenantRow, revision: u64, error: &OperationError) -> bool {
    if row.good_revision == Some(revision) || !may_have_started(error) {
        return false;
    }
    let cause = cause_of(run, error).await;
    cause.is_some_and(FailureCause::is_the_agents)
        && release_before(&run.engine, row, revision).await.is_some()
}

/// Records what came of a start.
async fn came_up(
    run: &Run,
    revision: Option<u64>,
    up: Result<(), OperationError>,
) -> Result<(), OperationError> {
    match up {
        Ok(()) => {
            if let Some(revision) = revision {
                trials::arrived(run, revision).await?;
            }
            run.reach(TenantState::Running, None).await
        }
        Err(error) => {
            let cause = cause_of(run, &error).await;
            run.fail(&error, cause).await?;
            Err(error)
        }
    }
}

/// Holds a tenant until `start`.
pub(super) async fn stop(run: &Run) -> Result<Value, OperationError> {
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

/// Stops and starts the agent: an operator asked, or its live probe found it silent.
pub(super) async fn restart(run: &Run) -> Result<Value, OperationError> {
    let row = run.row().await?;
    run.restarting().await?;
    let up = async {
        converge(run).await?;
        start_agent(run, &Step::RestartAgent).await?;
        wait_healthy(run).await
    };
    came_up(run, row.current_revision, up.await).await?;
    Ok(json!({ "tenant": row.id, "revision": row.current_revision }))
}
