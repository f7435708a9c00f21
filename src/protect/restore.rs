//! Restores tenants: before they start without state, by order of the daemon, or beside.
//!
//! A restore goes into `restoring/`, whole and checked, before the state that is there is
//! touched. Then two renames exchange them; the old state is kept (`kept`).

use std::sync::Arc;

use super::ProtectError;
use super::catalogued::{is_catalogued, settle};
use super::exchange::{exchange, finish_exchange, has_state};
use super::opened::{RestoreReport, local_spec, open};
use super::order::{read_order, remove_order};
use super::report::write_restore_report;
use crate::backup::Progress;
use crate::failpoint;
use crate::host::dirs;
use crate::layout::Layout;
use crate::node::NodeSettings;
use crate::tenant::TenantId;

/// Whether [`restore_if_wanted`] has anything to do. It looks at names only and changes nothing.
pub fn is_restore_due(layout: &Layout, tenant: &TenantId) -> Result<bool, ProtectError> {
    if layout.replaced_dir(tenant).exists() || read_order(layout, tenant)?.is_some() {
        return Ok(true);
    }
    Ok(!has_state(&layout.state_dir(tenant))
        && local_spec(layout, tenant.as_str())?.is_some()
        && !is_known_empty(layout, tenant))
}

/// Restores a tenant if an order waits for it, or if it has no state and a backup may exist.
///
/// `is_running` is asked only when something would be replaced. Nothing to do is `None`.
pub async fn restore_if_wanted(
    layout: &Layout,
    settings: &NodeSettings,
    tenant: &TenantId,
    is_running: impl AsyncFnOnce() -> Result<bool, ProtectError>,
    progress: Arc<dyn Progress>,
) -> Result<Option<RestoreReport>, ProtectError> {
    finish_exchange(layout, tenant)?;
    let order = read_order(layout, tenant)?;
    if order.is_none() && has_state(&layout.state_dir(tenant)) {
        return Ok(None);
    }
    let Some(spec) = local_spec(layout, tenant.as_str())? else {
        if order.is_none() {
            // Nothing was ever backed up here: the tenant is new.
            return Ok(None);
        }
        remove_order(layout, tenant)?;
        return Err(ProtectError::NoRepository(tenant.to_string()));
    };
    if order.is_none() && is_known_empty(layout, tenant) {
        return Ok(None);
    }
    if is_running().await? {
        return match order {
            None => Ok(None),
            Some(_) => Err(ProtectError::Running(tenant.clone())),
        };
    }
    let wanted = order.clone().unwrap_or_default();
    let restored: Result<_, ProtectError> = async {
        let Some(opened) =
            open(layout, settings, tenant.as_str(), &spec, wanted.as_wanted()).await?
        else {
            // Nothing was ever backed up there, so there is nothing to go on from either.
            settle(&layout.repository_dir(tenant.as_str()))?;
            return Ok(None);
        };
        let target = layout.restoring_dir(tenant);
        dirs::remove_tree(&target)?;
        let report = opened
            .restore(tenant.as_str(), &target, None, progress)
            .await?;
        failpoint::hit("protect.restored");
        // Before there is state: what has state is not restored again, and could never be backed up.
        opened
            .adopt_if_needed(layout, settings, tenant.as_str())
            .await?;
        exchange(layout, tenant)?;
        Ok(Some(report))
    }
    .await;
    let is_once = order.as_ref().is_some_and(|order| !order.until_done);
    if order.is_some() && (is_once || restored.is_ok()) {
        remove_order(layout, tenant)?;
    }
    if let Ok(Some(report)) = &restored {
        write_restore_report(layout, tenant, report)?;
    }
    match restored {
        // Asked for and not there: that is not what no state at all is to a new tenant.
        Ok(None) if is_once => Err(ProtectError::NothingStored(tenant.to_string())),
        Err(error) if is_once => Err(ProtectError::Ordered(Box::new(error))),
        restored => restored,
    }
}

/// Whether this node made the repository and never committed to it, so that a start without
/// state needs no word from the store.
fn is_known_empty(layout: &Layout, tenant: &TenantId) -> bool {
    let directory = layout.repository_dir(tenant.as_str());
    !is_catalogued(&directory)
        && !directory.join("head.json").exists()
        && !directory.join("intent").exists()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::protect::catalogued::FROM_CATALOGUE;
    use crate::protect::order::{RestoreOrder, write_order};
    use crate::protect::samples::{fill, host};

    /// What makes a restore due, and how it comes to be.
    type Case<'a> = (&'a str, &'a dyn Fn(&Layout, &TenantId));

    #[test]
    fn the_unit_looks_for_whatever_makes_a_restore_due() {
        let unit = include_str!("../../systemd/tenantd-restore@.service");
        let is_looked_for = |layout: &Layout, tenant: &TenantId| {
            let conditions = unit.lines().filter_map(|line| {
                let path = line.strip_prefix("ConditionPathExists=|/")?;
                Some(layout.root().join(path.replace("%I", tenant.as_str())))
            });
            conditions.into_iter().any(|path| path.exists())
        };
        let repository = |layout: &Layout, tenant: &TenantId, file: &str| {
            let directory = layout.repository_dir(tenant.as_str());
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("repository.json"), "").unwrap();
            fs::write(directory.join(file), "").unwrap();
        };
        let cases: [Case<'_>; 5] = [
            ("an order", &|layout, tenant| {
                write_order(layout, tenant, &RestoreOrder::default()).unwrap();
            }),
            ("an open exchange", &|layout, tenant| {
                fill(&layout.restoring_dir(tenant), "new");
                fill(&layout.replaced_dir(tenant), "old");
            }),
            ("a head", &|layout, tenant| {
                repository(layout, tenant, "head.json");
            }),
            ("an intent", &|layout, tenant| {
                repository(layout, tenant, "intent");
            }),
            ("a catalogue", &|layout, tenant| {
                repository(layout, tenant, FROM_CATALOGUE);
            }),
        ];
        // What cannot be read is the restore's to complain about.
        let is_due =
            |layout: &Layout, tenant: &TenantId| is_restore_due(layout, tenant).unwrap_or(true);
        for (what, make) in cases {
            let (_guard, layout, tenant) = host();
            assert!(!is_looked_for(&layout, &tenant) && !is_due(&layout, &tenant));
            make(&layout, &tenant);
            assert!(is_due(&layout, &tenant), "{what}");
            assert!(is_looked_for(&layout, &tenant), "{what}");
        }
    }
}
