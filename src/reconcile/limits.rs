//! The limits of a tenant that runs: how those in force stand to the wanted revision's, and bringing them in
//! without a restart. Whether that is to be done is `decide`'s business.

use super::blocking;
use super::decide::Difference;
use super::engine::Engine;
use super::error::OperationError;
use super::run::Run;
use crate::host::cgroup::{self, ContainerLimits, Standing};
use crate::host::files::{self, FileError};
use crate::host::quota::Room;
use crate::host::systemd::{ActiveState, JobResult};
use crate::layout::UnitNames;
use crate::quadlet::{Controller, HostFacts};
use crate::state::StoredRevision;
use crate::tenant::{Limits, Revision, TenantId, live_change};

/// What a container has of a plan on this host.
fn container_limits(limits: &Limits, facts: &HostFacts) -> ContainerLimits {
    let has = |controller| facts.controllers.contains(&controller);
    let (cpu, memory, pids) = (
        has(Controller::Cpu),
        has(Controller::Memory),
        has(Controller::Pids),
    );
    ContainerLimits {
        cpu_millis: cpu.then(|| limits.cpus.millis()),
        memory: memory.then(|| limits.memory.bytes()),
        swap: memory.then(|| limits.swap().bytes()),
        pids: pids.then_some(limits.pids),
    }
}

/// Whether an agent of one revision runs on when the other one takes its place.
pub fn is_live(old: &Revision, new: &Revision) -> bool {
    old.image == new.image
        && old.agent_secrets().eq(new.agent_secrets())
        && live_change(&old.resolved, &new.resolved).is_live()
}

/// How a container that was made for revision `running` differs from what the wanted one makes of it.
pub async fn difference(
    engine: &Engine,
    running: u64,
    wanted: &StoredRevision,
) -> Result<Difference, OperationError> {
    let wanted = &wanted.revision;
    let tenant = &wanted.resolved.tenant;
    let is_live = if running == wanted.number.0 {
        true
    } else {
        let stored = engine.database.revision(tenant.clone(), running).await?;
        stored.is_some_and(|stored| is_live(&stored.revision, wanted))
    };
    if !is_live {
        return Ok(Difference::Agent);
    }
    Ok(
        match standing(engine, tenant, &wanted.resolved.limits).await {
            // A container that has gone meanwhile is started anew.
            None => Difference::Agent,
            Some(Standing::InForce) => Difference::InForce,
            Some(Standing::Different) => Difference::Limits,
            Some(Standing::TooLarge) => Difference::TooLarge,
        },
    )
}

/// How the limits of the tenant's container stand to these; `None` when none runs, or it cannot be seen.
pub async fn standing(engine: &Engine, tenant: &TenantId, limits: &Limits) -> Option<Standing> {
    let wanted = container_limits(limits, &engine.facts);
    let (layout, tenant) = (engine.layout.clone(), tenant.clone());
    blocking(move || {
        let group = cgroup::payload(&layout, &tenant).ok()??;
        Some(wanted.standing(&group))
    })
    .await
}

/// Gives the container that runs its new limits. The slice has had its own since the reload.
pub async fn adjust(run: &Run, wanted: &StoredRevision) -> Result<(), OperationError> {
    let engine = &run.engine;
    let limits = container_limits(&wanted.revision.resolved.limits, &engine.facts);
    let (layout, tenant) = (engine.layout.clone(), run.tenant()?.clone());
    let set = move || {
        let service = cgroup::service(&layout, &tenant);
        match cgroup::payload(&layout, &tenant) {
            Ok(Some(group)) => limits.set(&group),
            other => other.map(drop),
        }
        .map_err(|source| (service, source))
    };
    let failed = |(path, source)| FileError::Io {
        verb: "set the limits in",
        path,
        source,
    };
    Ok(blocking(set).await.map_err(failed)?)
}

/// Whether the tenant's journal was started before its settings were last written.
pub async fn is_journal_outdated(
    engine: &Engine,
    tenant: &TenantId,
) -> Result<bool, OperationError> {
    let path = engine.layout.journal_conf(tenant);
    let Some(written) = blocking(move || files::modified(&path)).await else {
        return Ok(false);
    };
    let journal = engine.systemd.general(&journal_service(tenant)).await?;
    let is_older = journal.active_since.is_some_and(|since| since < written);
    Ok(journal.active == ActiveState::Active && is_older)
}

/// Has the tenant's journal take its new settings. systemd keeps the agent's streams meanwhile
/// (`FileDescriptorStoreMax=` of `systemd-journald@.service`), so nothing it writes is lost.
pub async fn restart_journal(run: &Run) -> Result<(), OperationError> {
    let unit = journal_service(run.tenant()?);
    let result = run.engine.systemd.try_restart(&unit).await?;
    if result != JobResult::Done {
        tracing::warn!(%unit, ?result, "the journal was not restarted; its old limits stay");
    }
    Ok(())
}

fn journal_service(tenant: &TenantId) -> String {
    let namespace = UnitNames(tenant).journal_namespace();
    format!("systemd-journald@{namespace}.service")
}

/// Whether the file system keeps another limit than this one, though it could keep it.
pub async fn is_storage_outdated(engine: &Engine, tenant: &TenantId, limits: &Limits) -> bool {
    if !engine.facts.project_quotas {
        return false;
    }
    let (path, limit) = (engine.layout.state_dir(tenant), limits.storage.bytes());
    let outside = engine.layout.tenants_dir();
    blocking(move || Room::of(&path, &outside).is_ok_and(|room| !room.keeps(limit))).await
}

/// Has the file system keep the storage limit. One that fails, also because its directories get their project
/// before a start only, is shown by `show`, `list` and `doctor` until it is mended; the tenant runs on.
pub async fn limit_storage(run: &Run) -> Result<(), OperationError> {
    let unit = UnitNames(run.tenant()?).instance("quota", "service");
    let result = run.engine.systemd.start(&unit).await?;
    if result != JobResult::Done {
        tracing::warn!(%unit, ?result, "the storage limit is not kept; the unit's log tells why");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::Catalog;

    #[test]
    fn a_container_has_the_limits_that_the_host_can_keep() {
        let catalog = Catalog::builtin();
        let starter = catalog.plans().find(|plan| plan.name == "starter");
        let limits = &starter.unwrap().limits;
        let all = container_limits(limits, &HostFacts::complete());
        assert_eq!(
            all,
            ContainerLimits {
                cpu_millis: Some(500),
                memory: Some(2 << 30),
                swap: Some(2 << 30),
                pids: Some(512),
            }
        );
        let bare = HostFacts {
            controllers: [Controller::Pids].into(),
            ..HostFacts::complete()
        };
        assert_eq!(
            container_limits(limits, &bare),
            ContainerLimits {
                pids: Some(512),
                ..ContainerLimits::default()
            }
        );
    }
}
