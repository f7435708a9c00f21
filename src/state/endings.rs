//! Tenants that end: when each was terminated, what was wanted of it before, and from when it may
//! be erased. A tenant's row and this record change together.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use serde_json::Value;

use super::tenants::{Wanted, find, timestamp};
use super::transitions::{Goal, Why, move_row};
use super::{Database, StateError};
use crate::tenant::{Edge, TenantId};

/// How a tenant ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// What was wanted of it before.
    pub wanted: Wanted,
    /// Why it was held then.
    pub held_because: Option<String>,
    /// From when it is erased; none until it is terminated.
    pub erase_at: Option<Timestamp>,
    /// Whether its erasure has begun: what is left of it is nothing to come back to.
    pub erasing: bool,
}

impl Database {
    /// Records that a tenant is to end, and what is wanted of it now, so that it can be taken back.
    pub async fn begin_ending(&self, id: TenantId) -> Result<(), StateError> {
        self.call(move |connection| {
            connection
                .execute(
                    // Taken up again after a crash, the removal itself is what is wanted.
                    "INSERT INTO endings (tenant, wanted, held_because)
                     SELECT id, wanted, held_because FROM tenants
                     WHERE id = ?1 AND wanted <> 'removed'
                     ON CONFLICT (tenant) DO UPDATE
                     SET wanted = excluded.wanted, held_because = excluded.held_because",
                    [id.as_str()],
                )
                .map_err(StateError::statement("record that a tenant ends"))?;
            Ok(())
        })
        .await
    }

    /// Records that a tenant is terminated, and when it is to be erased. Repeated, the first time stays.
    pub async fn terminate(
        &self,
        id: TenantId,
        erase_at: Timestamp,
        why: Why,
    ) -> Result<Timestamp, StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("record that a tenant is terminated");
            let transaction = connection.transaction().map_err(failed())?;
            let row = find(&transaction, &id)?.ok_or_else(|| StateError::NoTenant(id.clone()))?;
            move_row(&transaction, &row, Goal::By(Edge::Terminate), &why)?;
            transaction
                .execute(
                    "INSERT INTO endings (tenant, wanted, erase_at) VALUES (?1, 'running', ?2)
                     ON CONFLICT (tenant) DO UPDATE SET erase_at = coalesce(erase_at, ?2)",
                    (id.as_str(), erase_at.to_string()),
                )
                .map_err(failed())?;
            let ending = read(&transaction, &id)?;
            transaction.commit().map_err(failed())?;
            Ok(ending
                .and_then(|ending| ending.erase_at)
                .unwrap_or(erase_at))
        })
        .await
    }

    /// Records that a tenant's erasure begins: from here on it can only be ended.
    pub async fn begin_erasing(&self, id: TenantId) -> Result<(), StateError> {
        self.call(move |connection| {
            connection
                .execute(
                    "INSERT INTO endings (tenant, wanted, erasing)
                     SELECT id, wanted, 1 FROM tenants WHERE id = ?1
                     ON CONFLICT (tenant) DO UPDATE SET erasing = 1",
                    [id.as_str()],
                )
                .map_err(StateError::statement("record that a tenant is erased"))?;
            Ok(())
        })
        .await
    }

    /// Takes an ending back: the tenant is to be what was wanted of it before. Returns what that is.
    pub async fn reclaim(&self, id: TenantId, why: Why) -> Result<Wanted, StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("record that a tenant is reclaimed");
            let transaction = connection.transaction().map_err(failed())?;
            let row = find(&transaction, &id)?.ok_or_else(|| StateError::NoTenant(id.clone()))?;
            let ending = read(&transaction, &id)?;
            let (wanted, because) = ending.map_or((Wanted::Running, None), |ending| {
                (ending.wanted, ending.held_because)
            });
            move_row(&transaction, &row, Goal::By(Edge::Reclaim), &why)?;
            transaction
                .execute(
                    "UPDATE tenants SET wanted = ?2, held_because = ?3 WHERE id = ?1",
                    (id.as_str(), wanted.as_str(), &because),
                )
                .map_err(failed())?;
            transaction
                .execute("DELETE FROM endings WHERE tenant = ?1", [id.as_str()])
                .map_err(failed())?;
            transaction.commit().map_err(failed())?;
            Ok(wanted)
        })
        .await
    }

    /// How a tenant ended, if it did.
    pub async fn ending(&self, id: TenantId) -> Result<Option<Ending>, StateError> {
        self.call(move |connection| read(connection, &id)).await
    }
}

/// How a tenant ended, inside whatever the connection is doing.
pub(super) fn read(connection: &Connection, id: &TenantId) -> Result<Option<Ending>, StateError> {
    let failed = || StateError::statement("read how a tenant ended");
    let found = connection
        .query_row(
            "SELECT wanted, held_because, erase_at, erasing FROM endings WHERE tenant = ?1",
            [id.as_str()],
            |row| {
                let erase_at = match row.get::<_, Option<String>>(2)? {
                    Some(_) => Some(timestamp(row, 2)?),
                    None => None,
                };
                Ok((row.get::<_, String>(0)?, row.get(1)?, erase_at, row.get(3)?))
            },
        )
        .optional()
        .map_err(failed())?;
    found
        .map(|(wanted, held_because, erase_at, erasing)| {
            Ok(Ending {
                wanted: serde_json::from_value(Value::String(wanted))
                    .map_err(StateError::document("what was wanted of a tenant"))?,
                held_because,
                erase_at,
                erasing,
            })
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::TenantState;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn why() -> Why {
        Why {
            actor: "root".to_owned(),
            at: at("2026-11-21T10:00:00Z"),
            reason: None,
            cause: None,
        }
    }

    #[tokio::test]
    async fn a_reclaimed_tenant_is_as_held_as_it_was() {
        let database = Database::in_memory();
        let id: TenantId = "acme".parse().unwrap();
        let now = why().at;
        let root = || "root".to_owned();
        database
            .create_tenant(id.clone(), None, root(), now)
            .await
            .unwrap();
        let unpaid = Some("billing".to_owned());
        let held = database.set_wanted(id.clone(), Wanted::Suspended, unpaid.clone(), root(), now);
        held.await.unwrap();
        for _ in 0..2 {
            database.begin_ending(id.clone()).await.unwrap();
            let gone = database.set_wanted(id.clone(), Wanted::Removed, None, root(), now);
            gone.await.unwrap();
        }
        for later in ["2026-12-05T10:00:00Z", "2027-01-01T00:00:00Z"] {
            let erased = database
                .terminate(id.clone(), at(later), why())
                .await
                .unwrap();
            assert_eq!(
                erased,
                at("2026-12-05T10:00:00Z"),
                "a repetition puts it off"
            );
        }
        assert_eq!(
            database.reclaim(id.clone(), why()).await.unwrap(),
            Wanted::Suspended
        );
        let row = database.tenant(id.clone()).await.unwrap();
        assert_eq!(
            (row.state, row.held_because),
            (TenantState::Configuring, unpaid)
        );
        assert_eq!(database.ending(id).await.unwrap(), None);
    }
}
