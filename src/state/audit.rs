//! Who did what, when and why.

use jiff::Timestamp;
use serde::Serialize;

use super::{Database, StateError};
use crate::tenant::TenantId;

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AuditEntry {
    /// When it happened.
    pub at: Timestamp,
    /// Who asked: `root`, `uid 1000`, `tenantd`, `file /etc/tenantd/tenants.d/acme.toml`.
    pub actor: String,
    /// Which tenant it concerns, if one.
    pub tenant: Option<TenantId>,
    /// What happened, for example `starting -> running`.
    pub action: String,
    /// Why.
    pub detail: Option<String>,
}

impl AuditEntry {
    /// A line about a tenant.
    pub fn of_tenant(
        tenant: TenantId,
        actor: String,
        at: Timestamp,
        action: impl Into<String>,
        detail: Option<String>,
    ) -> Self {
        Self {
            at,
            actor,
            tenant: Some(tenant),
            action: action.into(),
            detail,
        }
    }
}

impl Database {
    /// Appends to the audit log.
    pub async fn audit(&self, entry: AuditEntry) -> Result<(), StateError> {
        self.call(move |connection| insert(connection, &entry))
            .await
    }

    /// The newest `limit` entries, oldest first.
    pub async fn audit_log(
        &self,
        tenant: Option<TenantId>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StateError> {
        self.call(move |connection| {
            let failed = || StateError::statement("read the audit log");
            let mut statement = connection
                .prepare_cached(
                    "SELECT at, actor, tenant, action, detail FROM audit
                     WHERE ?1 IS NULL OR tenant = ?1 ORDER BY sequence DESC LIMIT ?2",
                )
                .map_err(failed())?;
            let rows = statement
                .query_map((tenant.as_ref().map(TenantId::as_str), limit), |row| {
                    Ok(AuditEntry {
                        at: super::tenants::timestamp(row, 0)?,
                        actor: row.get(1)?,
                        tenant: row
                            .get::<_, Option<String>>(2)?
                            .and_then(|id| id.parse().ok()),
                        action: row.get(3)?,
                        detail: row.get(4)?,
                    })
                })
                .map_err(failed())?;
            let mut entries: Vec<_> = rows.collect::<Result<_, _>>().map_err(failed())?;
            entries.reverse();
            Ok(entries)
        })
        .await
    }
}

/// Appends `entry` within the caller's transaction.
pub(super) fn insert(
    connection: &rusqlite::Connection,
    entry: &AuditEntry,
) -> Result<(), StateError> {
    connection
        .prepare_cached(
            "INSERT INTO audit (at, actor, tenant, action, detail) VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .and_then(|mut statement| {
            statement.execute((
                entry.at.to_string(),
                &entry.actor,
                entry.tenant.as_ref().map(TenantId::as_str),
                &entry.action,
                &entry.detail,
            ))
        })
        .map_err(StateError::statement("append to the audit log"))?;
    Ok(())
}
