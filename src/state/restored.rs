//! What is asked of, and changed in, the database of a node that is being rebuilt, before it is put in its place.
//! It may be of an older version: what that had not is passed over.

use std::collections::BTreeMap;

use camino::Utf8Path;
use jiff::Timestamp;
use rusqlite::Connection;

use super::in_force::limits_in_force;
use super::tenants::timestamp;
use super::{AuditEntry, StateError, audit};
use crate::tenant::{Limits, TenantId};

/// Who the audit log names for what is changed here.
const ACTOR: &str = "tenantd restore --node";

/// The limits of the tenants in the database at `path`.
///
/// # Errors
/// It cannot be read.
pub fn limits_in(path: &Utf8Path) -> Result<BTreeMap<TenantId, Limits>, StateError> {
    let connection = Connection::open(path).map_err(StateError::open(path))?;
    limits_in_force(&connection)
}

/// Puts off every erasure that would be due before `until`, and gives whose. The database may be older than a tenant's
/// return: somebody should have the time to look, before what cannot be undone is done.
///
/// # Errors
/// It cannot be read or changed; nothing is changed then.
pub fn put_off_erasures(
    path: &Utf8Path,
    until: Timestamp,
    now: Timestamp,
) -> Result<Vec<TenantId>, StateError> {
    let failed = || StateError::statement("put erasures off");
    let mut connection = Connection::open(path).map_err(StateError::open(path))?;
    if !connection.table_exists(None, "endings").map_err(failed())? {
        return Ok(Vec::new());
    }
    let transaction = connection.transaction().map_err(failed())?;
    let due = due_before(&transaction, until)?;
    for tenant in &due {
        transaction
            .execute(
                "UPDATE endings SET erase_at = ?2 WHERE tenant = ?1",
                (tenant.as_str(), until.to_string()),
            )
            .map_err(failed())?;
        let action = "erasure put off: the node was rebuilt".to_owned();
        let line = AuditEntry::of_tenant(tenant.clone(), ACTOR.to_owned(), now, action, None);
        audit::insert(&transaction, &line)?;
    }
    transaction.commit().map_err(failed())?;
    Ok(due)
}

/// The tenants that are to be erased before `until`.
fn due_before(connection: &Connection, until: Timestamp) -> Result<Vec<TenantId>, StateError> {
    let failed = || StateError::statement("read what is to be erased");
    let mut statement = connection
        .prepare("SELECT tenant, erase_at FROM endings WHERE erase_at IS NOT NULL")
        .map_err(failed())?;
    let mut rows = statement.query([]).map_err(failed())?;
    let mut due = Vec::new();
    while let Some(row) = rows.next().map_err(failed())? {
        let erase_at = timestamp(row, 1).map_err(failed())?;
        let tenant = row.get::<_, String>(0).map_err(failed())?.parse().ok();
        due.extend(tenant.filter(|_| erase_at < until));
    }
    Ok(due)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Database, Why};

    #[tokio::test]
    async fn an_erasure_that_is_due_waits_on_a_rebuilt_node() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path())
            .unwrap()
            .join("state.db");
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-11-21T10:00:00Z");
        let database = Database::open(&path).unwrap();
        let why = || Why {
            actor: "root".to_owned(),
            at: now,
            reason: None,
            cause: None,
        };
        for (tenant, erase_at) in [
            ("due", "2026-11-20T10:00:00Z"),
            ("later", "2027-01-01T00:00:00Z"),
        ] {
            let tenant: TenantId = tenant.parse().unwrap();
            let made = database.create_tenant(tenant.clone(), None, "root".to_owned(), now);
            made.await.unwrap();
            let ended = database.terminate(tenant, at(erase_at), why());
            ended.await.unwrap();
        }
        let until = at("2026-11-28T10:00:00Z");
        let due = put_off_erasures(&path, until, now).unwrap();
        assert_eq!(due, ["due".parse().unwrap()]);
        for (tenant, erase_at) in [("due", until), ("later", at("2027-01-01T00:00:00Z"))] {
            let ending = database.ending(tenant.parse().unwrap()).await.unwrap();
            assert_eq!(ending.unwrap().erase_at, Some(erase_at));
        }
    }
}
