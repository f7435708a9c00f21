//! The limits that tenants' current revisions give them.
//! What they add up to is `node::capacity`'s business.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::{Database, StateError};
use crate::tenant::{Limits, Revision, TenantId};

impl Database {
    /// The limits of every tenant that has a revision and is not on its way out. Held ones count: they can come back at
    /// any time.
    pub async fn limits_in_force(&self) -> Result<BTreeMap<TenantId, Limits>, StateError> {
        self.call(|connection| limits_in_force(connection)).await
    }
}

/// As the method, inside whatever the connection is doing.
pub(super) fn limits_in_force(
    connection: &Connection,
) -> Result<BTreeMap<TenantId, Limits>, StateError> {
    let failed = || StateError::statement("read the limits in force");
    let mut statement = connection
        .prepare(
            "SELECT r.document FROM tenants t
             JOIN revisions r ON r.tenant = t.id AND r.number = t.current_revision
             WHERE t.wanted <> 'removed'",
        )
        .map_err(failed())?;
    let mut rows = statement.query([]).map_err(failed())?;
    let mut limits = BTreeMap::new();
    while let Some(row) = rows.next().map_err(failed())? {
        let document: String = row.get(0).map_err(failed())?;
        let revision: Revision =
            serde_json::from_str(&document).map_err(StateError::document("a revision"))?;
        limits.insert(revision.resolved.tenant, revision.resolved.limits);
    }
    Ok(limits)
}
