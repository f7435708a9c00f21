//! Revisions: immutable and numbered, each with the exact bytes of its unit set.

use rusqlite::{Connection, OptionalExtension};
use serde_json::Value;

use super::{Database, OperationId, OperationStatus, StateError};
use crate::quadlet::UnitSet;
use crate::tenant::{Revision, TenantId};

/// A revision, and how the operation that made it ended.
#[derive(Debug, Clone)]
pub struct MadeRevision {
    /// What was applied.
    pub revision: Revision,
    /// The operation that made it.
    pub operation: OperationId,
    /// How that ended; none when its record is gone.
    pub status: Option<OperationStatus>,
}

/// A revision and its unit set.
#[derive(Debug, Clone)]
pub struct StoredRevision {
    /// What was applied.
    pub revision: Revision,
    /// The files rendered for it.
    pub unit_set: UnitSet,
}

impl Database {
    /// The number that a tenant's next revision gets: one above the highest ever used.
    pub async fn next_revision(&self, tenant: TenantId) -> Result<u64, StateError> {
        self.call(move |connection| {
            connection
                .query_row(
                    "SELECT coalesce(max(number), 0) + 1 FROM revisions WHERE tenant = ?1",
                    [tenant.as_str()],
                    |row| row.get(0),
                )
                .map_err(StateError::statement("number a revision"))
        })
        .await
    }

    /// Stores a revision. Storing the same number again is an error: revisions never change.
    pub async fn store_revision(
        &self,
        tenant: TenantId,
        operation: OperationId,
        stored: StoredRevision,
    ) -> Result<(), StateError> {
        self.call(move |connection| {
            let document = |what: &str| StateError::document(format!("{what} of tenant {tenant}"));
            connection
                .execute(
                    "INSERT INTO revisions (tenant, number, operation, created_at, document, unit_set)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    (
                        tenant.as_str(),
                        stored.revision.number.0,
                        operation.to_string(),
                        stored.revision.created_at.to_string(),
                        serde_json::to_string(&stored.revision).map_err(document("a revision"))?,
                        serde_json::to_string(&stored.unit_set).map_err(document("a unit set"))?,
                    ),
                )
                .map_err(StateError::statement("store a revision"))?;
            Ok(())
        })
        .await
    }

    /// The revision that an operation has made, if it came so far.
    pub async fn revision_of_operation(
        &self,
        tenant: TenantId,
        operation: OperationId,
    ) -> Result<Option<u64>, StateError> {
        self.call(move |connection| {
            connection
                .query_row(
                    "SELECT number FROM revisions WHERE tenant = ?1 AND operation = ?2",
                    (tenant.as_str(), operation.to_string()),
                    |row| row.get(0),
                )
                .optional()
                .map_err(StateError::statement("find an operation's revision"))
        })
        .await
    }

    /// Finds a revision.
    pub async fn revision(
        &self,
        tenant: TenantId,
        number: u64,
    ) -> Result<Option<StoredRevision>, StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("read a revision");
            let mut statement = connection
                .prepare_cached(
                    "SELECT document, unit_set FROM revisions WHERE tenant = ?1 AND number = ?2",
                )
                .map_err(failed())?;
            let mut rows = statement
                .query((tenant.as_str(), number))
                .map_err(failed())?;
            let Some(row) = rows.next().map_err(failed())? else {
                return Ok(None);
            };
            let text = |index: usize| row.get::<_, String>(index).map_err(failed());
            let document =
                |what: &str| StateError::document(format!("{what} {number} of tenant {tenant}"));
            Ok(Some(StoredRevision {
                revision: serde_json::from_str(&text(0)?).map_err(document("revision"))?,
                unit_set: serde_json::from_str(&text(1)?).map_err(document("unit set"))?,
            }))
        })
        .await
    }

    /// A tenant's revisions, the newest first, without their unit sets.
    pub async fn revisions(&self, tenant: TenantId) -> Result<Vec<MadeRevision>, StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("read the revisions");
            let mut statement = connection
                .prepare_cached(
                    "SELECT r.document, r.operation, o.status FROM revisions r
                     LEFT JOIN operations o ON o.id = r.operation
                     WHERE r.tenant = ?1 ORDER BY r.number DESC",
                )
                .map_err(failed())?;
            let mut rows = statement.query([tenant.as_str()]).map_err(failed())?;
            let mut made = Vec::new();
            while let Some(row) = rows.next().map_err(failed())? {
                let document = || StateError::document(format!("a revision of tenant {tenant}"));
                let text = |index: usize| row.get::<_, String>(index).map_err(failed());
                let word = |text: String| Value::String(text);
                let status = row.get::<_, Option<String>>(2).map_err(failed())?;
                made.push(MadeRevision {
                    revision: serde_json::from_str(&text(0)?).map_err(document())?,
                    operation: serde_json::from_value(word(text(1)?)).map_err(document())?,
                    status: status
                        .map(|status| serde_json::from_value(word(status)))
                        .transpose()
                        .map_err(document())?,
                });
            }
            Ok(made)
        })
        .await
    }
}

/// What a revision applied, without its unit set, inside whatever the connection is doing.
pub(super) fn read_applied(
    connection: &Connection,
    tenant: &TenantId,
    number: u64,
) -> Result<Option<Revision>, StateError> {
    let document = connection
        .prepare_cached("SELECT document FROM revisions WHERE tenant = ?1 AND number = ?2")
        .and_then(|mut statement| {
            let text = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
            statement
                .query_row((tenant.as_str(), number), text)
                .optional()
        })
        .map_err(StateError::statement("read a revision"))?;
    let broken = || StateError::document(format!("revision {number} of tenant {tenant}"));
    document
        .map(|document| serde_json::from_str(&document).map_err(broken()))
        .transpose()
}
