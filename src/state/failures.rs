//! What is remembered of failures: starts that are tried again, and revisions that were rolled back.
//! What follows from them is decided in `reconcile::policy`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};

use super::tenants::{cause, timestamp};
use super::{Database, StateError};
use crate::tenant::{FailureCause, ImageId, TenantId};

/// Starts that tenantd tries by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retry {
    /// How many it has tried since the agent last ran for long.
    pub attempts: u32,
    /// When it tries again; none while nothing is planned.
    pub next_try: Option<Timestamp>,
}

/// A revision that was rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollback {
    /// The revision.
    pub revision: u64,
    /// When.
    pub at: Timestamp,
    /// The image that is to blame, where it is.
    pub image: Option<String>,
    /// Why it failed, where that was seen.
    pub cause: Option<FailureCause>,
    /// Whether it counts for the breaker.
    pub counts: bool,
}

impl Database {
    /// What is tried for a tenant.
    pub async fn retry(&self, id: TenantId) -> Result<Retry, StateError> {
        self.call(move |connection| read_retry(connection, &id))
            .await
    }

    /// What is tried, by tenant; those for whom nothing is are left out.
    pub async fn retries(&self) -> Result<BTreeMap<String, Retry>, StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("read what is tried");
            let mut statement = connection
                .prepare_cached("SELECT tenant, attempts, next_try FROM retries")
                .map_err(failed())?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, retry(row, 1)?)));
            rows.and_then(Iterator::collect).map_err(failed())
        })
        .await
    }

    /// Records what is tried for a tenant, before it is tried.
    pub async fn set_retry(&self, id: TenantId, retry: Retry) -> Result<(), StateError> {
        self.call(move |connection| {
            connection
                .execute(
                    "INSERT OR REPLACE INTO retries (tenant, attempts, next_try)
                     VALUES (?1, ?2, ?3)",
                    (
                        id.as_str(),
                        retry.attempts,
                        retry.next_try.map(|at| at.to_string()),
                    ),
                )
                .map_err(StateError::statement("record a tenant's next try"))?;
            Ok(())
        })
        .await
    }

    /// Records that a revision was rolled back; repeated, the first time stays.
    pub async fn note_rollback(&self, id: TenantId, rollback: Rollback) -> Result<(), StateError> {
        self.call(move |connection| {
            connection
                .execute(
                    "INSERT OR IGNORE INTO rollbacks (tenant, revision, at, image, counts, cause)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    (
                        id.as_str(),
                        rollback.revision,
                        rollback.at.to_string(),
                        rollback.image,
                        rollback.counts,
                        rollback.cause.map(FailureCause::as_str),
                    ),
                )
                .map_err(StateError::statement("record a rollback"))?;
            Ok(())
        })
        .await
    }

    /// A tenant's rollbacks, the oldest first.
    pub async fn rollbacks(&self, id: TenantId) -> Result<Vec<Rollback>, StateError> {
        self.call(move |connection| read_rollbacks(connection, &id))
            .await
    }

    /// Begins anew: nothing is planned, and no rollback counts for the breaker any more. Which
    /// images have failed stays known.
    pub async fn forgive(&self, id: TenantId) -> Result<(), StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("forget a tenant's failures");
            let transaction = connection.transaction().map_err(failed())?;
            for statement in [
                "DELETE FROM retries WHERE tenant = ?1",
                "UPDATE rollbacks SET counts = 0 WHERE tenant = ?1",
            ] {
                transaction
                    .execute(statement, [id.as_str()])
                    .map_err(failed())?;
            }
            transaction.commit().map_err(failed())
        })
        .await
    }

    /// An image has proven itself after all: it is not to blame any more.
    pub async fn acquit(&self, id: TenantId, image: ImageId) -> Result<(), StateError> {
        self.call(move |connection| {
            connection
                .execute(
                    "UPDATE rollbacks SET image = NULL WHERE tenant = ?1 AND image = ?2",
                    (id.as_str(), image.to_string()),
                )
                .map_err(StateError::statement("forget that an image failed"))?;
            Ok(())
        })
        .await
    }
}

/// What is tried for a tenant, inside whatever the connection is doing.
pub(super) fn read_retry(connection: &Connection, id: &TenantId) -> Result<Retry, StateError> {
    let found = connection
        .prepare_cached("SELECT attempts, next_try FROM retries WHERE tenant = ?1")
        .and_then(|mut statement| {
            let read = |row: &Row<'_>| retry(row, 0);
            statement.query_row([id.as_str()], read).optional()
        })
        .map_err(StateError::statement("read a tenant's next try"))?;
    Ok(found.unwrap_or_default())
}

/// A tenant's rollbacks, inside whatever the connection is doing.
pub(super) fn read_rollbacks(
    connection: &Connection,
    id: &TenantId,
) -> Result<Vec<Rollback>, StateError> {
    let failed = || StateError::statement("read a tenant's rollbacks");
    let mut statement = connection
        .prepare_cached(
            "SELECT revision, at, image, counts, cause FROM rollbacks
             WHERE tenant = ?1 ORDER BY revision",
        )
        .map_err(failed())?;
    let rows = statement.query_map([id.as_str()], |row| {
        Ok(Rollback {
            revision: row.get(0)?,
            at: timestamp(row, 1)?,
            image: row.get(2)?,
            counts: row.get(3)?,
            cause: cause(row, 4)?,
        })
    });
    rows.and_then(Iterator::collect).map_err(failed())
}

/// Reads attempts and next try from a row, beginning at column `first`.
fn retry(row: &Row<'_>, first: usize) -> rusqlite::Result<Retry> {
    let is_planned = row.get::<_, Option<String>>(first + 1)?.is_some();
    Ok(Retry {
        attempts: row.get(first)?,
        next_try: is_planned.then(|| timestamp(row, first + 1)).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_next_try_is_remembered_until_it_is_forgiven() {
        let database = Database::in_memory();
        let id: TenantId = "acme".parse().unwrap();
        let planned = Retry {
            attempts: 2,
            next_try: Some(at("2026-11-21T10:00:00Z")),
        };
        database.set_retry(id.clone(), planned).await.unwrap();
        assert_eq!(database.retry(id.clone()).await.unwrap(), planned);
        database.forgive(id.clone()).await.unwrap();
        assert_eq!(database.retry(id).await.unwrap(), Retry::default());
    }

    #[tokio::test]
    async fn a_rollback_is_noted_once_and_its_image_outlives_forgiveness() {
        let database = Database::in_memory();
        let id: TenantId = "acme".parse().unwrap();
        let image: ImageId = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let first = Rollback {
            revision: 2,
            at: at("2026-11-21T10:00:00Z"),
            image: Some(image.to_string()),
            cause: Some(FailureCause::CrashLoop),
            counts: true,
        };
        let again = Rollback {
            at: at("2026-11-21T11:00:00Z"),
            ..first.clone()
        };
        for rollback in [&first, &again] {
            database
                .note_rollback(id.clone(), rollback.clone())
                .await
                .unwrap();
        }
        let noted = database.rollbacks(id.clone()).await.unwrap();
        assert_eq!(noted, std::slice::from_ref(&first));
        database.forgive(id.clone()).await.unwrap();
        let known = database.rollbacks(id.clone()).await.unwrap();
        assert_eq!(
            (known[0].counts, known[0].image.clone()),
            (false, first.image)
        );
        database.acquit(id.clone(), image).await.unwrap();
        assert_eq!(database.rollbacks(id).await.unwrap()[0].image, None);
    }
}
