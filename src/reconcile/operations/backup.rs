//! Backup: has the tenant's backup unit run and reads its report.
//! The work is a process of its own, so that it survives the daemon and its memory goes with it.

use serde_json::Value;

use crate::host::systemd::JobResult;
use crate::layout::UnitNames;
use crate::protect;
use crate::reconcile::blocking;
use crate::reconcile::error::{OperationError, chain};
use crate::reconcile::evidence;
use crate::reconcile::run::Run;
use crate::reconcile::watched::start_watched;

/// The unit that backs up the node itself.
const NODE_UNIT: &str = "tenantd-backup-node.service";

/// Makes a snapshot. Run again, it makes another one, or none when nothing has changed.
pub(super) async fn run(run: &Run) -> Result<Value, OperationError> {
    let tenant = run.operation.tenant.as_ref();
    let unit = tenant.map_or_else(
        || NODE_UNIT.to_owned(),
        |tenant| UnitNames(tenant).instance("backup", "service"),
    );
    // A unit that is at it already answers with the end of its present run.
    let result = start_watched(run, &unit, "back up").await?;
    if result != JobResult::Done {
        let what = tenant.map_or_else(|| "the node".to_owned(), |t| format!("tenant {t}"));
        let why = evidence::last_word(&unit).await;
        return Err(OperationError::Backup(format!(
            "the backup of {what} failed: {}; `journalctl -u {unit}` tells more",
            why.as_deref().unwrap_or("no word of why")
        )));
    }
    let (layout, tenant) = (run.engine.layout.clone(), tenant.cloned());
    blocking(move || protect::read_report(&layout, tenant.as_ref()))
        .await
        .map_err(|error| OperationError::Backup(chain(&error)))
}
