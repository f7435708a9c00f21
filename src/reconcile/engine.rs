//! Runs operations: records each before its first effect, one at a time per tenant,
//! and takes up again those that a crash has cut short. What they do is in `operations/`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;
use tokio_util::task::TaskTracker;

use super::admission::{self, Bound};
use super::attempts;
use super::diagnose::needs;
use super::error::OperationError;
use super::installer::Installer;
use super::operations;
use super::progress::{Progress, moved_on};
use super::room;
use super::run::Run;
use super::starts::Starts;
use super::supervisor;
use super::tenant_locks::TenantLocks;
use super::view::{UnitView, Views};
use crate::failpoint;
use crate::host::podman::Podman;
use crate::host::systemd::{ActiveState, Systemd};
use crate::host::{clock, facts};
use crate::layout::{Layout, UnitNames};
use crate::node::NodeSettings;
use crate::quadlet::HostFacts;
use crate::state::{Database, Operation, OperationId, OperationKind, OperationStatus};
use crate::tenant::{Catalog, TenantId};

/// What the daemon can do to tenants. One per process, shared by its tasks.
pub struct Engine {
    /// Where things are.
    pub layout: Layout,
    /// The state database.
    pub database: Database,
    /// The service manager.
    pub systemd: Systemd,
    /// The container engine.
    pub podman: Podman,
    /// What the host is and can do, looked at once.
    pub facts: HostFacts,
    pub(super) installer: Installer,
    pub(super) locks: TenantLocks,
    pub(super) starts: Starts,
    /// Held by whoever judges what the host may still promise, until that is recorded.
    pub(super) promising: tokio::sync::Mutex<()>,
    /// Held while it is judged how many operations are open, until the next are.
    admitting: tokio::sync::Mutex<()>,
    pub(super) progress: Progress,
    /// Something has happened that may concern a revision on trial.
    pub(super) trials_changed: tokio::sync::Notify,
    /// Something has happened that may concern the front.
    pub(super) front_changed: tokio::sync::Notify,
    /// Settings were read again: `[api]` may say something else.
    pub api_changed: tokio::sync::Notify,
    /// What is remembered of the front.
    pub(super) front: Mutex<super::front::Remembered>,
    settings: RwLock<Arc<NodeSettings>>,
    catalog: RwLock<Arc<Catalog>>,
    views: Mutex<Views>,
    tasks: TaskTracker,
    /// Identities handed over with a restore; in memory only, so gone after a crash.
    pub(super) identities: Mutex<BTreeMap<OperationId, operations::Identity>>,
    /// Ends that a full disk kept from being recorded.
    ends: Mutex<Vec<End>>,
    /// Tenants whose state was nearly full when it was last looked at.
    nearly_full: Mutex<BTreeSet<String>>,
}

/// How an operation has ended.
struct End {
    operation: OperationId,
    status: OperationStatus,
    outcome: Value,
    at: Timestamp,
}

impl Engine {
    /// An engine over the given adapters.
    pub fn new(
        layout: Layout,
        database: Database,
        systemd: Systemd,
        podman: Podman,
        facts: HostFacts,
        settings: NodeSettings,
        catalog: Catalog,
    ) -> Arc<Self> {
        let installer = Installer::start(layout.clone(), systemd.clone());
        Arc::new(Self {
            layout,
            database,
            systemd,
            podman,
            facts,
            installer,
            locks: TenantLocks::default(),
            starts: Starts::on(facts::processors()),
            promising: tokio::sync::Mutex::default(),
            admitting: tokio::sync::Mutex::default(),
            progress: Progress::default(),
            trials_changed: tokio::sync::Notify::new(),
            front_changed: tokio::sync::Notify::new(),
            api_changed: tokio::sync::Notify::new(),
            front: Mutex::default(),
            settings: RwLock::new(Arc::new(settings)),
            catalog: RwLock::new(Arc::new(catalog)),
            views: Mutex::default(),
            tasks: TaskTracker::new(),
            identities: Mutex::default(),
            ends: Mutex::default(),
            nearly_full: Mutex::default(),
        })
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<NodeSettings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The templates and plans in force.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts new settings, templates and plans in force.
    pub fn replace_settings(&self, settings: NodeSettings, catalog: Catalog) {
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
        self.front_changed.notify_one();
        self.api_changed.notify_one();
    }

    /// What was last heard of a tenant's agent.
    pub fn agent_view(&self, tenant: &TenantId) -> UnitView {
        let views = self.views();
        let mut view = views.get(&UnitNames(tenant).service());
        if views.is_out_of_memory(tenant) {
            "oom-kill".clone_into(&mut view.result);
        }
        view
    }

    /// Tenants whose state was nearly full.
    pub(super) fn nearly_full(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.nearly_full
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something that a tenant's agent needs has failed, so that systemd does not start it.
    pub(super) fn has_failed_dependency(&self, tenant: &TenantId) -> bool {
        let views = self.views();
        needs(tenant)
            .iter()
            .any(|unit| views.get(unit).active == ActiveState::Failed)
    }

    /// The picture of all units.
    pub(super) fn views(&self) -> std::sync::MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an operation and starts it.
    pub async fn submit(
        self: &Arc<Self>,
        kind: OperationKind,
        tenant: Option<TenantId>,
        request: Value,
        actor: String,
    ) -> Result<Operation, OperationError> {
        let operation = asked(kind, tenant, request, actor);
        self.submit_all(vec![operation.clone()]).await?;
        Ok(operation)
    }

    /// Records new operations, all or none, and starts them.
    pub async fn submit_all(
        self: &Arc<Self>,
        operations: Vec<Operation>,
    ) -> Result<(), OperationError> {
        self.submit_within(Bound::Others, operations).await
    }

    /// As [`Engine::submit_all`], for somebody for whom `bound` holds.
    pub async fn submit_within(
        self: &Arc<Self>,
        bound: Bound,
        operations: Vec<Operation>,
    ) -> Result<(), OperationError> {
        if operations.is_empty() {
            return Ok(());
        }
        self.record_ends().await;
        let applied = operations
            .iter()
            .find(|asked| asked.kind == OperationKind::Apply);
        if let Some(tenant) = applied.and_then(|applied| applied.tenant.as_ref()) {
            room::check(self, &format!("applying {tenant}"), 0).await?;
        }
        let _admitting = self.admitting.lock().await;
        admission::admit(&self.progress.running(), &operations, bound)?;
        self.database.record_operations(operations.clone()).await?;
        failpoint::hit("operation.recorded");
        for operation in operations {
            self.start(operation);
        }
        Ok(())
    }

    /// As [`Engine::submit`], with an identity that is kept in memory only.
    pub async fn submit_with(
        self: &Arc<Self>,
        kind: OperationKind,
        tenant: Option<TenantId>,
        request: Value,
        actor: String,
        identity: Option<operations::Identity>,
    ) -> Result<Operation, OperationError> {
        let operation = asked(kind, tenant, request, actor);
        if let Some(identity) = identity {
            let mut identities = self
                .identities
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            identities.insert(operation.id, identity);
        }
        let recorded = self.submit_all(vec![operation.clone()]).await;
        if recorded.is_err() {
            self.forget_identity(operation.id);
        }
        recorded.map(|()| operation)
    }

    fn forget_identity(&self, operation: OperationId) {
        self.identities
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&operation);
    }

    /// Takes up the operations that a crash has cut short.
    pub async fn resume(self: &Arc<Self>) -> Result<usize, OperationError> {
        let open = self.database.open_operations().await?;
        let count = open.len();
        for operation in open {
            tracing::info!(
                operation = %operation.id,
                kind = operation.kind.as_str(),
                tenant = operation.tenant.as_ref().map(tracing::field::display),
                "taking up an operation that was cut short"
            );
            self.start(operation);
        }
        Ok(count)
    }

    /// An operation, once it has ended or is at another step than `after_step`, or as it is
    /// after `patience`.
    pub async fn operation(
        &self,
        id: OperationId,
        patience: std::time::Duration,
        after_step: Option<&str>,
    ) -> Result<Operation, OperationError> {
        if let Some(watched) = self.progress.watch(id) {
            let latest = watched.clone();
            let moved = tokio::time::timeout(patience, moved_on(watched, after_step)).await;
            return Ok(moved.unwrap_or_else(|_| latest.borrow().clone()));
        }
        self.database
            .operation(id)
            .await?
            .ok_or(OperationError::NoOperation(id))
    }

    /// Operations at work now.
    pub fn running_operations(&self) -> Vec<Operation> {
        self.progress.running()
    }

    /// Whether an operation is at work on `tenant`.
    pub fn is_busy(&self, tenant: &TenantId) -> bool {
        self.locks.is_busy(tenant)
    }

    /// Whether an operation is at work on `tenant`, or waits for its turn with it.
    pub fn is_at_work(&self, tenant: &TenantId) -> bool {
        let running = self.progress.running();
        running
            .iter()
            .any(|operation| operation.tenant.as_ref() == Some(tenant))
    }

    /// Refuses where `bound` lets no other operation of `tenant` begin now.
    pub fn refuse_beyond(&self, bound: Bound, tenant: &TenantId) -> Result<(), OperationError> {
        let running = self.progress.running();
        let first = running
            .iter()
            .find(|operation| operation.tenant.as_ref() == Some(tenant));
        match first {
            Some(first) if bound == Bound::Owner => Err(admission::busy(tenant, first)),
            _ => Ok(()),
        }
    }

    /// Refuses while another operation changes what `tenant` is or whether it runs. Backups and repairs are no such
    /// operations: they are waited for.
    pub fn refuse_busy(&self, tenant: &TenantId) -> Result<(), OperationError> {
        let running = self.progress.running();
        let is_in_the_way = |operation: &&Operation| {
            operation.tenant.as_ref() == Some(tenant)
                && !matches!(
                    operation.kind,
                    OperationKind::Backup | OperationKind::Reconcile
                )
        };
        match running
            .into_iter()
            .find(|operation| is_in_the_way(&operation))
        {
            None => Ok(()),
            Some(operation) => Err(admission::busy(tenant, &operation)),
        }
    }

    /// Records the ends of operations that could not be recorded when they came.
    pub async fn record_ends(&self) {
        let waiting = std::mem::take(&mut *self.ends());
        for end in waiting {
            let recorded = self
                .database
                .finish_operation(end.operation, end.status, end.outcome.clone(), end.at)
                .await;
            if recorded.is_err() {
                self.ends().push(end);
            }
        }
    }

    fn ends(&self) -> std::sync::MutexGuard<'_, Vec<End>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no operation is at work. Those cut short by the end of the process are
    /// taken up by the next.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.record_ends().await;
    }

    fn start(self: &Arc<Self>, operation: Operation) {
        self.progress.begin(operation.clone());
        // Here and not by the task: tasks begin in any order.
        let turn = operation
            .tenant
            .as_ref()
            .map(|tenant| self.locks.queue(tenant));
        let engine = Arc::clone(self);
        self.tasks.spawn(async move {
            let turn = match turn {
                Some(turn) => Some(turn.await),
                None => None,
            };
            engine.run(operation, turn).await;
        });
    }

    #[tracing::instrument(
        name = "operation",
        skip_all,
        fields(
            operation = %operation.id,
            kind = operation.kind.as_str(),
            tenant = operation.tenant.as_ref().map(tracing::field::display),
        )
    )]
    async fn run(self: Arc<Self>, mut operation: Operation, turn: Option<OwnedMutexGuard<()>>) {
        let run = Run::new(Arc::clone(&self), operation.clone());
        let outcome = operations::run(&run).await;
        if let Err(error @ (OperationError::Job { .. } | OperationError::NotHealthy { .. })) =
            &outcome
        {
            let current = run.row().await.ok().and_then(|row| row.current_revision);
            attempts::keep(&run, current, error).await;
        }
        failpoint::hit("operation.done");
        let (status, document) = match &outcome {
            Ok(result) => (OperationStatus::Succeeded, result.clone()),
            Err(error) => {
                let problem = error.problem();
                tracing::error!(code = problem.code, causes = ?problem.causes, "{}", problem.title);
                (
                    OperationStatus::Failed,
                    serde_json::to_value(problem).unwrap_or_default(),
                )
            }
        };
        let now = clock::now();
        let finished = self
            .database
            .finish_operation(operation.id, status, document.clone(), now)
            .await;
        if let Err(error) = finished {
            // Left open, it would be done once more at the next start, although it has ended.
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot record the end; trying again later"
            );
            self.ends().push(End {
                operation: operation.id,
                status,
                outcome: document.clone(),
                at: now,
            });
        }
        self.forget_identity(operation.id);
        operation.status = status;
        operation.outcome = Some(document);
        operation.finished_at = Some(now);
        drop(turn);
        // What happened to the agent meanwhile was the operation's; from here it is looked at.
        if let Some(tenant) = &operation.tenant
            && let Err(error) = supervisor::judge_one(&self, tenant).await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot record a state"
            );
        }
        self.progress.end(operation);
        self.trials_changed.notify_one();
        self.front_changed.notify_one();
    }
}

/// A new operation, not recorded yet.
pub fn asked(
    kind: OperationKind,
    tenant: Option<TenantId>,
    request: Value,
    actor: String,
) -> Operation {
    Operation {
        id: OperationId::now_v7(),
        kind,
        tenant,
        request,
        actor,
        status: OperationStatus::Running,
        step: None,
        progress: None,
        outcome: None,
        started_at: clock::now(),
        finished_at: None,
    }
}
