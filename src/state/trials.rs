//! Trials: revisions that answer and have still to show that they are good.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};

use super::tenants::{cause, timestamp};
use super::{AuditEntry, Database, OperationId, StateError, audit};
use crate::tenant::{FailureCause, TenantId};

/// A revision on trial. A tenant has one at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The tenant.
    pub tenant: TenantId,
    /// The revision.
    pub revision: u64,
    /// The operation that brought it in.
    pub operation: OperationId,
    /// When it is good, if nothing happens.
    pub ends_at: Timestamp,
    /// What systemd's count of restarts was at the trial's begin.
    pub restarts_before: u32,
    /// How often its agent has crashed since.
    pub crashes: u32,
    /// Why it has failed: set before anything is done about it, so that a crash changes no decision.
    pub failure: Option<String>,
    /// The cause of that.
    pub cause: Option<FailureCause>,
}

const COLUMNS: &str =
    "tenant, revision, operation, ends_at, restarts_before, crashes, failure, cause";

impl Database {
    /// Records a trial, or what has become of it.
    pub async fn set_trial(&self, trial: Trial) -> Result<(), StateError> {
        self.call(move |connection| {
            connection
                .prepare_cached(&format!(
                    "INSERT OR REPLACE INTO trials ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
                ))
                .and_then(|mut statement| {
                    statement.execute((
                        trial.tenant.as_str(),
                        trial.revision,
                        trial.operation.to_string(),
                        trial.ends_at.to_string(),
                        trial.restarts_before,
                        trial.crashes,
                        &trial.failure,
                        trial.cause.map(FailureCause::as_str),
                    ))
                })
                .map_err(StateError::statement("record a trial"))?;
            Ok(())
        })
        .await
    }

    /// A tenant's trial, if one of its revisions is on trial.
    pub async fn trial(&self, tenant: TenantId) -> Result<Option<Trial>, StateError> {
        self.call(move |connection| read(connection, &tenant)).await
    }

    /// All trials.
    pub async fn trials(&self) -> Result<Vec<Trial>, StateError> {
        self.call(|connection| {
            let failed = || StateError::statement("read the trials");
            let mut statement = connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM trials ORDER BY tenant"))
                .map_err(failed())?;
            let rows = statement.query_map([], from_row).map_err(failed())?;
            rows.collect::<Result<_, _>>().map_err(failed())
        })
        .await
    }

    /// Ends a tenant's trial without a verdict. None there is fine.
    pub async fn end_trial(&self, tenant: TenantId) -> Result<(), StateError> {
        self.call(move |connection| {
            connection
                .execute("DELETE FROM trials WHERE tenant = ?1", [tenant.as_str()])
                .map_err(StateError::statement("end a trial"))?;
            Ok(())
        })
        .await
    }

    /// Makes the installed revision the last known good one, ends its trial, and says so in the audit log; nothing when
    /// another revision is installed meanwhile.
    pub async fn promote(
        &self,
        tenant: TenantId,
        revision: u64,
        actor: String,
        now: Timestamp,
    ) -> Result<(), StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("record a good revision");
            let transaction = connection.transaction().map_err(failed())?;
            let promoted = transaction
                .execute(
                    "UPDATE tenants SET good_revision = ?2 WHERE id = ?1 AND current_revision = ?2",
                    (tenant.as_str(), revision),
                )
                .map_err(failed())?;
            transaction
                .execute(
                    "DELETE FROM trials WHERE tenant = ?1 AND revision = ?2",
                    (tenant.as_str(), revision),
                )
                .map_err(failed())?;
            if promoted > 0 {
                let action = format!("revision {revision} is good");
                audit::insert(
                    &transaction,
                    &AuditEntry::of_tenant(tenant, actor, now, action, None),
                )?;
            }
            transaction.commit().map_err(failed())
        })
        .await
    }
}

/// A tenant's trial, inside whatever the connection is doing.
pub(super) fn read(
    connection: &Connection,
    tenant: &TenantId,
) -> Result<Option<Trial>, StateError> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM trials WHERE tenant = ?1"))
        .and_then(|mut statement| statement.query_row([tenant.as_str()], from_row).optional())
        .map_err(StateError::statement("read a trial"))
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Trial> {
    let parsed = |index: usize| row.get::<_, String>(index);
    let odd = |index: usize| {
        rusqlite::Error::InvalidColumnType(index, "id".to_owned(), rusqlite::types::Type::Text)
    };
    Ok(Trial {
        tenant: parsed(0)?.parse().map_err(|_| odd(0))?,
        revision: row.get(1)?,
        operation: parsed(2)?.parse().map_err(|_| odd(2))?,
        ends_at: timestamp(row, 3)?,
        restarts_before: row.get(4)?,
        crashes: row.get(5)?,
        failure: row.get(6)?,
        cause: cause(row, 7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().unwrap()
    }

    #[tokio::test]
    async fn a_trial_ends_with_a_good_revision_or_with_its_tenant() {
        let database = Database::in_memory();
        let tenant: TenantId = "acme".parse().unwrap();
        let make = async || {
            let made = database.create_tenant(tenant.clone(), None, "root".to_owned(), now());
            made.await.unwrap();
            let current = database.set_current_revision(tenant.clone(), Some(3), false);
            current.await.unwrap();
        };
        make().await;
        let trial = Trial {
            tenant: tenant.clone(),
            revision: 3,
            operation: OperationId::nil(),
            ends_at: now(),
            restarts_before: 0,
            crashes: 1,
            failure: Some("no".to_owned()),
            cause: Some(FailureCause::Unhealthy),
        };
        database.set_trial(trial.clone()).await.unwrap();
        let found = database.trials().await.unwrap();
        assert_eq!(found, std::slice::from_ref(&trial));
        let promote =
            |revision| database.promote(tenant.clone(), revision, "tenantd".to_owned(), now());
        // Another one is installed: nothing happens.
        promote(2).await.unwrap();
        assert_eq!(
            database.trial(tenant.clone()).await.unwrap(),
            Some(trial.clone())
        );
        promote(3).await.unwrap();
        assert_eq!(database.trial(tenant.clone()).await.unwrap(), None);
        let row = database.tenant(tenant.clone()).await.unwrap();
        assert_eq!(row.good_revision, Some(3));

        database.set_trial(trial).await.unwrap();
        let gone = database.forget_tenant(tenant.clone(), "root".to_owned(), None, now());
        gone.await.unwrap();
        assert_eq!(database.trials().await.unwrap(), []);
    }
}
