//! The two backups of a stopping host, within one budget of time: while the agents still run,
//! and of what their end still wrote. Hourly is the guarantee, this is the bonus.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use jiff::{SignedDuration, Timestamp};

use super::ProtectError;
use super::node::back_up_node;
use super::tenant::{Haste, back_up_tenant, newest, tenants};
use crate::backup::Silent;
use crate::host::freezer::Owner;
use crate::host::{clock, files};
use crate::layout::Layout;
use crate::node::NodeSettings;
use crate::tenant::TenantId;

/// Share of the budget that the first backup may use; the rest is for the agents' end and
/// the final backup.
const PRESTOP_SHARE: f64 = 0.5;

/// Who was backed up, and who was not for lack of time or for an error.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Committed or unchanged.
    pub done: Vec<String>,
    /// Not done, and why.
    pub missed: Vec<(String, String)>,
}

/// Backs up all tenants while their agents run, and notes when the budget ends.
pub async fn prestop_backup(
    layout: &Layout,
    settings: &NodeSettings,
) -> Result<ShutdownReport, ProtectError> {
    let budget = Duration::from_secs(settings.shutdown_budget_seconds.into());
    let end = clock::now() + SignedDuration::try_from(budget).unwrap_or_default();
    files::write(&deadline_file(layout), end.to_string().as_bytes(), 0o600)?;
    let time = budget.mul_f64(PRESTOP_SHARE);
    Ok(back_up_all(layout, settings, Some(Owner::Prestop), time).await)
}

/// Backs up what the agents wrote while they ended, and the node, in what is left of the budget.
pub async fn final_backup(
    layout: &Layout,
    settings: &NodeSettings,
) -> Result<ShutdownReport, ProtectError> {
    let budget = Duration::from_secs(settings.shutdown_budget_seconds.into());
    let path = deadline_file(layout);
    let deadline: Option<Timestamp> = files::read(&path, 64)
        .ok()
        .and_then(|text| String::from_utf8_lossy(&text).parse().ok());
    files::remove(&path)?;
    // Without the first backup's note, the whole budget is ours.
    let time = deadline.map_or(budget, |end| left(end, clock::now()));
    let begin = clock::monotonic();
    let mut report = back_up_all(layout, settings, None, time).await;
    let rest = time.saturating_sub(begin.elapsed());
    match tokio::time::timeout(rest, back_up_node(layout, settings, Haste::Shutdown)).await {
        Ok(Ok(_)) => report.done.push("(node)".to_owned()),
        Ok(Err(error)) => report.missed.push(("(node)".to_owned(), chain(&error))),
        Err(_) => report
            .missed
            .push(("(node)".to_owned(), "no time was left".to_owned())),
    }
    Ok(report)
}

fn left(end: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(now)).unwrap_or_default()
}

fn deadline_file(layout: &Layout) -> Utf8PathBuf {
    layout.run_dir().join("shutdown-deadline")
}

/// Those whose last snapshot added least come first: with the time there is, most get done.
async fn back_up_all(
    layout: &Layout,
    settings: &NodeSettings,
    owner: Option<Owner>,
    time: Duration,
) -> ShutdownReport {
    let mut tenants = tenants(layout);
    tenants.sort_by_key(|tenant| newest(layout, tenant.as_str()).map_or(0, |last| last.added));
    let begin = clock::monotonic();
    let mut report = ShutdownReport::default();
    for tenant in tenants {
        let rest = time.saturating_sub(begin.elapsed());
        let missed = match tokio::time::timeout(rest, one(layout, settings, &tenant, owner)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(chain(&error)),
            Err(_) => Some("no time was left".to_owned()),
        };
        match missed {
            None => report.done.push(tenant.to_string()),
            Some(why) => report.missed.push((tenant.to_string(), why)),
        }
    }
    report
}

async fn one(
    layout: &Layout,
    settings: &NodeSettings,
    tenant: &TenantId,
    owner: Option<Owner>,
) -> Result<(), ProtectError> {
    back_up_tenant(
        layout,
        settings,
        tenant,
        owner,
        Haste::Shutdown,
        Arc::new(Silent),
    )
    .await?;
    Ok(())
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_is_over_leaves_nothing() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let end = at("2026-11-21T10:00:25Z");
        assert_eq!(
            left(end, at("2026-11-21T10:00:05Z")),
            Duration::from_secs(20)
        );
        assert_eq!(left(end, at("2026-11-21T10:01:00Z")), Duration::ZERO);
    }
}
