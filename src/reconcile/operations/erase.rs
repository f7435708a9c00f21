//! Erasing a tenant: all that this host has of it, and what its backups could be read with.
//! It is done in an order in which every crash leaves a tenant that is erased by doing it again.

use camino::Utf8PathBuf;
use serde_json::{Value, json};

use crate::failpoint;
use crate::host::{clock, dirs};
use crate::layout::{Layout, UnitNames};
use crate::protect::{self, ErasureStatus, ProtectError};
use crate::reconcile::blocking;
use crate::reconcile::error::{OperationError, chain};
use crate::reconcile::run::Run;
use crate::tenant::TenantId;

/// Erases a tenant whose units are gone.
pub(super) async fn erase(
    run: &Run,
    tenant: &TenantId,
    keep_backups: bool,
) -> Result<Value, OperationError> {
    let engine = &run.engine;
    run.step("remove the state").await?;
    let (layout, id) = (engine.layout.clone(), tenant.clone());
    blocking(move || {
        let traces = traces(&layout, &id);
        traces
            .iter()
            .try_for_each(|directory| dirs::remove_tree(directory))
    })
    .await?;
    failpoint::hit("remove.state-gone");
    let backups = if keep_backups {
        "kept"
    } else {
        run.step("erase the keys of its backups").await?;
        erase_backups(run, tenant).await?
    };
    failpoint::hit("remove.keys-gone");
    let because = match backups {
        "kept" => "its state; its backups are kept".to_owned(),
        backups => format!("its state; its backups: {backups}"),
    };
    let actor = run.operation.actor.clone();
    engine
        .database
        .forget_tenant(tenant.clone(), actor, Some(because), clock::now())
        .await?;
    Ok(json!({ "tenant": tenant, "backups": backups }))
}

/// Every directory in which this host has something of a tenant, apart from its repository.
fn traces(layout: &Layout, tenant: &TenantId) -> Vec<Utf8PathBuf> {
    let mut traces = vec![layout.tenant_dir(tenant)];
    traces.extend(layout.kept_beside(tenant));
    let namespace = UnitNames(tenant).journal_namespace();
    for journals in layout.journals() {
        let entries = journals.read_dir_utf8().into_iter().flatten().flatten();
        let is_its = |name: &str| {
            // A machine's id has 32 digits (machine-id(5)).
            name.split_once('.')
                .is_some_and(|(machine, of)| machine.len() == 32 && of == namespace)
        };
        let its = entries.filter(|entry| is_its(entry.file_name()));
        traces.extend(its.map(camino::Utf8DirEntry::into_path));
    }
    traces
}

/// Deletes what a tenant's backups can be read with, or records that it is still to be done.
async fn erase_backups(run: &Run, tenant: &TenantId) -> Result<&'static str, OperationError> {
    let engine = &run.engine;
    let store = engine.settings().store.clone();
    let erased = protect::erase_keys(&engine.layout, &store, tenant, false).await;
    match erased {
        Ok(erasure) if erasure.status == ErasureStatus::Erased => Ok("erased"),
        Ok(_) => Ok("erasure pending"),
        Err(ProtectError::NoRepository(_)) => Ok("none"),
        // The state must be gone before its keys: erased backups beside a state would be the only loss.
        Err(error @ (ProtectError::NotRemoved(_) | ProtectError::StateLeft(..))) => {
            Err(OperationError::Backup(chain(&error)))
        }
        Err(error) => {
            // It is recorded before the store is asked, and then tried again whatever becomes of this.
            let layout = engine.layout.clone();
            let pending = blocking(move || protect::pending_erasures(&layout))
                .await
                .map_err(|error| OperationError::Backup(chain(&error)))?;
            if !pending.iter().any(|erasure| erasure.tenant == *tenant) {
                return Err(OperationError::Backup(chain(&error)));
            }
            tracing::warn!(%tenant, "the keys are not erased yet: {}", chain(&error));
            Ok("erasure pending")
        }
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::*;

    #[test]
    fn a_tenants_log_is_found_and_no_other_ones() {
        let guard = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(Utf8Path::from_path(guard.path()).unwrap());
        let [journals, _] = layout.journals();
        let machine = "0123456789abcdef0123456789abcdef";
        for name in ["", ".tenant-acme", ".tenant-acme-2", ".other"] {
            dirs::make(&journals.join(format!("{machine}{name}")), 0o700).unwrap();
        }
        dirs::make(&journals.join("short.tenant-acme"), 0o700).unwrap();
        let found = traces(&layout, &"acme".parse().unwrap());
        let found: Vec<_> = found
            .iter()
            .filter(|path| path.starts_with(&journals))
            .collect();
        assert_eq!(found, [&journals.join(format!("{machine}.tenant-acme"))]);
    }
}
