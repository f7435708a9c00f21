//! The verbs of drills, as the static units run them.

use std::sync::Arc;

use anyhow::ensure;
use sd_notify::NotifyState;

use crate::backup::{Meter, SystemClock};
use crate::cli::progress;
use crate::daemon;
use crate::drill::{self, DrillError, Told};
use crate::layout::Layout;
use crate::protect::CheckOutcome;

use super::protect::TOLD_EVERY;

/// Drills every tenant; without an identity it only remembers that.
pub(super) async fn all(layout: &Layout) -> anyhow::Result<()> {
    let settings = daemon::read_settings(layout)?;
    let told = Told {
        progress: Arc::new(Meter::new(Arc::new(SystemClock), TOLD_EVERY, |measure| {
            // Who cannot be told does not change what is done.
            let _ = sd_notify::notify(&[NotifyState::Status(&progress::line(measure))]);
        })),
        step: Box::new(|tenant, step| {
            let _ = sd_notify::notify(&[NotifyState::Status(&format!("{tenant}: {step}"))]);
        }),
    };
    let drilled = match drill::run(layout, &settings, &[], None, &told).await {
        Err(DrillError::NoIdentity) => {
            tracing::info!("no identity is on this host: no drill is made");
            return Ok(drill::note_no_identity(layout)?);
        }
        other => other?,
    };
    let mut failed = 0;
    for one in &drilled {
        let (tenant, detail) = (&one.tenant, one.detail());
        match one.outcome {
            CheckOutcome::Good => {
                tracing::info!(%tenant, "the drill of {tenant} is good: {detail}");
            }
            CheckOutcome::Faulty => {
                failed += 1;
                tracing::error!(%tenant, "the drill of {tenant} failed: {detail}");
            }
            CheckOutcome::Skipped => {
                failed += 1;
                tracing::error!(%tenant, "no drill of {tenant} could be made: {detail}");
            }
        }
    }
    ensure!(
        failed == 0,
        "{failed} of {} drills are not good",
        drilled.len()
    );
    Ok(())
}

/// Removes what killed drills have left.
pub(super) async fn clean(layout: &Layout) -> anyhow::Result<()> {
    Ok(drill::clean(layout).await?)
}
