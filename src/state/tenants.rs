//! Tenants: what is wanted of each and where it stands, as it is read.
//! What changes them is in `tenant_changes`.

use jiff::Timestamp;
use rusqlite::{Connection, Row};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Database, StateError};
use crate::quadlet::IdRange;
use crate::tenant::{FailureCause, TenantId, TenantState};

/// What the operator wants of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// Its agent runs.
    Running,
    /// Held by `stop`; `start` ends it.
    Stopped,
    /// Held by `suspend`; only `resume` ends it.
    Suspended,
    /// It is on its way out.
    Removed,
}

impl Wanted {
    /// Whether nothing may wake the tenant.
    pub fn is_held(self) -> bool {
        self != Self::Running
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Suspended => "suspended",
            Self::Removed => "removed",
        }
    }
}

/// One tenant's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRow {
    /// The tenant.
    pub id: TenantId,
    /// Where it stands, as last recorded.
    pub state: TenantState,
    /// Why it stands there, where that needs saying.
    pub reason: Option<String>,
    /// What the operator wants.
    pub wanted: Wanted,
    /// Why it is held, in the operator's words.
    pub held_because: Option<String>,
    /// The file under `tenants.d` that defines it; none when applied by hand.
    pub source: Option<String>,
    /// The revision that is installed.
    pub current_revision: Option<u64>,
    /// The last revision that was healthy.
    pub good_revision: Option<u64>,
    /// Its user ids on the host.
    pub id_range: IdRange,
    /// When it was first applied.
    pub created_at: Timestamp,
    /// When its state last changed.
    pub changed_at: Timestamp,
    /// Why it failed, or is being started again after a failure.
    pub cause: Option<FailureCause>,
}

const COLUMNS: &str = "id, state, reason, wanted, held_because, source, current_revision, \
                       good_revision, id_range, created_at, changed_at, cause";

impl Database {
    /// All tenants, by id.
    pub async fn tenants(&self) -> Result<Vec<TenantRow>, StateError> {
        self.call(|connection| all(connection)).await
    }

    /// One tenant, if it is there.
    pub async fn find_tenant(&self, id: TenantId) -> Result<Option<TenantRow>, StateError> {
        self.call(move |connection| find(connection, &id)).await
    }

    /// One tenant, or [`StateError::NoTenant`].
    pub async fn tenant(&self, id: TenantId) -> Result<TenantRow, StateError> {
        self.find_tenant(id.clone())
            .await?
            .ok_or(StateError::NoTenant(id))
    }
}

/// All tenants, by id, inside whatever the connection is doing.
pub(super) fn all(connection: &Connection) -> Result<Vec<TenantRow>, StateError> {
    let failed = || StateError::statement("read the tenants");
    let mut statement = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM tenants ORDER BY id"))
        .map_err(failed())?;
    let mut rows = statement.query([]).map_err(failed())?;
    let mut tenants = Vec::new();
    while let Some(row) = rows.next().map_err(failed())? {
        tenants.push(from_row(row)?);
    }
    Ok(tenants)
}

/// One tenant, if it is there, inside whatever the connection is doing.
pub(super) fn find(
    connection: &Connection,
    id: &TenantId,
) -> Result<Option<TenantRow>, StateError> {
    let failed = || StateError::statement("read a tenant");
    let mut statement = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM tenants WHERE id = ?1"))
        .map_err(failed())?;
    let mut rows = statement.query([id.as_str()]).map_err(failed())?;
    rows.next().map_err(failed())?.map(from_row).transpose()
}

/// Reads a time that this module wrote.
pub(super) fn timestamp(row: &Row<'_>, index: usize) -> rusqlite::Result<Timestamp> {
    row.get::<_, String>(index)?.parse().map_err(|source| {
        rusqlite::Error::FromSqlConversionFailure(
            index,
            rusqlite::types::Type::Text,
            Box::<dyn std::error::Error + Send + Sync>::from(source),
        )
    })
}

/// Reads the cause of a failure that this module wrote.
pub(super) fn cause(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<FailureCause>> {
    let word: Option<String> = row.get(index)?;
    let cause = word.map(|word| serde_json::from_value(Value::String(word)));
    cause.transpose().map_err(|source| {
        rusqlite::Error::FromSqlConversionFailure(
            index,
            rusqlite::types::Type::Text,
            Box::<dyn std::error::Error + Send + Sync>::from(source),
        )
    })
}

fn from_row(row: &Row<'_>) -> Result<TenantRow, StateError> {
    let failed = || StateError::statement("read a tenant");
    let text = |index: usize| row.get::<_, String>(index).map_err(failed());
    let optional = |index: usize| row.get::<_, Option<String>>(index).map_err(failed());
    let number = |index: usize| row.get::<_, Option<u64>>(index).map_err(failed());
    let id = text(0)?;
    let document = |what: &str| StateError::document(format!("{what} of tenant {id}"));
    let named = |index: usize| Ok::<_, StateError>(Value::String(text(index)?));
    let range: u32 = row.get(8).map_err(failed())?;
    Ok(TenantRow {
        id: serde_json::from_value(named(0)?).map_err(document("the id"))?,
        state: serde_json::from_value(named(1)?).map_err(document("the state"))?,
        reason: optional(2)?,
        wanted: serde_json::from_value(named(3)?).map_err(document("what is wanted"))?,
        held_because: optional(4)?,
        source: optional(5)?,
        current_revision: number(6)?,
        good_revision: number(7)?,
        id_range: IdRange::try_from(range).map_err(StateError::IdRange)?,
        created_at: timestamp(row, 9).map_err(failed())?,
        changed_at: timestamp(row, 10).map_err(failed())?,
        cause: optional(11)?
            .map(|cause| serde_json::from_value(Value::String(cause)))
            .transpose()
            .map_err(document("the cause of a failure"))?,
    })
}
