//! The verbs that back up and restore, as the static units run them.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use sd_notify::NotifyState;

use crate::backup::{Meter, Progress, SystemClock};
use crate::cli::progress;
use crate::daemon;
use crate::host::freezer::Owner;
use crate::host::systemd::{ActiveState, JobResult, Systemd};
use crate::layout::{Layout, UnitNames};
use crate::node::NodeSettings;
use crate::protect::{self, BackupReport, Haste, Outcome, ProtectError, ShutdownReport, Told};
use crate::tenant::TenantId;

/// Backups of tenants at work at a time: one reads and compresses while another waits for
/// the store, on the two cores of a small host.
const AT_A_TIME: usize = 2;

/// How often the progress of a unit is told.
pub(super) const TOLD_EVERY: Duration = Duration::from_secs(2);

/// Longest wait for a network before a restore is tried without.
const NETWORK_WAIT: Duration = Duration::from_mins(1);

/// `EX_DATAERR` of sysexits(3): what is in the store does not verify; trying again is useless.
const BAD_DATA: u8 = 65;

/// `EX_UNAVAILABLE` of sysexits(3): what was ordered failed. Another attempt would find no order,
/// do nothing and pass for the restore that was asked for.
const ORDER_FAILED: u8 = 69;

/// `EX_CONFIG` of sysexits(3): the host lacks a setting or a key; trying again is useless.
const BAD_CONFIG: u8 = 78;

fn settings(layout: &Layout) -> anyhow::Result<NodeSettings> {
    Ok(daemon::read_settings(layout)?)
}

/// Backs up one tenant.
pub(super) async fn backup(layout: &Layout, tenant: &TenantId) -> anyhow::Result<()> {
    let settings = settings(layout)?;
    let report = protect::back_up_tenant(
        layout,
        &settings,
        tenant,
        Some(Owner::Backup),
        Haste::None,
        told(layout, Some(tenant)),
    )
    .await;
    protect::end_progress(layout, Some(tenant))?;
    let report = report?;
    tell(&report);
    Ok(())
}

/// Backs up the node.
pub(super) async fn backup_node(layout: &Layout) -> anyhow::Result<()> {
    let settings = settings(layout)?;
    let report = protect::back_up_node(layout, &settings, Haste::None, told(layout, None)).await;
    protect::end_progress(layout, None)?;
    tell(&report?);
    Ok(())
}

/// Tells how far it is in `systemctl status`, and to the daemon for those who wait.
fn told(layout: &Layout, tenant: Option<&TenantId>) -> Arc<dyn Progress> {
    let (layout, tenant) = (layout.clone(), tenant.cloned());
    Arc::new(Meter::new(
        Arc::new(SystemClock),
        TOLD_EVERY,
        move |measure| {
            let line = progress::line(measure);
            // Who cannot be told does not change what is done.
            let _ = sd_notify::notify(&[NotifyState::Status(&line)]);
            let told = Told {
                line,
                measure: *measure,
            };
            let _ = protect::tell_progress(&layout, tenant.as_ref(), &told);
        },
    ))
}

/// Tells in `systemctl status` whose backup is how far: nobody waits for one of a host that stops.
fn shown(name: &str) -> Arc<dyn Progress> {
    let name = name.to_owned();
    Arc::new(Meter::new(
        Arc::new(SystemClock),
        TOLD_EVERY,
        move |measure| {
            let line = format!("{name}: {}", progress::line(measure));
            let _ = sd_notify::notify(&[NotifyState::Status(&line)]);
        },
    ))
}

fn tell(report: &BackupReport) {
    match report.outcome {
        Outcome::Unchanged => {
            tracing::info!("nothing has changed since snapshot {}", report.snapshot);
        }
        Outcome::Committed => tracing::info!(
            files = report.files,
            bytes = report.bytes,
            sent = report.sent_bytes,
            pause_us = report.pause_us,
            "snapshot {} is committed: {} files, {} bytes sent, paused for {} ms",
            report.snapshot,
            report.files,
            report.sent_bytes,
            report.pause_us.div_ceil(1000)
        ),
    }
}

/// Backs up all tenants and then the node, each by its own unit; works without the daemon.
pub(super) async fn backup_all(layout: &Layout) -> anyhow::Result<()> {
    let systemd = Systemd::connect().await?;
    let tenants = protect::tenants(layout);
    let total = tenants.len();
    let failed: Vec<String> = futures_util::stream::iter(tenants)
        .map(|tenant| {
            let systemd = systemd.clone();
            async move {
                let unit = UnitNames(&tenant).instance("backup", "service");
                match systemd.start(&unit).await {
                    Ok(JobResult::Done) => None,
                    Ok(_) | Err(_) => Some(tenant.to_string()),
                }
            }
        })
        .buffer_unordered(AT_A_TIME)
        .filter_map(std::future::ready)
        .collect()
        .await;
    if protect::has_something(layout) {
        backup_node(layout)
            .await
            .context("the node was not backed up")?;
    } else {
        tracing::info!("no tenants yet, and nothing to back up");
    }
    if !failed.is_empty() {
        bail!(
            "{} of {total} tenants were not backed up: {}; `journalctl -u 'tenantd-backup@*'` tells why",
            failed.len(),
            failed.join(", ")
        );
    }
    Ok(())
}

/// The backup before the agents are stopped.
pub(super) async fn prestop(layout: &Layout) -> anyhow::Result<()> {
    tell_shutdown(&protect::prestop_backup(layout, &settings(layout)?, &shown).await?);
    Ok(())
}

/// The backup after the agents have stopped.
pub(super) async fn last(layout: &Layout) -> anyhow::Result<()> {
    tell_shutdown(&protect::final_backup(layout, &settings(layout)?, &shown).await?);
    Ok(())
}

fn tell_shutdown(report: &ShutdownReport) {
    for (tenant, why) in &report.missed {
        tracing::error!(tenant, "not backed up: {why}");
    }
    tracing::info!("backed up: {}", report.done.join(", "));
}

/// Whether a tenant which is about to start needs a restore. What cannot be told is the restore's to say.
pub(super) fn needs_restore(layout: &Layout, tenant: &TenantId) -> bool {
    protect::is_restore_due(layout, tenant).unwrap_or(true)
}

/// Makes sure that a tenant which is about to start has its state.
pub(super) async fn restore(
    layout: &Layout,
    tenant: &TenantId,
) -> Result<(), (ExitCode, anyhow::Error)> {
    let settings = settings(layout).map_err(|error| (BAD_CONFIG.into(), error))?;
    let is_running = async || {
        // Only reached when a restore is about to happen: time to want a network.
        let systemd = Systemd::connect().await?;
        if settings.store.url.starts_with("s3:") {
            let online = systemd.start("network-online.target");
            if tokio::time::timeout(NETWORK_WAIT, online).await.is_err() {
                tracing::warn!(
                    "no network after {} s; trying all the same",
                    NETWORK_WAIT.as_secs()
                );
            }
        }
        let service = UnitNames(tenant).service();
        let units = systemd.units(&[&service]).await?;
        Ok(units.iter().any(|unit| unit.active == ActiveState::Active))
    };
    let progress = told(layout, Some(tenant));
    let restored =
        protect::restore_if_wanted(layout, &settings, tenant, is_running, progress).await;
    if let Err(error) = protect::end_progress(layout, Some(tenant)) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "an old line of progress stays"
        );
    }
    match restored {
        Ok(None) => Ok(()),
        Ok(Some(report)) => {
            tracing::info!(
                "restored snapshot {} of {}: {} files, {} bytes",
                report.snapshot,
                report.taken_at,
                report.files,
                report.bytes
            );
            for fork in &report.forks {
                tracing::warn!(
                    "snapshot {} of {} by node {} in epoch {} is not on the chain that was restored",
                    fork.snapshot,
                    fork.taken_at,
                    fork.node,
                    fork.epoch
                );
            }
            Ok(())
        }
        Err(error) => Err((exit_code(&error).into(), error.into())),
    }
}

/// Tells systemd whether another attempt can help (`RestartPreventExitStatus=`).
fn exit_code(error: &ProtectError) -> u8 {
    match error {
        ProtectError::Ordered(_) => ORDER_FAILED,
        error if error.may_pass() => 1,
        ProtectError::Restore { .. }
        | ProtectError::Stale { .. }
        | ProtectError::Broken { .. }
        | ProtectError::NoSnapshot { .. }
        | ProtectError::NothingStored(_)
        | ProtectError::AllGone { .. }
        | ProtectError::NoRepository(_)
        | ProtectError::Document { .. } => BAD_DATA,
        _ => BAD_CONFIG,
    }
}
