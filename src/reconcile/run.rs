//! One operation at work: its engine, its record, and the step it is at.
//! It records and announces; it decides nothing.

use std::sync::{Arc, Mutex, PoisonError};

use super::approach::Approach;
use super::decide::Step;
use super::engine::Engine;
use super::error::OperationError;
use super::starts::Place;
use crate::failpoint;
use crate::host::clock;
use crate::state::{Operation, TenantRow, Wanted};
use crate::tenant::{Edge, TenantId, TenantState};

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
}

impl Run {
    pub(super) fn new(engine: Arc<Engine>, operation: Operation) -> Self {
        Self {
            engine,
            operation,
            place: Mutex::default(),
            approach: Mutex::default(),
        }
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

    /// Moves the tenant along an edge of its state machine.
    ///
    /// An operation that was cut short finds the tenant further on, or where the supervisor
    /// saw it: the record then follows what happens.
    pub async fn follow(&self, edge: Edge, reason: Option<String>) -> Result<(), OperationError> {
        let row = self.row().await?;
        let state = match row.state.follow(edge) {
            Ok(state) => state,
            Err(illegal) => {
                tracing::debug!("{illegal}; recorded all the same");
                edge.ends().1
            }
        };
        self.set_state(state, reason).await
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

    /// Records where the tenant stands.
    pub async fn set_state(
        &self,
        state: TenantState,
        reason: Option<String>,
    ) -> Result<(), OperationError> {
        let tenant = self.tenant()?.clone();
        let actor = self.operation.actor.clone();
        self.engine
            .database
            .set_state(tenant, state, reason, actor, clock::now())
            .await?;
        Ok(())
    }
}
