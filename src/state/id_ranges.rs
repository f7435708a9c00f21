//! Id ranges: given out once, recorded, never given to another tenant.

use rusqlite::{Connection, OptionalExtension};

use super::{Database, StateError};
use crate::quadlet::IdRange;
use crate::tenant::TenantId;

impl Database {
    /// The id range that a new tenant would get; nothing is given out.
    pub async fn next_id_range(&self, id: TenantId) -> Result<IdRange, StateError> {
        self.call(move |connection| next_range(connection, &id))
            .await
    }
}

/// The range that a new tenant gets: the one after the highest ever given out. A tenant that
/// comes back gets its old one, because its kept state may have been labelled for it.
pub(super) fn next_range(connection: &Connection, id: &TenantId) -> Result<IdRange, StateError> {
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
