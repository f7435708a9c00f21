//! Brings one tenant to what is wanted: observes, decides, takes the steps, looks again.

use std::time::Duration;

use camino::Utf8PathBuf;

use super::blocking;
use super::decide::{Agent, Desired, Difference, Observed, Step, decide};
use super::engine::Engine;
use super::error::OperationError;
use super::evidence;
use super::judge::ending;
use super::limits;
use super::observe::drift;
use super::run::Run;
use super::view::is_about_to_restart;
use super::{endpoints, ingress};
use crate::failpoint;
use crate::gateway::ingress::Held;
use crate::host::podman::PodmanError;
use crate::host::probe::{self, Target};
use crate::host::systemd::{ActiveState, JobResult, LoadState, UnitStatus};
use crate::host::{clock, dirs, files};
use crate::layout::UnitNames;
use crate::quadlet::UnitSet;
use crate::sleep;
use crate::state::{StoredRevision, TenantRow, Wanted};
use crate::tenant::{EgressMode, Runtime, TenantId};

/// Looks after which nothing is left to do, or something works against us.
const ROUNDS: usize = 4;

/// The label with which a unit set marks its container.
const REVISION_LABEL: &str = "tenantd.revision";

/// Longest time for one probe through the ingress.
const PROBE: Duration = Duration::from_secs(10);

/// Pause between two probes through the ingress.
const PROBE_PAUSE: Duration = Duration::from_millis(100);

/// How often a unit is stopped when a start takes the place of the stop: one that was on its way
/// when the tenant was held still starts what the agent needs, though not the agent.
const STOPS: usize = 5;

/// How long an agent that runs may fail to answer through its ingress.
const INGRESS_PATIENCE: Duration = Duration::from_secs(30);

/// Brings the run's tenant to what its row wants.
pub async fn converge(run: &Run) -> Result<(), OperationError> {
    let mut tried = Vec::new();
    for _ in 0..ROUNDS {
        let row = run.row().await?;
        let (desired, stored) = desired(run, &row).await?;
        let observed = observe(run, &row, stored.as_ref()).await?;
        let mut steps = decide(&desired, &observed);
        // What the host does not take is no reason to end here: it is tried once, and shown.
        steps.retain(|step| !tried.contains(step));
        if steps.is_empty() {
            return Ok(());
        }
        for step in steps {
            run.step(&step.to_string()).await?;
            failpoint::hit("converge.step");
            take(run, &step, stored.as_ref()).await?;
            if is_tried_once(&step) {
                tried.push(step);
            }
        }
    }
    Err(OperationError::Unsettled(run.tenant()?.clone()))
}

/// Whether a step that changes nothing is not taken again: the tenant runs on without.
fn is_tried_once(step: &Step) -> bool {
    matches!(
        step,
        Step::LimitStorage | Step::AdjustLimits | Step::RestartJournal
    )
}

async fn desired(
    run: &Run,
    row: &TenantRow,
) -> Result<(Desired, Option<StoredRevision>), OperationError> {
    let Some(number) = row
        .current_revision
        .filter(|_| row.wanted != Wanted::Removed)
    else {
        return Ok((Desired::Absent, None));
    };
    let stored = run.engine.database.revision(row.id.clone(), number).await?;
    let stored = stored.ok_or_else(|| OperationError::NoRevision(row.id.clone()))?;
    let desired = if row.wanted.is_held() {
        Desired::Held
    } else {
        Desired::Running {
            revision: number,
            wake: stored.revision.resolved.wake,
        }
    };
    Ok((desired, Some(stored)))
}

async fn observe(
    run: &Run,
    row: &TenantRow,
    stored: Option<&StoredRevision>,
) -> Result<Observed, OperationError> {
    let engine = &run.engine;
    let unit_set = stored.map(|stored| &stored.unit_set);
    let (layout, tenant, wanted) = (engine.layout.clone(), row.id.clone(), unit_set.cloned());
    let (drift, held) = blocking(move || {
        let held = layout.held_file(&tenant).exists();
        drift(&layout, &tenant, wanted.as_ref()).map(|drift| (drift, held))
    })
    .await
    .map_err(|source| files::FileError::Io {
        verb: "compare the installed units in",
        path: engine.layout.unit_dir(),
        source,
    })?;
    let names = UnitNames(&row.id);
    let (service, socket) = (names.service(), names.instance("ingress", "socket"));
    let timer = names.instance("wake", "timer");
    let mut helpers: Vec<_> = ["net", "awake", "ingress", "egress", "endpoints", "restore"]
        .map(|template| names.instance(template, "service"))
        .into();
    helpers.push(names.instance("egress", "socket"));
    let mut wanted: Vec<&str> = helpers.iter().map(String::as_str).collect();
    wanted.extend([service.as_str(), socket.as_str(), timer.as_str()]);
    let units = engine.systemd.units(&wanted).await?;
    let details = engine.systemd.general(&service).await?;
    let egress = names.instance("egress", "socket");
    let find = |name: &str| units.iter().find(|unit| unit.name == name);
    let is_active =
        |name: &str| find(name).is_some_and(|unit| unit.active != ActiveState::Inactive);
    let agent = find(&service).map_or(Agent::Inactive, agent);
    // Only a container that runs has a revision; asking costs a call to Podman.
    let running_revision = match agent {
        Agent::Active | Agent::Starting => running_revision(engine, &names.container())
            .await
            .unwrap_or_else(|error| {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "Podman does not say what runs"
                );
                None
            }),
        Agent::Inactive | Agent::Failed => None,
    };
    let difference = match (running_revision, stored) {
        (Some(running), Some(wanted)) => limits::difference(engine, running, wanted).await?,
        _ => Difference::default(),
    };
    let storage_outdated = match stored {
        Some(wanted) => {
            let limits = &wanted.revision.resolved.limits;
            limits::is_storage_outdated(engine, &row.id, limits).await
        }
        None => false,
    };
    Ok(Observed {
        differing: drift.differing,
        surplus: drift.surplus,
        // The installer reloads after each change of files and checks that it took. A unit that
        // is not there although its file is, or that is not what its file says, tells that a
        // reload was cut short.
        needs_reload: details.need_daemon_reload
            || unit_set.is_some() && details.load != LoadState::Loaded,
        held,
        agent,
        running_revision,
        difference,
        journal_outdated: stored.is_some() && limits::is_journal_outdated(engine, &row.id).await?,
        storage_outdated,
        egress_unwanted: is_active(&egress)
            && stored
                .is_some_and(|wanted| wanted.revision.resolved.egress.mode == EgressMode::None),
        endpoints_outdated: endpoints::is_outdated(engine, &row.id, stored).await?,
        socket_listening: find(&socket).is_some_and(|unit| unit.active == ActiveState::Active),
        timer_active: find(&timer).is_some_and(|unit| unit.active == ActiveState::Active),
        helpers_active: helpers.iter().any(|name| is_active(name)),
    })
}

/// The revision that a container was made for, by the label that its unit gave it.
async fn running_revision(engine: &Engine, container: &str) -> Result<Option<u64>, PodmanError> {
    let container = engine.podman.container(container).await?;
    Ok(container.and_then(|found| found.labels.get(REVISION_LABEL)?.parse().ok()))
}

fn agent(unit: &UnitStatus) -> Agent {
    match unit.active {
        ActiveState::Active | ActiveState::Reloading => Agent::Active,
        _ if is_about_to_restart(&unit.sub) => Agent::Starting,
        ActiveState::Failed => Agent::Failed,
        ActiveState::Inactive => Agent::Inactive,
        ActiveState::Activating | ActiveState::Deactivating | ActiveState::Other(_) => {
            Agent::Starting
        }
    }
}

async fn take(
    run: &Run,
    step: &Step,
    stored: Option<&StoredRevision>,
) -> Result<(), OperationError> {
    let engine = &run.engine;
    let tenant = run.tenant()?;
    let names = UnitNames(tenant);
    match step {
        Step::Hold => {
            let path = engine.layout.held_file(tenant);
            let row = run.row().await?;
            let held = match row.wanted {
                Wanted::Suspended => Held::Suspended,
                Wanted::Running | Wanted::Stopped | Wanted::Removed => Held::Stopped,
            };
            let because = row.held_because.map(|because| format!(": {because}"));
            let because = format!("{}{}", held.as_str(), because.unwrap_or_default());
            blocking(move || {
                if let Some(parent) = path.parent() {
                    dirs::make(parent, 0o700)?;
                }
                files::write(&path, because.as_bytes(), 0o600)
            })
            .await?;
            // A door reads at its start whether its tenant is held.
            stop(run, &names.instance("ingress", "service")).await
        }
        Step::Release => {
            let path = engine.layout.held_file(tenant);
            blocking(move || files::remove(&path)).await?;
            stop(run, &names.instance("ingress", "service")).await
        }
        Step::StopAgent => {
            stop(run, &names.instance("awake", "service")).await?;
            stop(run, &names.service()).await?;
            Ok(engine.systemd.reset_failed(&names.service()).await?)
        }
        Step::StopHelpers => {
            for unit in [
                names.instance("wake", "timer"),
                names.instance("ingress", "socket"),
                names.instance("ingress", "service"),
                names.instance("endpoints", "socket"),
                names.instance("endpoints", "service"),
                names.instance("awake", "service"),
                names.instance("restore", "service"),
                names.instance("egress", "socket"),
                names.instance("egress", "service"),
                names.instance("net", "service"),
                names.slice(),
                // systemd starts these for the agent's LogNamespace=, and nobody stops them.
                format!("systemd-journald@{}.socket", names.journal_namespace()),
                format!(
                    "systemd-journald-varlink@{}.socket",
                    names.journal_namespace()
                ),
                format!("systemd-journald@{}.service", names.journal_namespace()),
            ] {
                stop(run, &unit).await?;
                engine.systemd.reset_failed(&unit).await?;
            }
            Ok(())
        }
        Step::Install { write, remove } => install(run, stored, write, remove).await,
        Step::Reload => {
            let set = unit_set(stored);
            engine
                .installer
                .install(
                    tenant.clone(),
                    set,
                    Vec::new(),
                    Vec::new(),
                    run.take_approach(),
                )
                .await
        }
        Step::Listen => {
            ingress::check(engine, tenant).await?;
            let unit = names.instance("ingress", "socket");
            let result = engine.systemd.start(&unit).await?;
            done(run, &unit, "start", result).await
        }
        Step::StartTimer => {
            let unit = names.instance("wake", "timer");
            let result = engine.systemd.start(&unit).await?;
            done(run, &unit, "start", result).await
        }
        Step::StopTimer => stop(run, &names.instance("wake", "timer")).await,
        Step::RestartJournal => limits::restart_journal(run).await,
        Step::RenewEndpoints => renew_endpoints(run, names, stored).await,
        Step::LimitStorage => limits::limit_storage(run).await,
        Step::CloseEgress => stop(run, &names.instance("egress", "socket")).await,
        Step::AdjustLimits => match stored {
            Some(wanted) => limits::adjust(run, wanted).await,
            None => Ok(()),
        },
        Step::StartAgent | Step::RestartAgent => start_agent(run, step).await,
    }
}

/// Installs files, and ends a door that knows its tenant's sleep by older ones.
async fn install(
    run: &Run,
    stored: Option<&StoredRevision>,
    write: &[Utf8PathBuf],
    remove: &[Utf8PathBuf],
) -> Result<(), OperationError> {
    let (engine, tenant) = (&run.engine, run.tenant()?);
    let before = runtime(engine, tenant).await;
    engine
        .installer
        .install(
            tenant.clone(),
            unit_set(stored),
            write.to_vec(),
            remove.to_vec(),
            run.take_approach(),
        )
        .await?;
    // A door reads at its start how its tenant sleeps.
    let sleep = |runtime: Option<Runtime>| runtime.map(|now| (now.sleep, now.idle_probe));
    if sleep(before) == sleep(runtime(engine, tenant).await) {
        return Ok(());
    }
    stop(run, &UnitNames(tenant).instance("ingress", "service")).await
}

/// The socket stays for the next door, if there is to be one.
async fn renew_endpoints(
    run: &Run,
    names: UnitNames<'_>,
    stored: Option<&StoredRevision>,
) -> Result<(), OperationError> {
    if stored.is_none_or(|stored| !endpoints::has_any(stored)) {
        stop(run, &names.instance("endpoints", "socket")).await?;
    }
    stop(run, &names.instance("endpoints", "service")).await
}

fn unit_set(stored: Option<&StoredRevision>) -> Option<UnitSet> {
    stored.map(|stored| stored.unit_set.clone())
}

/// Starts or restarts the agent in its turn and waits for the job, which ends when the start probe passes.
pub async fn start_agent(run: &Run, step: &Step) -> Result<(), OperationError> {
    run.take_place(step).await?;
    let systemd = &run.engine.systemd;
    let unit = UnitNames(run.tenant()?).service();
    systemd.reset_failed(&unit).await?;
    let (verb, result) = if *step == Step::RestartAgent {
        ("restart", systemd.restart(&unit).await?)
    } else {
        ("start", systemd.start(&unit).await?)
    };
    failpoint::hit("converge.agent-started");
    done(run, &unit, verb, result).await
}

/// Makes sure that the agent answers through the path that its users take.
pub async fn wait_healthy(run: &Run) -> Result<(), OperationError> {
    let tenant = run.tenant()?;
    if runtime(&run.engine, tenant)
        .await
        .is_some_and(|runtime| runtime.sleep.is_some())
    {
        // A probe would not wake it, and a start may take longer than a probe waits.
        start_agent(run, &Step::StartAgent).await?;
    }
    run.step("probe the agent through its ingress").await?;
    let asked = ask_until_healthy(&run.engine, tenant, |answer| run.probed(answer)).await;
    let Err(reason) = asked else {
        run.give_place_back();
        return Ok(());
    };
    Err(OperationError::NotHealthy {
        tenant: tenant.clone(),
        reason,
        log: agents_words(run).await,
    })
}

/// Whether a tenant's agent answers through the path that its users take, within [`INGRESS_PATIENCE`]; else why not.
pub async fn ask_through_ingress(engine: &Engine, tenant: &TenantId) -> Result<(), String> {
    ask_until_healthy(engine, tenant, |_| ()).await
}

async fn ask_until_healthy(
    engine: &Engine,
    tenant: &TenantId,
    note: impl Fn(String),
) -> Result<(), String> {
    let layout = &engine.layout;
    let Some(runtime) = runtime(engine, tenant).await else {
        return Err("its runtime.json is not readable; apply its spec again".to_owned());
    };
    if runtime.sleep.is_some() {
        let wake = sleep::Asked::WakeTenant(tenant.clone());
        if let Err(error) = sleep::tell(&layout.sleep_socket(), &wake).await {
            note(error.to_string());
        }
    }
    let target = Target::Unix(layout.ingress_socket(tenant));
    let begin = clock::monotonic();
    loop {
        let error = match probe::ask(&target, &runtime.start_probe, PROBE).await {
            Ok(()) => {
                note(format!("{} was answered well", runtime.start_probe.path));
                return Ok(());
            }
            Err(error) => error.to_string(),
        };
        note(error.clone());
        // The agent has answered its start probe already: what is left is the door's start.
        if begin.elapsed() >= INGRESS_PATIENCE {
            return Err(error);
        }
        tokio::time::sleep(PROBE_PAUSE).await;
    }
}

/// What the installed units say of a tenant, if that can be read.
async fn runtime(engine: &Engine, tenant: &TenantId) -> Option<Runtime> {
    let path = engine.layout.runtime_file(tenant);
    let bytes = blocking(move || files::read(&path, 64 * 1024)).await.ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Stops a unit. Whether somebody starts it again is not looked at: a door that knows by now that its tenant is held may.
pub(super) async fn stop(run: &Run, unit: &str) -> Result<(), OperationError> {
    let mut result = JobResult::Canceled;
    for _ in 0..STOPS {
        if is_down(run, unit, &[ActiveState::Inactive]).await? {
            return Ok(());
        }
        result = run.engine.systemd.stop(unit).await?;
        if result != JobResult::Canceled {
            break;
        }
    }
    done(run, unit, "stop", result).await
}

/// Stops a unit that nobody may start any more, and makes sure that it is down: a start that was on its way can take the
/// place of the stop.
pub(super) async fn stop_for_sure(run: &Run, unit: &str) -> Result<(), OperationError> {
    for _ in 0..STOPS {
        stop(run, unit).await?;
        if is_down(run, unit, &[ActiveState::Inactive, ActiveState::Failed]).await? {
            return Ok(());
        }
    }
    done(run, unit, "stop", JobResult::Canceled).await
}

async fn is_down(run: &Run, unit: &str, down: &[ActiveState]) -> Result<bool, OperationError> {
    let found = run.engine.systemd.units(&[unit]).await?;
    Ok(found.iter().all(|unit| down.contains(&unit.active)))
}

/// What the agent wrote since this operation began.
async fn agents_words(run: &Run) -> Vec<String> {
    match run.row().await {
        Ok(row) => evidence::of_agent(&row.id, row.id_range, run.operation.started_at).await,
        Err(error) => vec![error.to_string()],
    }
}

/// Makes an error of a job that did not do what it should.
pub(super) async fn done(
    run: &Run,
    unit: &str,
    verb: &'static str,
    result: JobResult,
) -> Result<(), OperationError> {
    if matches!(result, JobResult::Done) {
        return Ok(());
    }
    let details = run.engine.systemd.details(unit).await?;
    let reason = match (&result, details.service) {
        (JobResult::Failed, Some(service)) => ending(&super::view::UnitView {
            active: details.active,
            sub: details.sub,
            result: service.result,
            status: service.exec_main_status,
            restarts: service.restarts,
        }),
        (JobResult::Dependency, _) => {
            "something it needs failed (its restore or its network namespace)".to_owned()
        }
        (JobResult::Skipped, _) => "a condition is not met; is the tenant held?".to_owned(),
        (other, _) => format!("the job ended as {other:?}"),
    };
    let tenant = run.tenant()?;
    Err(OperationError::Job {
        tenant: tenant.clone(),
        unit: unit.to_owned(),
        verb,
        reason,
        log: if unit == UnitNames(tenant).service() {
            agents_words(run).await
        } else {
            evidence::of_unit(unit).await
        },
    })
}
