//! Restore: the agent stops, its restore unit puts the wanted snapshot in place, it starts
//! again and answers. The state that was there is kept until the operator says otherwise (`kept`).

use serde_json::{Value, json};

use super::kept;
use crate::failpoint;
use crate::host::systemd::JobResult;
use crate::layout::UnitNames;
use crate::protect::{self, ProtectError, RestoreOrder};
use crate::reconcile::blocking;
use crate::reconcile::converge::{converge, stop, wait_healthy};
use crate::reconcile::error::{OperationError, chain};
use crate::reconcile::evidence;
use crate::reconcile::room;
use crate::reconcile::run::Run;
use crate::reconcile::watched::start_watched;
use crate::state::Wanted;
use crate::tenant::{Edge, TenantState};

/// Brings a tenant's state back.
///
/// Cut short, it goes on if the order is still there; an identity that was handed over is
/// part of the order, in memory (`/run`) and gone with a reboot.
pub(super) async fn run(run: &Run) -> Result<Value, OperationError> {
    match run.operation.request["kept"].as_str() {
        Some("put-back") => return kept::put_back(run).await,
        Some("give-up") => return kept::give_up(run).await,
        _ => {}
    }
    let engine = &run.engine;
    let row = run.row().await?;
    let names = UnitNames(&row.id);
    let restore_unit = names.instance("restore", "service");
    let snapshot = run.operation.request["snapshot"].as_u64();
    let identity = {
        let mut identities = engine
            .identities
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        identities.remove(&run.operation.id)
    };
    let given = run.operation.request["identity-given"]
        .as_bool()
        .unwrap_or(false);
    let (layout, tenant) = (engine.layout.clone(), row.id.clone());
    if given && identity.is_none() && !protect::has_order(&engine.layout, &row.id) {
        run.step("put everything back as it was").await?;
        converge(run).await?;
        return Err(OperationError::Interrupted);
    }
    if !given && !has_identity(run).await? {
        // Said before the agent is stopped for nothing.
        return Err(OperationError::Restore(
            ProtectError::NoIdentity(row.id.to_string()).to_string(),
        ));
    }
    // What this very operation has put aside, before it was cut short, is no reason to stop.
    if let Some(kept) = kept_now(run).await?
        && kept.since < run.operation.started_at
    {
        return Err(OperationError::KeepsOld {
            tenant: row.id,
            since: kept.since,
        });
    }
    has_room(run, snapshot).await?;
    if row.state != TenantState::Restoring {
        // Likewise. Not when it goes on after a crash: then the agent is down, and the unit decides.
        run.step("ask the store").await?;
        protect::probe_store(&engine.settings())
            .await
            .map_err(|error| {
                let why = anyhow::Error::from(error);
                OperationError::Restore(format!("tenant {} was left as it is: {why:#}", row.id))
            })?;
        run.follow(Edge::Restore, None).await?;
    }
    if identity.is_some() || !given {
        run.step("write the order").await?;
        let order = RestoreOrder {
            snapshot,
            identity,
            allow_old: run.operation.request["allow-old"]
                .as_bool()
                .unwrap_or(false),
            until_done: false,
        };
        blocking(move || protect::write_order(&layout, &tenant, &order))
            .await
            .map_err(|error| OperationError::Restore(chain(&error)))?;
    }
    failpoint::hit("operation.restore-ordered");
    stop_agent(run).await?;
    let result = start_watched(run, &restore_unit, "restore").await?;
    failpoint::hit("operation.restore-done");
    let restored = if result == JobResult::Done {
        Ok(())
    } else {
        let why = evidence::last_word(&restore_unit).await;
        Err(OperationError::Restore(format!(
            "tenant {}: nothing was restored and the state is as it was: {}",
            row.id,
            why.as_deref().unwrap_or("no word of why")
        )))
    };
    // Whatever came of it, no order may outlive the operation.
    let (layout, tenant) = (engine.layout.clone(), row.id.clone());
    let report = blocking(move || protect::take_restore_report(&layout, &tenant))
        .await
        .map_err(|error| OperationError::Restore(error.to_string()));
    go_on(run).await?;
    restored?;
    let report = report.map_err(|error| OperationError::Restore(chain(&error)))?;
    let kept = kept_now(run).await?;
    Ok(json!({ "tenant": row.id, "report": report, "kept": kept }))
}

/// Stops the agent, for its state to be replaced.
pub(super) async fn stop_agent(run: &Run) -> Result<(), OperationError> {
    run.step("stop the agent").await?;
    let names = UnitNames(run.tenant()?);
    for unit in [names.instance("awake", "service"), names.service()] {
        stop(run, &unit).await?;
    }
    Ok(())
}

/// Brings the tenant back to what is wanted of it.
pub(super) async fn go_on(run: &Run) -> Result<(), OperationError> {
    converge(run).await?;
    let row = run.row().await?;
    let state = match row.wanted {
        Wanted::Running => {
            wait_healthy(run).await?;
            return run.reach(TenantState::Running, None).await;
        }
        Wanted::Suspended => TenantState::Suspended,
        _ => TenantState::Stopped,
    };
    run.reach(state, row.held_because).await
}

/// The state from before an earlier restore, if it is kept.
async fn kept_now(run: &Run) -> Result<Option<protect::Kept>, OperationError> {
    let (layout, tenant) = (run.engine.layout.clone(), run.tenant()?.clone());
    Ok(blocking(move || protect::kept(&layout, &tenant)).await)
}

/// Refuses before the agent is stopped when the snapshot does not fit beside the state. What
/// this host does not know of the snapshot it finds out when it is restored.
async fn has_room(run: &Run, snapshot: Option<u64>) -> Result<(), OperationError> {
    let tenant = run.tenant()?;
    let known = run.engine.snapshots(Some(tenant)).await?;
    let wanted = match snapshot {
        None => known.last(),
        Some(number) => known.iter().find(|known| known.snapshot == number),
    };
    match wanted {
        None => Ok(()),
        Some(found) => {
            let what = format!("restoring snapshot {} of {tenant}", found.snapshot);
            room::check(&run.engine, &what, found.bytes).await
        }
    }
}

/// Whether the restore unit will find an identity on this host.
async fn has_identity(run: &Run) -> Result<bool, OperationError> {
    let layout = run.engine.layout.clone();
    blocking(move || protect::has_identity(&layout))
        .await
        .map_err(|error| OperationError::Restore(chain(&error)))
}
