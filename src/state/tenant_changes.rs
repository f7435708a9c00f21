//! Changes of tenants' rows. One that says who did what is stored together with its line in the
//! audit log, or not at all.

use jiff::Timestamp;

use super::id_ranges::next_range;
use super::tenants::{TenantRow, Wanted, find};
use super::{AuditEntry, Database, StateError, audit};
use crate::access::Scope;
use crate::tenant::{TenantId, TenantState};

impl Database {
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
                &AuditEntry::of_tenant(id.clone(), actor, now, "create", source),
            )?;
            let row = find(&transaction, &id)?.ok_or(StateError::NoTenant(id))?;
            transaction.commit().map_err(failed())?;
            Ok(row)
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
                &AuditEntry::of_tenant(id, actor, now, action, because),
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
            for table in ["endings", "retries", "rollbacks", "trials"] {
                transaction
                    .execute(
                        &format!("DELETE FROM {table} WHERE tenant = ?1"),
                        [id.as_str()],
                    )
                    .map_err(failed())?;
            }
            // Whoever gets the name later is somebody else.
            transaction
                .execute(
                    "DELETE FROM tokens WHERE scope = ?1",
                    [Scope::Tenant(id.clone()).to_string()],
                )
                .map_err(failed())?;
            if gone > 0 {
                audit::insert(
                    &transaction,
                    &AuditEntry::of_tenant(id, actor, now, "removed", because),
                )?;
            }
            transaction.commit().map_err(failed())
        })
        .await
    }
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
}
