//! What tenantd does by itself: starts again what failed, restarts what does not answer, erases what is due.
//! Level-triggered and recorded before it is done; what is to be done is `policy`'s decision.

use std::sync::Arc;

use serde_json::{Value, json};

use super::blocking;
use super::engine::Engine;
use super::error::OperationError;
use super::operations::{by_itself, release_before, rollback_of_trial};
use super::policy::{Recovery, Standing, breaker, is_unhealthy, pause, recovery};
use super::supervisor;
use crate::failpoint;
use crate::health::{self, Report};
use crate::host::clock;
use crate::host::systemd::ActiveState;
use crate::layout::UnitNames;
use crate::protect;
use crate::state::{OperationKind, Retry, TenantRow, Wanted};
use crate::tenant::{FailureCause, TenantState};

/// Who the audit log names for it.
const ACTOR: &str = "tenantd";

/// Rounds between two attempts at erasures that are pending: a day, at four rounds a minute.
const ROUNDS_PER_ERASURE: u32 = 24 * 60 * 4;

/// Looks after every tenant once; `round` counts the calls from 1.
pub async fn tend(engine: &Arc<Engine>, round: u32) {
    if let Err(error) = look_after_all(engine).await {
        warn(&error, "cannot look after the tenants");
    }
    if round % ROUNDS_PER_ERASURE == 1 {
        let engine = Arc::clone(engine);
        // A store may take its time; nobody waits for it.
        tokio::spawn(async move {
            let settings = engine.settings();
            if let Err(error) = protect::go_on_erasing(&engine.layout, &settings.store).await {
                warn(&error, "cannot go on with erasures that are pending");
            }
        });
    }
}

fn warn(error: &(dyn std::error::Error + 'static), what: &str) {
    tracing::warn!(error, "{what}");
}

async fn look_after_all(engine: &Arc<Engine>) -> Result<(), OperationError> {
    supervisor::look_at_sleepers(engine).await?;
    let retries = engine.database.retries().await?;
    let layout = engine.layout.clone();
    let silent = blocking(move || health::reports(&layout)).await;
    for row in engine.database.tenants().await? {
        if engine.is_busy(&row.id) {
            continue;
        }
        let retry = retries.get(row.id.as_str()).copied().unwrap_or_default();
        match row.state {
            TenantState::Terminated => erase_if_due(engine, row, retry).await?,
            _ => match silent.get(&row.id) {
                Some(report) if row.state == TenantState::Running => {
                    restart_if_silent(engine, row, retry, report).await?;
                }
                _ => look_after(engine, row, retry).await?,
            },
        }
    }
    Ok(())
}

async fn look_after(
    engine: &Arc<Engine>,
    row: TenantRow,
    retry: Retry,
) -> Result<(), OperationError> {
    let settings = engine.settings().failure;
    let due = rollback_due(engine, &row).await?;
    let is_broken = row.state == TenantState::Failed && {
        let rollbacks = engine.database.rollbacks(row.id.clone()).await?;
        breaker(&rollbacks, &settings).is_some()
    };
    let standing = Standing {
        tenant: &row.id,
        state: row.state,
        wanted: row.wanted,
        // Going back brings in nothing new, and helps where another start would not.
        cause: row.cause.filter(|_| due.is_none()),
        since: row.changed_at,
        is_installed: row.current_revision.is_some(),
        retry,
        is_broken: is_broken && due.is_none(),
    };
    let database = &engine.database;
    match recovery(&standing, &settings, clock::now()) {
        Recovery::Nothing => {}
        Recovery::Settled => database.set_retry(row.id, Retry::default()).await?,
        Recovery::Plan(next_try) => {
            tracing::info!(tenant = %row.id, %next_try, "it failed and will be tried again");
            let planned = Retry {
                next_try: Some(next_try),
                ..retry
            };
            database.set_retry(row.id, planned).await?;
        }
        Recovery::Try => {
            let tried = Retry {
                attempts: retry.attempts.saturating_add(1),
                next_try: None,
            };
            // Before the start: a tenantd that is killed by it does not try it again at once.
            database.set_retry(row.id.clone(), tried).await?;
            failpoint::hit("recover.counted");
            tracing::info!(tenant = %row.id, attempt = tried.attempts, "trying again");
            let (kind, request) = match due {
                Some(request) => (OperationKind::Rollback, request),
                None => (OperationKind::Start, by_itself(json!({}))),
            };
            engine
                .submit(kind, Some(row.id), request, ACTOR.to_owned())
                .await?;
        }
    }
    Ok(())
}

/// The request of a rollback that was decided and did not get through.
async fn rollback_due(engine: &Engine, row: &TenantRow) -> Result<Option<Value>, OperationError> {
    if row.state != TenantState::Failed {
        return Ok(None);
    }
    let trial = engine.database.trial(row.id.clone()).await?;
    let Some(trial) = trial.filter(|trial| row.current_revision == Some(trial.revision)) else {
        return Ok(None);
    };
    let to = release_before(engine, row, trial.revision).await;
    let (Some(why), Some(to)) = (trial.failure.clone(), to) else {
        return Ok(None);
    };
    let cause = trial.cause;
    Ok(Some(
        rollback_of_trial(engine, &trial, to, why, cause).await,
    ))
}

/// Restarts an agent that runs and does not answer; the next time only after a pause that grows.
async fn restart_if_silent(
    engine: &Arc<Engine>,
    row: TenantRow,
    retry: Retry,
    report: &Report,
) -> Result<(), OperationError> {
    let (settings, now) = (engine.settings().failure, clock::now());
    if row.wanted != Wanted::Running || retry.next_try.is_some_and(|at| at > now) {
        return Ok(());
    }
    let details = engine
        .systemd
        .details(&UnitNames(&row.id).service())
        .await?;
    let is_up = details.active == ActiveState::Active;
    let active_since = details.active_since.filter(|_| is_up);
    if !is_unhealthy(&report.failures, active_since, &settings) {
        return Ok(());
    }
    let tried = Retry {
        attempts: retry.attempts.saturating_add(1),
        next_try: Some(now + pause(retry.attempts, row.cause, &settings, &row.id)),
    };
    engine.database.set_retry(row.id.clone(), tried).await?;
    failpoint::hit("recover.counted");
    let failed = report.failures.len();
    let reason = format!("{failed} live probes in a row failed: {}", report.last);
    tracing::warn!(tenant = %row.id, reason, "it does not answer; restarting it");
    let request = by_itself(json!({ "cause": FailureCause::Unhealthy, "reason": reason }));
    let kind = OperationKind::Restart;
    engine
        .submit(kind, Some(row.id), request, ACTOR.to_owned())
        .await?;
    Ok(())
}

/// Erases a terminated tenant whose retention is over; where that fails, again after a pause that grows.
async fn erase_if_due(
    engine: &Arc<Engine>,
    row: TenantRow,
    retry: Retry,
) -> Result<(), OperationError> {
    let (settings, now) = (engine.settings().failure, clock::now());
    let ending = engine.database.ending(row.id.clone()).await?;
    let erase_at = ending.and_then(|ending| ending.erase_at);
    if erase_at.is_some_and(|at| at <= now) && retry.next_try.is_none_or(|at| at <= now) {
        let tried = Retry {
            attempts: retry.attempts.saturating_add(1),
            next_try: Some(now + pause(retry.attempts, None, &settings, &row.id)),
        };
        engine.database.set_retry(row.id.clone(), tried).await?;
        tracing::info!(tenant = %row.id, "its retention is over; erasing it");
        let request = by_itself(json!({ "purge": true }));
        let kind = OperationKind::Remove;
        engine
            .submit(kind, Some(row.id), request, ACTOR.to_owned())
            .await?;
    }
    Ok(())
}
