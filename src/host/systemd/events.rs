//! Changes of units as plain values, and the queue through which they reach listeners.
//! A listener that is too slow is told so, never served late or blocked for.

use std::collections::HashMap;

use tokio::sync::broadcast;
use zbus::{Message, ObjectPath, Variant};

use super::job::JobResult;
use super::unit::ActiveState;
use super::{PREFIXES, label};

/// Something that happened to a tenant's unit or to systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitEvent {
    /// A unit changed.
    Changed(UnitChange),
    /// A job of a unit ended.
    JobEnded {
        /// The unit.
        unit: String,
        /// How it ended.
        result: JobResult,
    },
    /// systemd began (`true`) or ended (`false`) reading all unit files.
    Reloading(bool),
    /// Events were missed, because the listener was slow or the connection was lost and is
    /// back now: what was known must be asked for again.
    Missed,
}

/// What a unit's change told; what it did not mention is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitChange {
    /// The unit.
    pub unit: String,
    /// Whether it is up.
    pub active: Option<ActiveState>,
    /// The finer state.
    pub sub: Option<String>,
    /// Why a service last stopped.
    pub result: Option<String>,
    /// Exit status or signal of a service's main process.
    pub exec_main_status: Option<i32>,
    /// How often a service was restarted by systemd.
    pub restarts: Option<u32>,
}

/// A listener's end of the queue.
#[derive(Debug)]
pub struct UnitEvents {
    receiver: broadcast::Receiver<UnitEvent>,
}

impl UnitEvents {
    pub(super) fn new(receiver: broadcast::Receiver<UnitEvent>) -> Self {
        Self { receiver }
    }

    /// The next event; `None` when the last [`super::Systemd`] of this connection is gone.
    pub async fn next(&mut self) -> Option<UnitEvent> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(UnitEvent::Missed),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// A `JobRemoved` signal: the job's path, the unit, the result.
pub(super) fn job_removed(message: &Message) -> Option<(String, String, JobResult)> {
    let body = message.body();
    let (_id, path, unit, result): (u32, ObjectPath<'_>, &str, &str) = body.deserialize().ok()?;
    Some((path.to_string(), unit.to_owned(), result.into()))
}

/// A `Reloading` signal.
pub(super) fn reloading(message: &Message) -> Option<bool> {
    message.body().deserialize().ok()
}

/// A `PropertiesChanged` signal of a tenant's unit that tells something of interest.
pub(super) fn properties_changed(message: &Message) -> Option<UnitChange> {
    let header = message.header();
    let unit = label::unit_name(header.path()?)?;
    if !is_ours(&unit) {
        return None;
    }
    let body = message.body();
    let (_interface, changed, _invalidated): (&str, HashMap<&str, Variant<'_>>, Vec<&str>) =
        body.deserialize().ok()?;
    let text = |key: &str| changed.get(key).and_then(|v| <&str>::try_from(v).ok());
    let change = UnitChange {
        active: text("ActiveState").map(ActiveState::from),
        sub: text("SubState").map(str::to_owned),
        result: text("Result").map(str::to_owned),
        exec_main_status: changed
            .get("ExecMainStatus")
            .and_then(|v| i32::try_from(v).ok()),
        restarts: changed.get("NRestarts").and_then(|v| u32::try_from(v).ok()),
        unit: String::new(),
    };
    (change != UnitChange::default()).then_some(UnitChange { unit, ..change })
}

/// Whether a unit belongs to tenantd.
pub(super) fn is_ours(unit: &str) -> bool {
    PREFIXES.iter().any(|prefix| unit.starts_with(prefix))
}
