//! What each kind of operation does, from its record to its result.
//! Each can be run again from its start at any time and ends the same.

mod apply;
mod backup;
mod kept;
mod life;
mod plan;
mod remove;
mod restore;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::converge::converge;
use super::error::OperationError;
use super::run::Run;
use crate::state::OperationKind;

pub use apply::ApplyJob;
pub use plan::{plan, preview, resolve_all};

/// An age identity, as handed over with a restore.
pub type Identity = SecretString;

/// Runs an operation to its end.
pub(super) async fn run(run: &Run) -> Result<Value, OperationError> {
    match run.operation.kind {
        OperationKind::Apply => apply::run(run).await,
        OperationKind::Start => life::start(run).await,
        OperationKind::Stop => life::stop(run).await,
        OperationKind::Restart => life::restart(run).await,
        OperationKind::Suspend => life::suspend(run).await,
        OperationKind::Resume => life::resume(run).await,
        OperationKind::Remove => remove::run(run).await,
        OperationKind::Backup => backup::run(run).await,
        OperationKind::Restore => restore::run(run).await,
        OperationKind::Reconcile => reconcile(run).await,
    }
}

/// Puts right what is not as recorded.
async fn reconcile(run: &Run) -> Result<Value, OperationError> {
    converge(run).await?;
    Ok(json!({ "tenant": run.tenant()? }))
}
