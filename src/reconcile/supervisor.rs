//! Watches the tenants: keeps the picture of their units and records where each stands.
//!
//! Level-triggered: events only make it look sooner. After missed events, and with every
//! full look, the picture is asked for anew.

use std::sync::Arc;

use super::blocking;
use super::diagnose::{self, symptoms, with_kernels_word};
use super::engine::Engine;
use super::error::OperationError;
use super::judge::judge;
use crate::host::freezer::{Freezer, Owner};
use crate::host::systemd::{ActiveState, UnitEvent};
use crate::host::{cgroup, clock};
use crate::state::{Goal, TenantRow, Wanted, Why};
use crate::tenant::{TenantId, TenantState};

/// The units that the picture shows.
const PATTERNS: &[&str] = &["tenant-*.service", "tenantd-*@*"];

/// Who the audit log names for what the supervisor saw.
const ACTOR: &str = "tenantd";

/// Asks for the whole picture and judges every tenant.
pub async fn look(engine: &Engine) -> Result<(), OperationError> {
    engine.record_ends().await;
    let units = engine.systemd.list_units(PATTERNS).await?;
    engine.views().replace(units);
    for row in engine.database.tenants().await? {
        note_earlier_kills(engine, &row.id).await;
        judge_one(engine, &row.id).await?;
    }
    Ok(())
}

/// What the kernel killed before an agent that runs was started says nothing about its next end.
async fn note_earlier_kills(engine: &Engine, tenant: &TenantId) {
    if engine.agent_view(tenant).active != ActiveState::Active {
        return;
    }
    let (layout, asked) = (engine.layout.clone(), tenant.clone());
    if let Some(kills) = blocking(move || cgroup::oom_kills(&layout, &asked)).await {
        engine.views().note_kills(tenant, kills);
    }
}

/// Follows events until the connection to systemd is gone for good.
pub async fn watch(engine: Arc<Engine>) {
    let mut events = engine.systemd.events();
    while let Some(event) = events.next().await {
        let outcome = match event {
            UnitEvent::Changed(change) => {
                let tenant = tenant_of(&change.unit);
                engine.views().take(change);
                match tenant {
                    Some(tenant) => judge_one(&engine, &tenant).await,
                    None => Ok(()),
                }
            }
            UnitEvent::Missed => look(&engine).await,
            UnitEvent::JobEnded { .. } | UnitEvent::Reloading(_) => Ok(()),
        };
        if let Err(error) = outcome {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot record a change"
            );
        }
    }
}

/// Records where a tenant stands, unless an operation is at work on it and records itself.
pub async fn judge_one(engine: &Engine, tenant: &TenantId) -> Result<(), OperationError> {
    if engine.is_busy(tenant) {
        return Ok(());
    }
    let Some(row) = engine.database.find_tenant(tenant.clone()).await? else {
        return Ok(());
    };
    if row.current_revision.is_none() {
        return Ok(());
    }
    let frozen = is_frozen(engine, tenant);
    let view = with_kernels_word(engine, tenant, engine.agent_view(tenant)).await;
    // Only of one that is down it matters whether it may be.
    let sleeps = view.active == ActiveState::Inactive
        && row.wanted == Wanted::Running
        && sleeps(engine, &row).await?;
    let judged = judge(
        row.state,
        row.wanted,
        row.held_because.as_deref(),
        &view,
        frozen,
        sleeps,
        engine.has_failed_dependency(tenant),
    );
    let (state, reason) = match judged {
        Some((state, reason)) if state != row.state => (state, reason),
        // What an operation recorded as failed may lack its cause.
        _ if row.state == TenantState::Failed && row.cause.is_none() => (row.state, row.reason),
        _ => return Ok(()),
    };
    let cause = match state {
        TenantState::Failed | TenantState::Restarting => {
            let stored = match row.current_revision {
                Some(number) => engine.database.revision(row.id.clone(), number).await?,
                None => None,
            };
            let symptoms = symptoms(engine, tenant, view, stored.as_ref()).await;
            Some(diagnose::cause(&symptoms))
        }
        _ => None,
    };
    tracing::info!(
        %tenant, from = %row.state, to = %state, reason,
        cause = cause.map(tracing::field::display),
        "tenant changed its state"
    );
    let why = Why {
        actor: ACTOR.to_owned(),
        at: clock::now(),
        reason,
        cause,
    };
    engine
        .database
        .move_tenant(row.id, Goal::At(state), why)
        .await?;
    engine.trials_changed.notify_one();
    Ok(())
}

/// Whether it was put to sleep: frozen.
fn is_frozen(engine: &Engine, tenant: &TenantId) -> bool {
    let record = Freezer::new(engine.layout.clone()).record(tenant);
    record.is_ok_and(|record| record.is_some_and(|record| record.owner == Owner::Sleep))
}

async fn sleeps(engine: &Engine, row: &TenantRow) -> Result<bool, OperationError> {
    let Some(number) = row.current_revision else {
        return Ok(false);
    };
    let stored = engine.database.revision(row.id.clone(), number).await?;
    Ok(stored.is_some_and(|stored| stored.revision.resolved.wake.sleeps()))
}

/// Records who was put to sleep or woken: that is no event of systemd's, so whoever wants to know looks.
pub async fn look_at_sleepers(engine: &Engine) -> Result<(), OperationError> {
    for row in engine.database.tenants().await? {
        let is_asleep = row.state == TenantState::Frozen;
        if (is_asleep || row.state == TenantState::Running)
            && is_frozen(engine, &row.id) != is_asleep
        {
            judge_one(engine, &row.id).await?;
        }
    }
    Ok(())
}

/// `tenant-acme.service` is the agent of acme.
fn tenant_of(unit: &str) -> Option<TenantId> {
    unit.strip_prefix("tenant-")?
        .strip_suffix(".service")?
        .parse()
        .ok()
}
