//! The control daemon: opens what it needs, takes up what was cut short, serves, and ends.
//! It puts the rooms together and decides nothing about a tenant.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{self, ApplyPlan, Change};
use crate::host::facts::Facts;
use crate::host::files::{self, FileError};
use crate::host::podman::{self, Podman};
use crate::host::systemd::Systemd;
use crate::host::{clock, dirs};
use crate::layout::Layout;
use crate::node::fitness::{self, Unfit};
use crate::node::{NodeSettings, SettingsError};
use crate::reconcile::{
    Engine, OperationError, backup_timer, containers, drift, front, specs_dir, supervisor, tend,
    trials,
};
use crate::state::{Database, Operation, OperationStatus, StateError};

/// How long operations at work may go on after the daemon was asked to end; what is cut
/// short is taken up by the next one. Below `TimeoutStopSec=` of the unit.
const DRAIN: Duration = Duration::from_secs(10);

/// A full look with every so many watchdog pings (half of `WatchdogSec=30s` each): drift and
/// missed events are found within ten minutes, and an idle daemon stays idle.
const PINGS_PER_LOOK: u32 = 40;

/// Longest wait for news of one operation before it is asked for again.
const A_WHILE: Duration = Duration::from_mins(1);

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The node was never set up.
    #[error("this node is not set up: {0} is missing; run `tenantd init`")]
    NoSettings(camino::Utf8PathBuf),
    /// The node was rebuilt in part.
    #[error(
        "the rebuild of this node was cut short; `tenantd restore --node --identity FILE` ends it and starts tenantd"
    )]
    HalfRestored,
    /// A file could not be read or made.
    #[error("cannot prepare the host's files")]
    File(#[from] FileError),
    /// `node.toml` is not valid.
    #[error("the node's settings are not valid")]
    Settings(#[from] SettingsError),
    /// Tenants cannot run on this host.
    #[error("this host cannot run tenants; nothing was changed")]
    Unfit(#[from] Unfit),
    /// The state database cannot be used.
    #[error("the state database cannot be used")]
    State(#[from] StateError),
    /// Templates or plans of the operator are not valid, or tenants cannot be looked at.
    #[error("the tenants cannot be taken up")]
    Tenants(#[from] OperationError),
    /// The API cannot be served.
    #[error("the API cannot be served")]
    Serve(#[from] api::server::ServeError),
    /// Signals cannot be received.
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
}

/// Runs the daemon until it is asked to end.
pub async fn serve(layout: Layout) -> Result<(), DaemonError> {
    let settings = read_settings(&layout)?;
    if layout.node_restore_file().exists() {
        return Err(DaemonError::HalfRestored);
    }
    let facts = Facts::gather(layout.root());
    fitness::judge(&facts)?;
    let systemd = Systemd::connect().await.map_err(Unfit::from)?;
    fitness::judge_systemd(&systemd.version().await.map_err(Unfit::from)?)?;
    let podman = Podman::connect(podman::SOCKET.into()).await;
    let podman = podman.map_err(Unfit::from)?;
    // From here on the host is touched.
    dirs::make(&layout.data_dir(), 0o700)?;
    let listener = api::server::listen(&layout.api_socket()).await?;
    let facts = fitness::host_facts(&facts);
    let database = Database::open(&layout.database())?;
    let catalog = specs_dir::load_catalog(&layout)?;
    let engine = Engine::new(layout, database, systemd, podman, facts, settings, catalog);

    // Watching begins before the first look, so that nothing falls between the two.
    tokio::spawn(supervisor::watch(Arc::clone(&engine)));
    tokio::spawn(containers::watch(Arc::clone(&engine)));
    supervisor::look(&engine).await?;
    backup_timer::apply(&engine).await;
    engine.resume().await?;
    // After the operations that were cut short are known: they come first.
    tokio::spawn(trials::watch(Arc::clone(&engine)));
    drift::repair(&engine).await?;
    tokio::spawn(front::watch(Arc::clone(&engine)));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let router = api::router(Arc::clone(&engine));
    tokio::spawn(api::tcp::watch(Arc::clone(&engine), router.clone()));
    let serving = tokio::spawn(api::server::serve(listener, router, async {
        // A dropped sender means the end as well.
        let _ = stopped.await;
    }));
    notify(&[
        NotifyState::Ready,
        NotifyState::Status(&status_line(&engine).await),
    ]);
    tracing::info!("tenantd serves {}", engine.layout.api_socket());
    if let Err(error) = specs_dir::apply_directory(&engine, false).await {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "cannot apply tenants.d"
        );
    }

    until_asked_to_end(&engine).await?;
    notify(&[NotifyState::Stopping]);
    let _ = stop.send(());
    if tokio::time::timeout(DRAIN, engine.drain()).await.is_err() {
        tracing::warn!("operations are still at work; the next tenantd takes them up");
    }
    if let Ok(Ok(result)) = tokio::time::timeout(Duration::from_secs(1), serving).await {
        result?;
    }
    Ok(())
}

/// Serves signals and the watchdog; returns when asked to end.
async fn until_asked_to_end(engine: &Arc<Engine>) -> Result<(), DaemonError> {
    let on = |kind| signal(kind).map_err(DaemonError::Signals);
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut hangup = on(SignalKind::hangup())?;
    // Half the watchdog's time, as sd_watchdog_enabled(3) advises; without one, the looks stay.
    let half = sd_notify::watchdog_enabled().map_or(Duration::from_secs(15), |time| time / 2);
    let mut ping = clock::ticks(half);
    let mut pings = 0_u32;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => {
                match reload(engine, false).await {
                    Ok(reloaded) => {
                        tokio::spawn(log_outcome(Arc::clone(engine), reloaded));
                    }
                    Err(error) => {
                        tracing::error!(error = &error as &dyn std::error::Error, "reload failed");
                    }
                }
            }
            _ = ping.recv() => {
                pings = pings.wrapping_add(1);
                if pings.is_multiple_of(PINGS_PER_LOOK) {
                    // Inside the ping's arm: a daemon that cannot look is not alive.
                    if let Err(error) = look(engine).await {
                        tracing::warn!(error = &error as &dyn std::error::Error, "look failed");
                    }
                }
                tend(engine, pings).await;
                notify(&[NotifyState::Watchdog, NotifyState::Status(&status_line(engine).await)]);
            }
        }
    }
}

/// A full look; returns the repairs that it has started.
async fn look(engine: &Arc<Engine>) -> Result<Vec<Operation>, OperationError> {
    supervisor::look(engine).await?;
    engine.warn_of_storage().await?;
    drift::repair(engine).await
}

/// What a reload has started and found.
#[derive(Debug)]
pub struct Reloaded {
    /// The tenants that are put right because they were not as recorded, then what the specs
    /// lead to; each with its operation at its beginning.
    pub plans: Vec<ApplyPlan>,
    /// The faults of specs that are not valid.
    pub faults: Vec<OperationError>,
}

/// Reads `node.toml`, templates, plans and specs again, puts right what is not as recorded and
/// applies what changed. With `pull`, images' registries are asked again.
pub async fn reload(engine: &Arc<Engine>, pull: bool) -> Result<Reloaded, OperationError> {
    notify(&[NotifyState::Status("reading settings and specs again")]);
    let settings =
        read_settings(&engine.layout).map_err(|error| OperationError::Settings(Box::new(error)))?;
    let catalog = specs_dir::load_catalog(&engine.layout)?;
    engine.replace_settings(settings, catalog);
    backup_timer::apply(engine).await;
    let mut plans: Vec<_> = look(engine).await?.into_iter().map(repair_plan).collect();
    let outcome = specs_dir::apply_directory(engine, pull).await;
    notify(&[NotifyState::Status(&status_line(engine).await)]);
    let (specs, faults) = outcome?;
    // A tenant that is put right is not also one that does not change.
    let told: BTreeSet<_> = plans.iter().map(|plan| plan.tenant.clone()).collect();
    let is_news = |plan: &ApplyPlan| plan.change != Change::None || !told.contains(&plan.tenant);
    plans.extend(specs.into_iter().filter(is_news));
    Ok(Reloaded { plans, faults })
}

fn repair_plan(operation: Operation) -> ApplyPlan {
    ApplyPlan {
        tenant: operation
            .tenant
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        change: Change::Repair,
        files: Vec::new(),
        impact: None,
        warnings: Vec::new(),
        pinned: None,
        operation: Some(operation),
    }
}

/// Waits for all that a reload has started and logs what came of it: who sent a signal gets
/// no other answer.
async fn log_outcome(engine: Arc<Engine>, reloaded: Reloaded) {
    let started = reloaded.plans.into_iter().filter_map(|plan| plan.operation);
    let (mut changed, mut failed) = (0, reloaded.faults.len());
    for mut operation in started {
        while operation.status == OperationStatus::Running {
            let step = operation.step.clone();
            let news = engine.operation(operation.id, A_WHILE, step.as_deref());
            match news.await {
                Ok(news) => operation = news,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    return tracing::error!(error, "cannot tell what came of the reload");
                }
            }
        }
        // The operation itself has logged why.
        match operation.status {
            OperationStatus::Failed => failed += 1,
            OperationStatus::Succeeded | OperationStatus::Running => changed += 1,
        }
    }
    if failed > 0 {
        tracing::error!(
            changed,
            failed,
            "reload: {changed} changed, {failed} failed"
        );
    } else {
        tracing::info!(changed, "reload: {changed} changed, none failed");
    }
}

/// The node's settings.
pub fn read_settings(layout: &Layout) -> Result<NodeSettings, DaemonError> {
    read_settings_of(&layout.node_toml())
}

/// Reads a `node.toml` that may be elsewhere.
pub fn read_settings_of(path: &camino::Utf8PathBuf) -> Result<NodeSettings, DaemonError> {
    let bytes = match files::read(path, 64 * 1024) {
        Err(error) if error.is_absent() => return Err(DaemonError::NoSettings(path.clone())),
        other => other?,
    };
    Ok(NodeSettings::parse(&String::from_utf8_lossy(&bytes), path)?)
}

/// One sentence for `systemctl status`.
async fn status_line(engine: &Engine) -> String {
    let Ok(tenants) = engine.states().await else {
        return "the state database does not answer".to_owned();
    };
    let total: usize = tenants.values().sum();
    let counts: Vec<_> = tenants
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    match total {
        0 => "no tenants yet".to_owned(),
        1 => format!("1 tenant: {}", counts.join(", ")),
        _ => format!("{total} tenants: {}", counts.join(", ")),
    }
}

fn notify(states: &[NotifyState<'_>]) {
    // Outside systemd there is nobody to tell.
    let _ = sd_notify::notify(states);
}
