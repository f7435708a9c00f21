//! Tells apart why an agent failed, from all that was seen of it.
//! The judgement is pure; [`symptoms`] only looks.

use std::collections::BTreeSet;

use super::blocking;
use super::engine::Engine;
use super::error::OperationError;
use super::run::Run;
use super::view::UnitView;
use crate::host::systemd::ActiveState;
use crate::host::{cgroup, space};
use crate::layout::UnitNames;
use crate::state::StoredRevision;
use crate::tenant::{FailureCause, TenantId};

/// The exit code with which Podman says that it could not make the container.
const PODMAN_FAILED: i32 = 125;

/// The signal of the kernel's, and what is added to a signal to make an exit code of it.
const SIGKILL: i32 = 9;
/// See [`SIGKILL`].
const SHELL: i32 = 128;

/// A disk with less room than this is full: an agent can write nothing to speak of.
const FULL: u64 = 4 * 1024 * 1024;

/// What was seen of an agent that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Symptoms {
    /// Its service. `result` is `oom-kill` also where only Podman has seen it.
    pub service: UnitView,
    /// Its template's `fatal-exit-codes`.
    pub fatal_exit_codes: BTreeSet<u8>,
    /// Its image is not there.
    pub image_missing: bool,
    /// What it needs has failed.
    pub dependency_failed: bool,
    /// Its disk or its quota is full.
    pub storage_full: bool,
}

/// The cause: what says most comes first. An agent that was killed for lack of memory five times over
/// is out of memory, not in a crash loop.
pub fn cause(symptoms: &Symptoms) -> FailureCause {
    let service = &symptoms.service;
    let has_exited = service.result == "exit-code";
    let is_fatal = u8::try_from(service.status)
        .is_ok_and(|status| symptoms.fatal_exit_codes.contains(&status));
    // systemd keeps the result of the last end when the start limit is hit.
    let was_given_up = service.result == "start-limit-hit"
        || service.active == ActiveState::Failed && service.restarts > 0;
    match service.result.as_str() {
        "oom-kill" => FailureCause::OutOfMemory,
        _ if symptoms.dependency_failed => FailureCause::Dependency,
        "exit-code" if is_fatal => FailureCause::FatalExitCode,
        _ if symptoms.image_missing => FailureCause::ImageMissing,
        _ if symptoms.storage_full => FailureCause::StorageFull,
        "timeout" => FailureCause::StartTimeout,
        // It ended well, by SIGTERM, because what asked its start probe gave up.
        "exit-code" if matches!(service.status, 0 | 143) => FailureCause::StartTimeout,
        _ if was_given_up => FailureCause::CrashLoop,
        _ if has_exited => FailureCause::ExitCode,
        "signal" | "core-dump" => FailureCause::Signal,
        "watchdog" => FailureCause::Unhealthy,
        _ => FailureCause::Host,
    }
}

/// What is seen of an agent, with the kernel's word for a SIGKILL: of a container that it killed for lack of memory,
/// systemd and Podman may know no more than that.
pub async fn with_kernels_word(engine: &Engine, tenant: &TenantId, view: UnitView) -> UnitView {
    let is_killed = match view.result.as_str() {
        "exit-code" => view.status == SIGKILL + SHELL,
        "signal" => view.status == SIGKILL,
        _ => false,
    };
    if !is_killed {
        return view;
    }
    let (layout, asked) = (engine.layout.clone(), tenant.clone());
    let kills = blocking(move || cgroup::oom_kills(&layout, &asked)).await;
    if kills.is_some_and(|kills| engine.views().note_kills(tenant, kills)) {
        let ending = "killed for lack of memory".to_owned();
        engine.views().note_container(tenant, Some(ending));
        return UnitView {
            result: "oom-kill".to_owned(),
            ..view
        };
    }
    view
}

/// Looks at all that can tell why the agent of `tenant` failed.
pub async fn symptoms(
    engine: &Engine,
    tenant: &TenantId,
    service: UnitView,
    stored: Option<&StoredRevision>,
) -> Symptoms {
    let layout = engine.layout.clone();
    let state = layout.state_dir(tenant);
    let storage_full = blocking(move || space::of(&state).is_ok_and(|space| space.free < FULL));
    let image_missing = match stored {
        Some(stored) if service.status == PODMAN_FAILED => {
            let image = engine.podman.image(stored.revision.image.hex());
            matches!(image.await, Ok(None))
        }
        _ => false,
    };
    Symptoms {
        service,
        fatal_exit_codes: stored
            .map(|stored| stored.revision.resolved.stop.fatal_exit_codes.clone())
            .unwrap_or_default(),
        image_missing,
        dependency_failed: engine.has_failed_dependency(tenant),
        storage_full: storage_full.await,
    }
}

/// Why an operation failed, where the agent is to blame or what it needs.
pub async fn cause_of(run: &Run, error: &OperationError) -> Option<FailureCause> {
    match error {
        OperationError::NotHealthy { .. } => Some(FailureCause::Unhealthy),
        OperationError::NoRoom { .. } => Some(FailureCause::StorageFull),
        OperationError::Image { .. } => Some(FailureCause::ImageMissing),
        OperationError::Job { tenant, unit, .. } => Some(
            cause_of_job(run, tenant, unit)
                .await
                .unwrap_or(FailureCause::Host),
        ),
        OperationError::RolledBack { cause, .. } => Box::pin(cause_of(run, cause)).await,
        _ => None,
    }
}

async fn cause_of_job(
    run: &Run,
    tenant: &TenantId,
    unit: &str,
) -> Result<FailureCause, OperationError> {
    let engine = &run.engine;
    if unit != UnitNames(tenant).service() {
        return Ok(FailureCause::Host);
    }
    // Asked for: what is heard of the service by signals may still be on its way.
    let details = engine.systemd.details(unit).await?;
    let mut service = engine.agent_view(tenant);
    if let Some(found) = details.service
        && service.result != "oom-kill"
    {
        service = UnitView {
            active: details.active,
            sub: details.sub,
            result: found.result,
            status: found.exec_main_status,
            restarts: found.restarts,
        };
    }
    let service = with_kernels_word(engine, tenant, service).await;
    let stored = match run.row().await?.current_revision {
        Some(number) => engine.database.revision(tenant.clone(), number).await?,
        None => None,
    };
    let mut symptoms = symptoms(engine, tenant, service, stored.as_ref()).await;
    let needs = needs(tenant);
    let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
    let units = engine.systemd.units(&needs).await?;
    symptoms.dependency_failed = units.iter().any(|unit| unit.active == ActiveState::Failed);
    Ok(cause(&symptoms))
}

/// The units without which systemd does not start an agent.
pub fn needs(tenant: &TenantId) -> [String; 3] {
    ["net", "restore", "secrets"].map(|template| UnitNames(tenant).instance(template, "service"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn service(result: &str, status: i32, restarts: u32) -> Symptoms {
        Symptoms {
            service: UnitView {
                active: ActiveState::Failed,
                sub: "failed".to_owned(),
                result: result.to_owned(),
                status,
                restarts,
            },
            fatal_exit_codes: [78].into(),
            ..Symptoms::default()
        }
    }

    #[rstest]
    #[case("exit-code", 3, 0, FailureCause::ExitCode)]
    #[case("exit-code", 3, 5, FailureCause::CrashLoop)]
    #[case("start-limit-hit", 0, 0, FailureCause::CrashLoop)]
    #[case("exit-code", 78, 0, FailureCause::FatalExitCode)]
    #[case("exit-code", 78, 3, FailureCause::FatalExitCode)]
    #[case("exit-code", 143, 5, FailureCause::StartTimeout)]
    #[case("timeout", 0, 5, FailureCause::StartTimeout)]
    #[case("signal", 11, 0, FailureCause::Signal)]
    #[case("core-dump", 6, 0, FailureCause::Signal)]
    #[case("oom-kill", 137, 5, FailureCause::OutOfMemory)]
    #[case("resources", 0, 0, FailureCause::Host)]
    #[case("protocol", 0, 0, FailureCause::Host)]
    fn a_service_tells_its_cause(
        #[case] result: &str,
        #[case] status: i32,
        #[case] restarts: u32,
        #[case] expected: FailureCause,
    ) {
        assert_eq!(cause(&service(result, status, restarts)), expected);
    }

    #[test]
    fn what_is_missing_or_full_says_more_than_an_exit_code() {
        let ended = service("exit-code", PODMAN_FAILED, 4);
        let missing = Symptoms {
            image_missing: true,
            ..ended.clone()
        };
        let full = Symptoms {
            storage_full: true,
            ..ended.clone()
        };
        let dependency = Symptoms {
            dependency_failed: true,
            ..ended
        };
        assert_eq!(cause(&missing), FailureCause::ImageMissing);
        assert_eq!(cause(&full), FailureCause::StorageFull);
        assert_eq!(cause(&dependency), FailureCause::Dependency);
    }
}
