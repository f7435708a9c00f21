//! Starts a unit that works for long, and tells those who wait how far it is.
//! What it tells is not recorded: only that the unit was started is a step.

use std::time::Duration;

use crate::host::systemd::JobResult;
use crate::protect::{self, Told};
use crate::reconcile::blocking;
use crate::reconcile::error::OperationError;
use crate::reconcile::run::Run;
use crate::state::OperationProgress;

/// How often it is asked how far the unit is.
const ASKED_EVERY: Duration = Duration::from_secs(2);

/// Starts `unit` as the step `step`, and waits for its end.
pub(super) async fn start_watched(
    run: &Run,
    unit: &str,
    step: &str,
) -> Result<JobResult, OperationError> {
    run.step(step).await?;
    let engine = &run.engine;
    let job = engine.systemd.start(unit);
    tokio::pin!(job);
    loop {
        tokio::select! {
            result = &mut job => return Ok(result?),
            () = tokio::time::sleep(ASKED_EVERY) => {}
        }
        let (layout, tenant) = (engine.layout.clone(), run.operation.tenant.clone());
        let told = blocking(move || protect::progress(&layout, tenant.as_ref())).await;
        if let Some(Told { line, measure }) = told {
            let progress = Some(OperationProgress::from(&measure));
            let step = format!("{step}: {line}");
            engine.progress.tell(run.operation.id, &step, progress);
        }
    }
}
