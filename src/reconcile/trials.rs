//! Watches revisions on trial: makes those good that are healthy for long enough, and has the others rolled back.
//! Their deadlines are in the state database, so that a restart of the daemon changes nothing; what becomes of a
//! trial is decided in `trial`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};

use super::engine::Engine;
use super::error::OperationError;
use super::operations;
use super::run::Run;
use super::trial::{GOING_BACK_FAILED, Verdict, later, verdict};
use crate::failpoint;
use crate::host::clock;
use crate::state::{Goal, OperationKind, TenantRow, Trial, Why};
use crate::tenant::{FailureCause, TenantState};

/// Who the audit log names for what trials lead to.
pub const ACTOR: &str = "tenantd";

/// Longest time without a look: nothing is missed for longer, whatever was not told.
const LOOK: SignedDuration = SignedDuration::from_secs(30);

/// An installed revision answers: it is on trial from here on, unless it is known to be good.
pub async fn arrived(run: &Run, revision: u64) -> Result<(), OperationError> {
    let (engine, row) = (&run.engine, run.row().await?);
    let (database, tenant) = (&engine.database, row.id.clone());
    if row.good_revision == Some(revision) {
        return Ok(database.end_trial(tenant).await?);
    }
    let now = clock::now();
    let healthy_for = healthy_for(engine);
    if healthy_for.is_zero() {
        let actor = run.operation.actor.clone();
        database
            .promote(tenant.clone(), revision, actor, now)
            .await?;
        failpoint::hit("apply.good");
        operations::proven(engine, tenant, revision).await?;
        return Ok(());
    }
    let unit = crate::layout::UnitNames(&tenant).service();
    let service = engine.systemd.details(&unit).await?.service;
    let trial = Trial {
        tenant,
        revision,
        operation: run.operation.id,
        ends_at: later(now, healthy_for),
        restarts_before: service.map_or(0, |service| service.restarts),
        crashes: 0,
        failure: None,
        cause: None,
    };
    database.set_trial(trial).await?;
    failpoint::hit("trial.begun");
    Ok(())
}

/// Going back from a revision that failed has failed as well: the decision stays.
pub async fn going_back_failed(run: &Run) -> Result<(), OperationError> {
    let database = &run.engine.database;
    if let Some(trial) = database.trial(run.tenant()?.clone()).await? {
        let stuck = Trial {
            ends_at: GOING_BACK_FAILED,
            ..trial
        };
        database.set_trial(stuck).await?;
    }
    Ok(())
}

fn healthy_for(engine: &Engine) -> SignedDuration {
    SignedDuration::from_secs(engine.settings().update.healthy_for.seconds().into())
}

/// Watches for as long as the process lives.
pub async fn watch(engine: Arc<Engine>) {
    loop {
        let now = clock::now();
        let next = match look(&engine).await {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot look after revisions on trial"
                );
                later(now, LOOK)
            }
        };
        let pause = next.duration_since(clock::now()).min(LOOK);
        tokio::select! {
            () = engine.trials_changed.notified() => {}
            () = tokio::time::sleep(Duration::try_from(pause).unwrap_or_default()) => {}
        }
    }
}

/// Looks at every trial; gives when to look again.
async fn look(engine: &Arc<Engine>) -> Result<Timestamp, OperationError> {
    let trials = engine.database.trials().await?;
    let looked = join_all(trials.into_iter().map(|trial| look_at(engine, trial))).await;
    let mut next = Timestamp::MAX;
    for looked in looked {
        next = next.min(looked?);
    }
    Ok(next)
}

async fn look_at(engine: &Arc<Engine>, trial: Trial) -> Result<Timestamp, OperationError> {
    let tenant = trial.tenant.clone();
    // Its end is told.
    if engine.is_at_work(&tenant) {
        return Ok(Timestamp::MAX);
    }
    let database = &engine.database;
    let Some(row) = database.find_tenant(tenant.clone()).await? else {
        database.end_trial(tenant).await?;
        return Ok(Timestamp::MAX);
    };
    let now = clock::now();
    let restarts = engine.agent_view(&tenant).restarts;
    match verdict(&trial, &row, restarts, healthy_for(engine), now) {
        Verdict::Wait(until) => Ok(until),
        Verdict::Anew { crashes, ends_at } => {
            tracing::info!(%tenant, crashes, "crashed on trial; its time begins anew");
            let anew = Trial {
                ends_at,
                crashes,
                ..trial
            };
            database.set_trial(anew).await?;
            Ok(ends_at)
        }
        Verdict::Over => {
            database.end_trial(tenant).await?;
            Ok(Timestamp::MAX)
        }
        Verdict::Ask => match super::converge::ask_through_ingress(engine, &tenant).await {
            Ok(()) => {
                // Somebody may have begun something with it meanwhile: then it is judged afterwards.
                if engine.is_at_work(&tenant) {
                    return Ok(Timestamp::MAX);
                }
                tracing::info!(%tenant, revision = trial.revision, "the revision is good");
                database
                    .promote(
                        tenant.clone(),
                        trial.revision,
                        ACTOR.to_owned(),
                        clock::now(),
                    )
                    .await?;
                failpoint::hit("trial.promoted");
                operations::proven(engine, tenant, trial.revision).await?;
                Ok(Timestamp::MAX)
            }
            Err(why) => fail(engine, trial, &row, &why, FailureCause::Unhealthy).await,
        },
        Verdict::Failed(why) => {
            let cause = trial.cause.or(row.cause);
            fail(
                engine,
                trial,
                &row,
                &why,
                cause.unwrap_or(FailureCause::CrashLoop),
            )
            .await
        }
    }
}

/// A trial has failed: its tenant is rolled back, where there is something to go back to.
async fn fail(
    engine: &Arc<Engine>,
    trial: Trial,
    row: &TenantRow,
    why: &str,
    cause: FailureCause,
) -> Result<Timestamp, OperationError> {
    let (database, tenant, revision) = (&engine.database, trial.tenant.clone(), trial.revision);
    if engine.is_at_work(&tenant) {
        return Ok(Timestamp::MAX);
    }
    let why = format!("revision {revision} failed on trial: {why}");
    tracing::warn!(%tenant, "{why}");
    let Some(to) = operations::release_before(engine, row, revision).await else {
        let why = Why {
            actor: ACTOR.to_owned(),
            at: clock::now(),
            reason: Some(why),
            cause: None,
        };
        // Its cause is added by whoever next looks at where it stands.
        database
            .move_tenant(tenant.clone(), Goal::At(TenantState::Failed), why)
            .await?;
        database.end_trial(tenant).await?;
        return Ok(Timestamp::MAX);
    };
    if trial.failure.is_none() {
        let failed = Trial {
            failure: Some(why.clone()),
            cause: Some(cause),
            ..trial.clone()
        };
        database.set_trial(failed).await?;
        failpoint::hit("trial.failed");
    }
    let request = operations::rollback_of_trial(engine, &trial, to, why, Some(cause)).await;
    let actor = ACTOR.to_owned();
    engine
        .submit(OperationKind::Rollback, Some(tenant), request, actor)
        .await?;
    Ok(Timestamp::MAX)
}
