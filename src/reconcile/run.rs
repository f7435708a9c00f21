//! One operation at work: its engine, its record, and the step it is at.
//! It records and announces; it decides nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::approach::Approach;
use super::decide::Step;
use super::engine::Engine;
use super::error::OperationError;
use super::starts::Place;
use crate::api::ProbeAttempt;
use crate::failpoint;
use crate::host::clock;
use crate::state::{Goal, Operation, OperationKind, TenantRow, Wanted, Why};
use crate::tenant::{Edge, FailureCause, TenantId, TenantState};

/// How much of the agent's log from before its rollback is evidence.
const BEFORE_A_ROLLBACK: SignedDuration = SignedDuration::from_mins(10);

/// An operation at work.
pub struct Run {
    /// The engine that runs it.
    pub engine: Arc<Engine>,
    /// What was asked for.
    pub operation: Operation,
    /// Its place among the agents that start.
    place: Mutex<Option<Place>>,
    /// While it is on its way to the installer.
    approach: Mutex<Option<Approach>>,
    /// The newest questions to the agent and its answers.
    probes: Mutex<VecDeque<ProbeAttempt>>,
    evidence_kept: AtomicBool,
}

/// Questions to the agent that are remembered.
const PROBES: usize = 50;

impl Run {
    pub(super) fn new(engine: Arc<Engine>, operation: Operation) -> Self {
        Self {
            engine,
            operation,
            place: Mutex::default(),
            approach: Mutex::default(),
            probes: Mutex::default(),
            evidence_kept: AtomicBool::new(false),
        }
    }

    /// Whether it was cut short before, and is taken up again.
    pub fn is_taken_up(&self) -> bool {
        self.operation.step.is_some()
    }

    /// From when on the agent's log tells of it: where tenantd acts because of what happened before, somewhat earlier.
    pub fn since(&self) -> Timestamp {
        let earlier = match self.operation.kind {
            OperationKind::Rollback => BEFORE_A_ROLLBACK,
            _ => SignedDuration::ZERO,
        };
        let began = self.operation.started_at;
        began.checked_sub(earlier).unwrap_or(began)
    }

    /// Remembers what the agent answered to a probe.
    pub fn probed(&self, answer: String) {
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        if probes.len() == PROBES {
            probes.pop_front();
        }
        let at = clock::now();
        probes.push_back(ProbeAttempt { at, answer });
    }

    /// What the agent answered lately.
    pub fn probes(&self) -> Vec<ProbeAttempt> {
        let probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        probes.iter().cloned().collect()
    }

    /// Whether the evidence of this attempt is kept already.
    pub fn is_evidence_kept(&self) -> bool {
        self.evidence_kept.load(Ordering::Relaxed)
    }

    /// The evidence of this attempt is kept: what is seen later is no evidence of it.
    pub fn evidence_is_kept(&self) {
        self.evidence_kept.store(true, Ordering::Relaxed);
    }

    /// The tenant it is about.
    pub fn tenant(&self) -> Result<&TenantId, OperationError> {
        // Only a database edited by hand can lack it.
        self.operation
            .tenant
            .as_ref()
            .ok_or(OperationError::Interrupted)
    }

    /// The tenant's row.
    pub async fn row(&self) -> Result<TenantRow, OperationError> {
        Ok(self.engine.database.tenant(self.tenant()?.clone()).await?)
    }

    /// Records and announces the step that comes next.
    pub async fn step(&self, step: &str) -> Result<(), OperationError> {
        tracing::info!("{step}");
        self.engine
            .database
            .operation_step(self.operation.id, step.to_owned())
            .await?;
        self.engine.progress.step(self.operation.id, step);
        Ok(())
    }

    /// Takes a place among the agents that start, and waits for its turn where there is none.
    /// It is given back when the agent is healthy, with the run's end, or after a while.
    pub async fn take_place(&self, step: &Step) -> Result<(), OperationError> {
        drop(self.take_approach());
        // One that an earlier start of this run has left may be given back already.
        self.give_place_back();
        let starts = &self.engine.starts;
        let place = if let Some(place) = starts.free_place() {
            place
        } else {
            self.step(&format!("wait for its turn to {step}")).await?;
            let place = starts.next_place().await;
            self.step(&step.to_string()).await?;
            place
        };
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
        Ok(())
    }

    /// Has the installer's next round wait for this run, a moment.
    pub fn announce(&self, approach: Approach) {
        *self.approach.lock().unwrap_or_else(PoisonError::into_inner) = Some(approach);
    }

    /// The run has arrived at the installer, or does something else first.
    pub fn take_approach(&self) -> Option<Approach> {
        self.approach
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Lets the next agent start.
    pub fn give_place_back(&self) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Moves the tenant along an edge of its state machine. An operation that was cut short finds the
    /// tenant there already, or further on: then by the edges that lead back to this one.
    ///
    /// # Errors
    /// The tenant cannot go there from where it is; nothing is recorded.
    pub async fn follow(&self, edge: Edge, reason: Option<String>) -> Result<(), OperationError> {
        self.go(Goal::By(edge), reason, None).await
    }

    /// Records where the tenant stands, by the edges that lead there.
    pub async fn reach(
        &self,
        state: TenantState,
        reason: Option<String>,
    ) -> Result<(), OperationError> {
        self.go(Goal::At(state), reason, None).await
    }

    /// Records that what was tried failed, and why.
    pub async fn fail(
        &self,
        error: &OperationError,
        cause: Option<FailureCause>,
    ) -> Result<(), OperationError> {
        self.go(Goal::By(Edge::Fail), Some(error.chain()), cause)
            .await
    }

    /// Records that the tenant has failed, as it had before this operation.
    pub async fn fail_as(&self, before: &TenantRow) -> Result<(), OperationError> {
        let goal = Goal::At(TenantState::Failed);
        self.go(goal, before.reason.clone(), before.cause).await
    }

    /// Records that the agent is started again, and why where somebody other than an operator asked.
    pub async fn restarting(&self) -> Result<(), OperationError> {
        let request = &self.operation.request;
        let cause = serde_json::from_value(request["cause"].clone()).ok();
        let reason = request["reason"].as_str().map(str::to_owned);
        self.go(Goal::By(Edge::Restart), reason, cause).await
    }

    async fn go(
        &self,
        goal: Goal,
        reason: Option<String>,
        cause: Option<FailureCause>,
    ) -> Result<(), OperationError> {
        let tenant = self.tenant()?.clone();
        let why = self.why(reason, cause);
        Ok(self.engine.database.move_tenant(tenant, goal, why).await?)
    }

    /// Who this operation is for, for the records.
    pub fn why(&self, reason: Option<String>, cause: Option<FailureCause>) -> Why {
        Why {
            actor: self.operation.actor.clone(),
            at: clock::now(),
            reason,
            cause,
        }
    }

    /// Records what the operator wants of the tenant.
    pub async fn want(
        &self,
        wanted: Wanted,
        because: Option<String>,
    ) -> Result<(), OperationError> {
        let tenant = self.tenant()?.clone();
        let actor = self.operation.actor.clone();
        self.engine
            .database
            .set_wanted(tenant, wanted, because, actor, clock::now())
            .await?;
        failpoint::hit("operation.wanted");
        Ok(())
    }
}
