//! What tenants use, gathered for the API: from control groups and file systems, without a process per tenant.
//! Nothing here changes anything, except that a state which fills up is told to the log.

use std::collections::BTreeSet;

use super::blocking;
use super::engine::Engine;
use super::error::OperationError;
use super::{sleep, supervisor};
use crate::api::{Promised, SleepSummary, StorageUsage, TenantUsage, UsageReport};
use crate::host::cgroup::{self, SliceUsage};
use crate::host::clock;
use crate::host::quota::Room;
use crate::layout::Layout;
use crate::node::capacity::Commitment;
use crate::protect;
use crate::quadlet::{Controller, HostFacts};
use crate::state::Overview;
use crate::tenant::{Limits, ResolvedSpec, TenantId};

/// One tenant as it is recorded, before it is looked at.
struct Asked {
    tenant: TenantId,
    state: String,
    sleep: Option<SleepSummary>,
    spec: Option<ResolvedSpec>,
}

impl Engine {
    /// What all tenants use, or one.
    pub async fn usage_report(
        &self,
        only: Option<&TenantId>,
    ) -> Result<UsageReport, OperationError> {
        supervisor::look_at_sleepers(self).await?;
        let tenants = match only {
            Some(tenant) => vec![self.database.overview(tenant.clone()).await?],
            None => self.database.overviews().await?,
        };
        let asked: Vec<_> = tenants
            .into_iter()
            .map(|Overview { row, applied, .. }| Asked {
                sleep: sleep::summary(&self.layout, &row),
                tenant: row.id,
                state: row.state.to_string(),
                spec: applied.map(|revision| revision.resolved),
            })
            .collect();
        let (layout, facts) = (self.layout.clone(), self.facts.clone());
        Ok(blocking(move || UsageReport {
            at: clock::now(),
            tenants: asked
                .into_iter()
                .map(|asked| look(&layout, &facts, asked))
                .collect(),
        })
        .await)
    }

    /// Tells the log of each state that has become nearly full since it was last asked.
    pub async fn warn_of_storage(&self) -> Result<(), OperationError> {
        let report = self.usage_report(None).await?;
        let full: BTreeSet<String> = report
            .tenants
            .iter()
            .filter(|usage| usage.storage.is_some_and(|found| found.is_nearly_full()))
            .map(|usage| usage.id.clone())
            .collect();
        let mut known = self.nearly_full();
        for tenant in full.difference(&known) {
            tracing::warn!(
                tenant,
                "its state has reached four fifths of its plan's storage; `tenantd top` shows it"
            );
        }
        *known = full;
        Ok(())
    }
}

/// What plans promise of one of the host's resources, for people and programs.
pub fn promised(found: &Commitment) -> Promised {
    Promised {
        resource: found.resource.to_owned(),
        promised: found.promised,
        most: found.most,
        has: found.has,
        exceeded: found.is_exceeded(),
        summary: found.short(),
    }
}

fn look(layout: &Layout, facts: &HostFacts, asked: Asked) -> TenantUsage {
    let has = |controller| facts.controllers.contains(&controller);
    let Asked {
        tenant,
        state,
        sleep,
        spec,
    } = asked;
    let used = SliceUsage::of(&cgroup::slice(layout, &tenant)).unwrap_or_default();
    let limits = spec.as_ref().map(|spec| &spec.limits);
    let percent = |hundredths: u32| f64::from(hundredths) / 100.0;
    TenantUsage {
        id: tenant.to_string(),
        state,
        sleep,
        plan: spec.as_ref().map(|spec| spec.plan.clone()),
        cpu_us: used.cpu_us,
        cpu_limit_millis: limits
            .filter(|_| has(Controller::Cpu))
            .map(|limits| limits.cpus.millis()),
        memory_bytes: used.memory,
        memory_limit_bytes: limits
            .filter(|_| has(Controller::Memory))
            .map(|limits| limits.memory.bytes()),
        swap_bytes: used.swap,
        pids: used.pids,
        pids_limit: limits
            .filter(|_| has(Controller::Pids))
            .map(|limits| limits.pids),
        read_bytes: used.read,
        written_bytes: used.written,
        cpu_pressure: used.pressure.cpu.map(percent),
        memory_pressure: used.pressure.memory.map(percent),
        io_pressure: used.pressure.io.map(percent),
        storage: limits.map(|limits| storage(layout, facts, &tenant, limits)),
    }
}

/// What a tenant's state holds: by the file system where it counts, else by the newest snapshot. It blocks.
pub fn storage(
    layout: &Layout,
    facts: &HostFacts,
    tenant: &TenantId,
    limits: &Limits,
) -> StorageUsage {
    let limit_bytes = limits.storage.bytes();
    let room = Room::of(&layout.state_dir(tenant), &layout.tenants_dir()).ok();
    let room = room.filter(|room| facts.project_quotas && room.keeps(limit_bytes));
    let kept = room.is_some();
    if let Some(used) = room.and_then(|room| room.used(limit_bytes)) {
        return StorageUsage {
            used_bytes: Some(used),
            limit_bytes,
            kept,
            at: Some(clock::now()),
        };
    }
    let snapshot = protect::newest_size(layout, tenant);
    StorageUsage {
        used_bytes: snapshot.map(|(_, bytes)| bytes),
        limit_bytes,
        kept,
        at: snapshot.map(|(at, _)| at),
    }
}
