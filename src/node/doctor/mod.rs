//! The doctor: what the host should be, what it is, and what to do about the difference.
//! `look` and `evidence` see, `checks` judge (pure), `mend` does what is safe; nothing here touches what tenants have stored.

mod check;
mod checks;
mod evidence;
mod fix;
mod look;
pub mod mend;
mod store;

use std::sync::Arc;

use super::NodeSettings;
use crate::api::CheckResult;
use crate::host::systemd::Systemd;
use crate::layout::Layout;
use crate::protect;
use crate::reconcile::{Engine, drift};
use crate::tenant::TenantState;

pub use check::{Check, Severity};
pub use checks::CHECKS;
pub use evidence::{Evidence, Witnesses};
pub use fix::Fix;

/// Looks at the host and judges what is found.
pub async fn examine(engine: &Engine) -> Vec<CheckResult> {
    let rows = engine.database.tenants().await.unwrap_or_default();
    let drifted = drift::drifted(engine).await;
    let alive = rows
        .iter()
        .filter(|row| row.state != TenantState::Terminated);
    let witnesses = Witnesses {
        layout: engine.layout.clone(),
        daemon: Ok(()),
        systemd: Some(engine.systemd.clone()),
        settings: Ok(engine.settings()),
        tenants: alive.map(|row| row.id.clone()).collect(),
        recorded: rows.iter().map(|row| row.id.clone()).collect(),
        drifted: drifted
            .map(|tenants| tenants.iter().map(ToString::to_string).collect())
            .map_err(|error| error.to_string()),
        storage: engine
            .usage_report(None)
            .await
            .map_or_else(|_| Vec::new(), |report| report.tenants),
        commitments: engine.commitments().await.ok(),
        front: engine.front_report().await.ok(),
    };
    judge(&evidence::gather(&witnesses).await)
}

/// As [`examine`], in a process of its own while the daemon does not answer; `why` says how
/// that showed. Needs root to see everything.
pub async fn examine_alone(
    layout: &Layout,
    settings: Result<NodeSettings, String>,
    why: String,
) -> Vec<CheckResult> {
    let tenants = protect::tenants(layout);
    let witnesses = Witnesses {
        layout: layout.clone(),
        daemon: Err(why),
        systemd: Systemd::connect().await.ok(),
        settings: settings.map(Arc::new),
        recorded: tenants.clone(),
        tenants,
        drifted: Err("the daemon was not asked, which knows what is recorded".to_owned()),
        storage: Vec::new(),
        commitments: None,
        front: None,
    };
    judge(&evidence::gather(&witnesses).await)
}

/// Finds out what the object store and its key can do, with an object of the doctor's own.
pub async fn examine_store(settings: &NodeSettings) -> Vec<CheckResult> {
    store::judge(&protect::examine_store(&settings.store).await)
}

/// Judges the evidence.
fn judge(evidence: &Evidence) -> Vec<CheckResult> {
    CHECKS.iter().map(|check| check.result(evidence)).collect()
}

#[cfg(test)]
mod tests;
