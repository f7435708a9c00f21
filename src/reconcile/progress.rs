//! Who waits for which operation: each one's latest state on a watch channel.
//! The database is the truth; this only wakes those who wait.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::state::{Operation, OperationId, OperationProgress, OperationStatus};

/// The operations at work now.
#[derive(Default)]
pub struct Progress {
    running: Mutex<HashMap<OperationId, watch::Sender<Operation>>>,
}

impl Progress {
    /// Announces a new operation.
    pub fn begin(&self, operation: Operation) {
        let (sender, _) = watch::channel(operation);
        let id = sender.borrow().id;
        self.lock().insert(id, sender);
    }

    /// Announces a step.
    pub fn step(&self, id: OperationId, step: &str) {
        self.tell(id, step, None);
    }

    /// Announces how far the work of a step is, in words and figures.
    pub fn tell(&self, id: OperationId, step: &str, progress: Option<OperationProgress>) {
        if let Some(sender) = self.lock().get(&id) {
            sender.send_modify(|operation| {
                operation.step = Some(step.to_owned());
                operation.progress = progress;
            });
        }
    }

    /// Announces the end; those who wait get it, later ones ask the database.
    pub fn end(&self, operation: Operation) {
        if let Some(sender) = self.lock().remove(&operation.id) {
            sender.send_replace(operation);
        }
    }

    /// A listener for one operation; none when it is not at work.
    pub fn watch(&self, id: OperationId) -> Option<watch::Receiver<Operation>> {
        self.lock().get(&id).map(watch::Sender::subscribe)
    }

    /// All operations at work, oldest first.
    pub fn running(&self) -> Vec<Operation> {
        let mut running: Vec<_> = self
            .lock()
            .values()
            .map(|sender| sender.borrow().clone())
            .collect();
        running.sort_by_key(|operation| operation.id);
        running
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<OperationId, watch::Sender<Operation>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until an operation has ended or, where `after_step` is given, is at another step.
pub async fn moved_on(
    mut watched: watch::Receiver<Operation>,
    after_step: Option<&str>,
) -> Operation {
    let moved = |operation: &Operation| {
        operation.status != OperationStatus::Running
            || after_step
                .is_some_and(|after| operation.step.as_deref().unwrap_or_default() != after)
    };
    let found = watched.wait_for(moved).await.map(|found| found.clone());
    // The sender goes with the operation's end, which it has announced before.
    found.unwrap_or_else(|_| watched.borrow().clone())
}
