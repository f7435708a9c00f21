//! Finds tenants that are not as recorded and has them put right, each by an operation.

use std::sync::Arc;

use serde_json::json;

use super::blocking;
use super::engine::Engine;
use super::error::OperationError;
use super::observe::UnitDir;
use crate::host::systemd::ActiveState;
use crate::quadlet::UnitSet;
use crate::state::{Operation, OperationKind, Wanted};
use crate::tenant::{TenantId, TenantState};

/// Who the audit log names for repairs.
const ACTOR: &str = "tenantd";

/// Starts an operation for every tenant whose files or agent are not as recorded, and returns
/// the operations at their beginning.
///
/// An agent that systemd has given up stays so: starting it again is the operator's decision.
pub async fn repair(engine: &Arc<Engine>) -> Result<Vec<Operation>, OperationError> {
    let candidates = candidates(engine).await?;
    let wrong = differing(engine, candidates, |candidate| candidate.down).await;
    let mut repairs = Vec::new();
    for tenant in wrong {
        tracing::warn!(%tenant, "not as recorded; putting it right");
        let actor = ACTOR.to_owned();
        let repair = engine
            .submit(OperationKind::Reconcile, Some(tenant), json!({}), actor)
            .await?;
        repairs.push(repair);
    }
    Ok(repairs)
}

/// The tenants whose files are not as recorded, while no operation is at them.
pub async fn drifted(engine: &Engine) -> Result<Vec<TenantId>, OperationError> {
    let candidates = candidates(engine).await?;
    Ok(differing(engine, candidates, |_| false).await)
}

/// A tenant that should be as recorded.
struct Candidate {
    id: TenantId,
    set: UnitSet,
    /// Its agent should run and does not.
    down: bool,
}

async fn candidates(engine: &Engine) -> Result<Vec<Candidate>, OperationError> {
    let mut candidates = Vec::new();
    for row in engine.database.tenants().await? {
        let Some(number) = row.current_revision else {
            continue;
        };
        // What is terminated has no units, and what has failed is started when its time has come.
        if engine.is_busy(&row.id) || row.wanted == Wanted::Removed {
            continue;
        }
        let Some(stored) = engine.database.revision(row.id.clone(), number).await? else {
            continue;
        };
        let down = row.wanted == Wanted::Running
            && row.state != TenantState::Failed
            && engine.agent_view(&row.id).active == ActiveState::Inactive;
        candidates.push(Candidate {
            id: row.id,
            set: stored.unit_set,
            down,
        });
    }
    Ok(candidates)
}

/// Those whose files differ, and those that `also` names.
async fn differing(
    engine: &Engine,
    candidates: Vec<Candidate>,
    also: fn(&Candidate) -> bool,
) -> Vec<TenantId> {
    let layout = engine.layout.clone();
    blocking(move || {
        let unit_dir = UnitDir::read(&layout);
        let is_as_recorded = |Candidate { id, set, .. }: &Candidate| {
            // What cannot be read is looked at by the operation, which can say why.
            unit_dir.as_ref().is_ok_and(|dir| {
                dir.drift(&layout, id, Some(set))
                    .is_ok_and(|drift| drift.is_none())
            })
        };
        candidates
            .into_iter()
            .filter(|candidate| also(candidate) || !is_as_recorded(candidate))
            .map(|candidate| candidate.id)
            .collect()
    })
    .await
}
