//! Operations: what takes long, recorded before it starts and until it has ended.

use jiff::Timestamp;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::database::without_sync;
use super::tenants::timestamp;
use super::{Database, StateError};
use crate::backup::{Measure, Stage};
use crate::tenant::TenantId;

/// An operation's id (UUID version 7, so that ids sort by time).
pub type OperationId = Uuid;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// Brings a tenant to a new revision.
    Apply,
    /// Starts a held tenant again.
    Start,
    /// Holds a tenant.
    Stop,
    /// Stops and starts the agent.
    Restart,
    /// Holds a tenant for a reason that only `resume` ends.
    Suspend,
    /// Ends a suspension.
    Resume,
    /// Terminates a tenant, or erases it when asked to.
    Remove,
    /// Takes the removal of a tenant back.
    Reclaim,
    /// Makes a snapshot of a tenant, or of the node.
    Backup,
    /// Replaces a tenant's state by a snapshot.
    Restore,
    /// Returns to an earlier release: its revision, and the data that it has left.
    Rollback,
    /// Puts right what is not as recorded.
    Reconcile,
}

impl OperationKind {
    /// The kind as it is written everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Remove => "remove",
            Self::Reclaim => "reclaim",
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Rollback => "rollback",
            Self::Reconcile => "reconcile",
        }
    }
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationStatus {
    /// Recorded; running or about to be run again after a crash.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly; `outcome` is a problem document.
    Failed,
}

/// How far the work of an operation is, in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct OperationProgress {
    /// What is being done: `scan`, `read`, `clone`, `read-clones`, `commit`, `verify` or `restore`.
    #[schema(value_type = String)]
    pub phase: Stage,
    /// Bytes done in this phase.
    pub bytes: u64,
    /// Bytes there are, where that is known.
    pub total_bytes: Option<u64>,
    /// Files done in this phase.
    pub files: u64,
    /// Files there are, where that is known.
    pub total_files: Option<u64>,
    /// Since the phase began; none in its first second.
    pub bytes_per_second: Option<u64>,
    /// Until the end of the phase at that rate.
    pub seconds_left: Option<u64>,
}

impl From<&Measure> for OperationProgress {
    fn from(measure: &Measure) -> Self {
        Self {
            phase: measure.stage,
            bytes: measure.bytes,
            total_bytes: measure.total_bytes,
            files: measure.files,
            total_files: measure.total_files,
            bytes_per_second: measure.rate(),
            seconds_left: measure.left().map(|left| left.as_secs()),
        }
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Operation {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// The tenant it is about; none for the node.
    #[schema(value_type = Option<String>)]
    pub tenant: Option<TenantId>,
    /// What was asked for, enough to run it again.
    pub request: Value,
    /// Who asked.
    pub actor: String,
    /// How far it is.
    pub status: OperationStatus,
    /// The step it is at, for people.
    pub step: Option<String>,
    /// How far a backup or restore at work is; it is not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<OperationProgress>,
    /// The result, or what went wrong.
    pub outcome: Option<Value>,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

const COLUMNS: &str =
    "id, kind, tenant, request, actor, status, step, outcome, started_at, finished_at";

impl Database {
    /// Records operations before their first effects: all of them, or none.
    pub async fn record_operations(&self, operations: Vec<Operation>) -> Result<(), StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("record an operation");
            let transaction = connection.transaction().map_err(failed())?;
            for operation in &operations {
                insert(&transaction, operation).map_err(failed())?;
            }
            transaction.commit().map_err(failed())
        })
        .await
    }

    /// Records the step that an operation is about to take.
    ///
    /// It outlives the process at once, and a power cut with the next change of anything else:
    /// an operation begins anew after either, so no sync of the disk is spent on its step.
    pub async fn operation_step(&self, id: OperationId, step: String) -> Result<(), StateError> {
        self.call(move |connection| {
            without_sync(connection, |connection| {
                connection
                    .prepare_cached("UPDATE operations SET step = ?2 WHERE id = ?1")
                    .and_then(|mut statement| statement.execute((id.to_string(), step)))
            })
            .map_err(StateError::statement("record an operation's step"))?;
            Ok(())
        })
        .await
    }

    /// Records the end of an operation.
    pub async fn finish_operation(
        &self,
        id: OperationId,
        status: OperationStatus,
        outcome: Value,
        at: Timestamp,
    ) -> Result<(), StateError> {
        self.call(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE operations SET status = ?2, outcome = ?3, finished_at = ?4
                     WHERE id = ?1 AND finished_at IS NULL",
                )
                .and_then(|mut statement| {
                    statement.execute((
                        id.to_string(),
                        status_text(status),
                        outcome.to_string(),
                        at.to_string(),
                    ))
                })
                .map_err(StateError::statement("finish an operation"))?;
            Ok(())
        })
        .await
    }

    /// Finds an operation.
    pub async fn operation(&self, id: OperationId) -> Result<Option<Operation>, StateError> {
        Ok(self
            .operations("WHERE id = ?1", Some(id.to_string()), 1)
            .await?
            .pop())
    }

    /// Operations that have not ended, oldest first: to be run again after a crash.
    pub async fn open_operations(&self) -> Result<Vec<Operation>, StateError> {
        let mut open = self
            .operations("WHERE finished_at IS NULL AND ?1 IS NULL", None, 10_000)
            .await?;
        open.reverse();
        Ok(open)
    }

    /// The newest operations, newest first, of one tenant or of all.
    pub async fn recent_operations(
        &self,
        tenant: Option<TenantId>,
        limit: u32,
    ) -> Result<Vec<Operation>, StateError> {
        self.operations(
            "WHERE ?1 IS NULL OR tenant = ?1",
            tenant.map(String::from),
            limit,
        )
        .await
    }

    async fn operations(
        &self,
        condition: &'static str,
        argument: Option<String>,
        limit: u32,
    ) -> Result<Vec<Operation>, StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("read operations");
            let mut statement = connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM operations {condition} ORDER BY id DESC LIMIT ?2"
                ))
                .map_err(failed())?;
            let mut rows = statement.query((argument, limit)).map_err(failed())?;
            let mut operations = Vec::new();
            while let Some(row) = rows.next().map_err(failed())? {
                operations.push(from_row(row)?);
            }
            Ok(operations)
        })
        .await
    }
}

fn insert(connection: &Connection, operation: &Operation) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(&format!(
            "INSERT INTO operations ({COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
        ))?
        .execute((
            operation.id.to_string(),
            operation.kind.as_str(),
            operation.tenant.as_ref().map(TenantId::as_str),
            operation.request.to_string(),
            &operation.actor,
            status_text(operation.status),
            &operation.step,
            operation.outcome.as_ref().map(Value::to_string),
            operation.started_at.to_string(),
            operation.finished_at.as_ref().map(Timestamp::to_string),
        ))
}

fn status_text(status: OperationStatus) -> &'static str {
    match status {
        OperationStatus::Running => "running",
        OperationStatus::Succeeded => "succeeded",
        OperationStatus::Failed => "failed",
    }
}

fn from_row(row: &rusqlite::Row<'_>) -> Result<Operation, StateError> {
    let failed = || StateError::statement("read an operation");
    let text = |index: usize| row.get::<_, String>(index).map_err(failed());
    let optional = |index: usize| row.get::<_, Option<String>>(index).map_err(failed());
    let named = |what: &'static str, name: String| {
        serde_json::from_value(Value::String(name)).map_err(StateError::document(what))
    };
    Ok(Operation {
        id: text(0)?.parse().unwrap_or_default(),
        kind: serde_json::from_value(Value::String(text(1)?))
            .map_err(StateError::document("an operation's kind"))?,
        tenant: optional(2)?.and_then(|id| id.parse().ok()),
        request: serde_json::from_str(&text(3)?)
            .map_err(StateError::document("an operation's request"))?,
        actor: text(4)?,
        status: named("an operation's status", text(5)?)?,
        step: optional(6)?,
        progress: None,
        outcome: optional(7)?
            .map(|outcome| serde_json::from_str(&outcome))
            .transpose()
            .map_err(StateError::document("an operation's outcome"))?,
        started_at: timestamp(row, 8).map_err(failed())?,
        finished_at: optional(9)?.and_then(|at| at.parse().ok()),
    })
}
