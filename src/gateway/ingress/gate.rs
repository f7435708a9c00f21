//! Who may be talked to and who is connected: the one place that a door asks before it dials.
//! It closes before an agent is frozen, so that nobody is connected to one who cannot hear.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// How an agent stands, as far as its door knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody has said yet.
    Unknown,
    /// It may be dialled.
    Awake,
    /// It sleeps in memory, or is about to.
    Frozen,
    /// It does not run.
    Stopped,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Gate {
    inside: Mutex<Inside>,
    /// Counts the closings.
    closings: watch::Sender<u64>,
    /// Told at every change of the standing and at every end of a connection.
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Inside {
    standing: Standing,
    open: usize,
}

/// The right to be connected to the agent; given back on drop.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Arc<Gate>,
    closings: watch::Receiver<u64>,
}

impl Gate {
    pub(super) fn new(standing: Standing) -> Arc<Self> {
        Arc::new(Self {
            inside: Mutex::new(Inside { standing, open: 0 }),
            closings: watch::Sender::new(0),
            changed: watch::Sender::new(()),
        })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn standing(&self) -> Standing {
        self.inside().standing
    }

    pub(super) fn open(&self) -> usize {
        self.inside().open
    }

    /// Lets one more in, if the agent is awake.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Pass> {
        let mut inside = self.inside();
        if inside.standing != Standing::Awake {
            return None;
        }
        inside.open += 1;
        // Under the lock: a closing that comes next is news to this one.
        Some(Pass {
            gate: Arc::clone(self),
            closings: self.closings.subscribe(),
        })
    }

    pub(super) fn set(&self, standing: Standing) {
        self.inside().standing = standing;
        self.changed.send_replace(());
    }

    /// Lets nobody in any more, asks those who are inside to leave, and waits for them; whether they have.
    pub(super) async fn close(&self, patience: Duration) -> bool {
        let mut changed = self.changed.subscribe();
        {
            self.inside().standing = Standing::Frozen;
            self.closings.send_modify(|count| *count += 1);
        }
        let emptied = async {
            while self.open() > 0 {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(patience, emptied).await.is_ok()
    }

    /// News of the standing or of a connection's end.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

impl Pass {
    /// Ends when those inside are asked to leave.
    pub(super) async fn asked_to_leave(&mut self) {
        // The gate, which sends, lives as long as its passes.
        let _ = self.closings.changed().await;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.inside().open -= 1;
        self.gate.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gate_that_closes_lets_nobody_in_and_waits_for_those_inside() {
        let gate = Gate::new(Standing::Unknown);
        assert!(gate.enter().is_none());
        gate.set(Standing::Awake);
        let mut pass = gate.enter().unwrap();
        let closing = Arc::clone(&gate);
        let closing = tokio::spawn(async move { closing.close(Duration::from_mins(1)).await });
        pass.asked_to_leave().await;
        assert!(gate.enter().is_none());
        assert!(!closing.is_finished());
        drop(pass);
        assert!(closing.await.unwrap());
        // Who stays for too long is told of, not waited for.
        gate.set(Standing::Awake);
        let _stays = gate.enter().unwrap();
        assert!(!gate.close(Duration::ZERO).await);
    }
}
