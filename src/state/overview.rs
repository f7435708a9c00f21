//! Overviews: all that a list shows of tenants, read at one moment and in one turn of the database's thread. Whoever
//! lists a hundred tenants while others are applied waits for one of their writes at most, not for hundreds.

use rusqlite::Connection;

use super::{Database, Ending, Retry, Rollback, StateError, TenantRow, Trial};
use super::{endings, failures, revisions, tenants, trials};
use crate::tenant::{Revision, TenantId};

/// All that is recorded of one tenant, as far as a list shows it.
#[derive(Debug, Clone)]
pub struct Overview {
    /// Its row.
    pub row: TenantRow,
    /// The installed revision.
    pub applied: Option<Revision>,
    /// What is tried when it has failed.
    pub retry: Retry,
    /// How it ended, if it did.
    pub ending: Option<Ending>,
    /// Its rollbacks.
    pub rollbacks: Vec<Rollback>,
    /// Its revision on trial.
    pub trial: Option<Trial>,
}

impl Database {
    /// All tenants, by id.
    pub async fn overviews(&self) -> Result<Vec<Overview>, StateError> {
        self.call(|connection| {
            let transaction = connection
                .transaction()
                .map_err(StateError::statement("read the tenants"))?;
            let rows = tenants::all(&transaction)?;
            rows.into_iter()
                .map(|row| overview(&transaction, row))
                .collect()
        })
        .await
    }

    /// One tenant, or [`StateError::NoTenant`].
    pub async fn overview(&self, id: TenantId) -> Result<Overview, StateError> {
        self.call(move |connection| {
            let transaction = connection
                .transaction()
                .map_err(StateError::statement("read a tenant"))?;
            let row = tenants::find(&transaction, &id)?.ok_or(StateError::NoTenant(id))?;
            overview(&transaction, row)
        })
        .await
    }
}

fn overview(connection: &Connection, row: TenantRow) -> Result<Overview, StateError> {
    let id = &row.id;
    Ok(Overview {
        applied: match row.current_revision {
            Some(number) => revisions::read_applied(connection, id, number)?,
            None => None,
        },
        retry: failures::read_retry(connection, id)?,
        ending: endings::read(connection, id)?,
        rollbacks: failures::read_rollbacks(connection, id)?,
        trial: trials::read(connection, id)?,
        row,
    })
}
