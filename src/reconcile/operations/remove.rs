//! Remove: every unit, namespace and slice of the tenant goes; its state only with `purge`.

use serde_json::{Value, json};

use crate::failpoint;
use crate::host::{clock, dirs, files};
use crate::reconcile::blocking;
use crate::reconcile::converge::converge;
use crate::reconcile::error::OperationError;
use crate::reconcile::run::Run;
use crate::secrets::erase_secrets;
use crate::state::Wanted;

/// Removes a tenant. Run again, it finds less to do.
pub(super) async fn run(run: &Run) -> Result<Value, OperationError> {
    let tenant = run.tenant()?.clone();
    let purge = run.operation.request["purge"].as_bool().unwrap_or(false);
    let engine = &run.engine;
    if engine.database.find_tenant(tenant.clone()).await?.is_some() {
        run.want(Wanted::Removed, None).await?;
        converge(run).await?;
        failpoint::hit("remove.units-gone");
    }
    let directory = engine.layout.tenant_dir(&tenant);
    if purge {
        run.step("remove the state").await?;
        {
            let directory = directory.clone();
            blocking(move || dirs::remove_tree(&directory)).await?;
            let (layout, tenant) = (engine.layout.clone(), tenant.clone());
            blocking(move || erase_secrets(&layout, &tenant)).await?;
        }
    } else {
        // Neither may outlive the units: a tenant that is applied again starts unheld.
        for file in [
            engine.layout.held_file(&tenant),
            engine.layout.runtime_file(&tenant),
        ] {
            blocking(move || files::remove(&file)).await?;
        }
    }
    failpoint::hit("remove.state-gone");
    let actor = run.operation.actor.clone();
    engine
        .database
        .forget_tenant(tenant.clone(), actor, None, clock::now())
        .await?;
    let kept = (!purge).then_some(directory);
    Ok(json!({ "tenant": tenant, "kept-state": kept }))
}
