//! Tenants: what is wanted of each and where it stands.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{AuditEntry, Database, StateError, audit};
use crate::quadlet::IdRange;
use crate::tenant::{TenantId, TenantState};

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

    fn as_str(self) -> &'static str {
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
}

const COLUMNS: &str = "id, state, reason, wanted, held_because, source, current_revision, \
                       good_revision, id_range, created_at, changed_at";

impl Database {
    /// All tenants, by id.
    pub async fn tenants(&self) -> Result<Vec<TenantRow>, StateError> {
        self.call(|connection| {
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
        })
        .await
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

    /// Makes a tenant's row, in state *requested*, with an id range that nobody ever had;
    /// a tenant that exists is returned as it is.
    pub async fn create_tenant(
        &self,
        id: TenantId,
        source: Option<String>,
        actor: String,
        now: Timestamp,
    ) -> Result<TenantRow, StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("create a tenant");
            let transaction = connection.transaction().map_err(failed())?;
            if let Some(row) = find(&transaction, &id)? {
                return Ok(row);
            }
            let range = next_range(&transaction, &id)?;
            transaction
                .execute(
                    "INSERT OR IGNORE INTO id_ranges (start, tenant) VALUES (?1, ?2)",
                    (range.start(), id.as_str()),
                )
                .map_err(failed())?;
            transaction
                .execute(
                    "INSERT INTO tenants
                         (id, state, wanted, source, id_range, created_at, changed_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
                    (
                        id.as_str(),
                        TenantState::Requested.to_string(),
                        Wanted::Running.as_str(),
                        &source,
                        range.start(),
                        now.to_string(),
                    ),
                )
                .map_err(failed())?;
            audit::insert(
                &transaction,
                &AuditEntry {
                    at: now,
                    actor,
                    tenant: Some(id.clone()),
                    action: "create".to_owned(),
                    detail: source,
                },
            )?;
            let row = find(&transaction, &id)?.ok_or(StateError::NoTenant(id))?;
            transaction.commit().map_err(failed())?;
            Ok(row)
        })
        .await
    }

    /// The id range that a new tenant would get; nothing is given out.
    pub async fn next_id_range(&self, id: TenantId) -> Result<IdRange, StateError> {
        self.call(move |connection| next_range(connection, &id))
            .await
    }

    /// Records a state and why, with its line in the audit log; nothing when it is the same.
    pub async fn set_state(
        &self,
        id: TenantId,
        state: TenantState,
        reason: Option<String>,
        actor: String,
        now: Timestamp,
    ) -> Result<(), StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("record a tenant's state");
            let transaction = connection.transaction().map_err(failed())?;
            let Some(row) = find(&transaction, &id)? else {
                return Err(StateError::NoTenant(id));
            };
            if row.state == state && row.reason == reason {
                return Ok(());
            }
            transaction
                .execute(
                    "UPDATE tenants SET state = ?2, reason = ?3, changed_at = ?4 WHERE id = ?1",
                    (id.as_str(), state.to_string(), &reason, now.to_string()),
                )
                .map_err(failed())?;
            let action = format!("{} -> {state}", row.state);
            audit::insert(
                &transaction,
                &AuditEntry {
                    at: now,
                    actor,
                    tenant: Some(id),
                    action,
                    detail: reason,
                },
            )?;
            transaction.commit().map_err(failed())
        })
        .await
    }

    /// Records what the operator wants, with its line in the audit log.
    pub async fn set_wanted(
        &self,
        id: TenantId,
        wanted: Wanted,
        because: Option<String>,
        actor: String,
        now: Timestamp,
    ) -> Result<(), StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("record what is wanted of a tenant");
            let transaction = connection.transaction().map_err(failed())?;
            let changed = transaction
                .execute(
                    "UPDATE tenants SET wanted = ?2, held_because = ?3 WHERE id = ?1",
                    (id.as_str(), wanted.as_str(), &because),
                )
                .map_err(failed())?;
            if changed == 0 {
                return Err(StateError::NoTenant(id));
            }
            let action = format!("wanted: {}", wanted.as_str());
            audit::insert(
                &transaction,
                &AuditEntry {
                    at: now,
                    actor,
                    tenant: Some(id),
                    action,
                    detail: because,
                },
            )?;
            transaction.commit().map_err(failed())
        })
        .await
    }

    /// Records which file defines a tenant.
    pub async fn set_source(&self, id: TenantId, source: Option<String>) -> Result<(), StateError> {
        self.call(move |connection| {
            connection
                .execute(
                    "UPDATE tenants SET source = ?2 WHERE id = ?1",
                    (id.as_str(), source),
                )
                .map_err(StateError::statement("record a tenant's source"))?;
            Ok(())
        })
        .await
    }

    /// Records the installed revision, and whether it has been healthy.
    pub async fn set_current_revision(
        &self,
        id: TenantId,
        number: Option<u64>,
        good: bool,
    ) -> Result<(), StateError> {
        self.call(move |connection| {
            connection
                .execute(
                    "UPDATE tenants SET current_revision = ?2,
                         good_revision = CASE WHEN ?3 THEN ?2 ELSE good_revision END
                     WHERE id = ?1",
                    (id.as_str(), number, good),
                )
                .map_err(StateError::statement("record a tenant's revision"))?;
            Ok(())
        })
        .await
    }

    /// Forgets a tenant, with a line in the audit log that says why where that needs saying.
    /// Its revisions, operations, audit lines and id range stay.
    pub async fn forget_tenant(
        &self,
        id: TenantId,
        actor: String,
        because: Option<String>,
        now: Timestamp,
    ) -> Result<(), StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("forget a tenant");
            let transaction = connection.transaction().map_err(failed())?;
            let gone = transaction
                .execute("DELETE FROM tenants WHERE id = ?1", [id.as_str()])
                .map_err(failed())?;
            if gone > 0 {
                audit::insert(
                    &transaction,
                    &AuditEntry {
                        at: now,
                        actor,
                        tenant: Some(id),
                        action: "removed".to_owned(),
                        detail: because,
                    },
                )?;
            }
            transaction.commit().map_err(failed())
        })
        .await
    }
}

/// The range that a new tenant gets: the one after the highest ever given out. A tenant that
/// comes back gets its old one, because its kept state may have been labelled for it.
fn next_range(connection: &Connection, id: &TenantId) -> Result<IdRange, StateError> {
    let failed = || StateError::statement("allocate an id range");
    let had: Option<u32> = connection
        .query_row(
            "SELECT start FROM id_ranges WHERE tenant = ?1",
            [id.as_str()],
            |row| row.get(0),
        )
        .optional()
        .map_err(failed())?;
    if let Some(had) = had {
        return IdRange::try_from(had).map_err(StateError::IdRange);
    }
    let highest: Option<u32> = connection
        .query_row("SELECT max(start) FROM id_ranges", [], |row| row.get(0))
        .map_err(failed())?;
    let index = match highest {
        None => 0,
        Some(highest) => {
            IdRange::try_from(highest)
                .map_err(StateError::IdRange)?
                .index()
                + 1
        }
    };
    IdRange::nth(index).map_err(StateError::IdRange)
}

fn find(connection: &Connection, id: &TenantId) -> Result<Option<TenantRow>, StateError> {
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

fn from_row(row: &Row<'_>) -> Result<TenantRow, StateError> {
    let failed = || StateError::statement("read a tenant");
    let id: String = row.get(0).map_err(failed())?;
    let document = |what: &str| StateError::document(format!("{what} of tenant {id}"));
    Ok(TenantRow {
        id: serde_json::from_value(Value::String(id.clone())).map_err(document("the id"))?,
        state: serde_json::from_value(Value::String(row.get(1).map_err(failed())?))
            .map_err(document("the state"))?,
        reason: row.get(2).map_err(failed())?,
        wanted: serde_json::from_value(Value::String(row.get(3).map_err(failed())?))
            .map_err(document("what is wanted"))?,
        held_because: row.get(4).map_err(failed())?,
        source: row.get(5).map_err(failed())?,
        current_revision: row.get(6).map_err(failed())?,
        good_revision: row.get(7).map_err(failed())?,
        id_range: IdRange::try_from(row.get::<_, u32>(8).map_err(failed())?)
            .map_err(StateError::IdRange)?,
        created_at: timestamp(row, 9).map_err(failed())?,
        changed_at: timestamp(row, 10).map_err(failed())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().unwrap()
    }

    async fn create(database: &Database, id: &str) -> TenantRow {
        database
            .create_tenant(id.parse().unwrap(), None, "root".to_owned(), now())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn an_id_range_is_never_given_to_another_tenant() {
        let database = Database::in_memory();
        let first = create(&database, "a").await;
        let second = create(&database, "b").await;
        assert_ne!(first.id_range, second.id_range);
        database
            .forget_tenant(second.id, "root".to_owned(), None, now())
            .await
            .unwrap();
        let third = create(&database, "c").await;
        assert_ne!(second.id_range, third.id_range);
        let second_again = create(&database, "b").await;
        assert_eq!(second.id_range, second_again.id_range);
    }

    #[tokio::test]
    async fn each_change_of_state_is_one_line_of_the_audit_log() {
        let database = Database::in_memory();
        let row = create(&database, "a").await;
        for _ in 0..2 {
            database
                .set_state(
                    row.id.clone(),
                    TenantState::Provisioning,
                    None,
                    "root".to_owned(),
                    now(),
                )
                .await
                .unwrap();
        }
        let actions: Vec<_> = database
            .audit_log(Some(row.id), 10)
            .await
            .unwrap()
            .into_iter()
            .map(|entry| entry.action)
            .collect();
        assert_eq!(actions, ["create", "requested -> provisioning"]);
    }
}
