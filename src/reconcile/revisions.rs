//! What the API shows of a tenant's revisions: all of them, and one whole.
//! Nothing here changes anything.

use super::engine::Engine;
use super::error::OperationError;
use crate::api::{RevisionDetail, RevisionSummary, Standing};
use crate::quadlet::UnitFile;
use crate::state::{MadeRevision, OperationStatus, TenantRow};
use crate::tenant::TenantId;

impl Engine {
    /// A tenant's revisions, the newest first.
    pub async fn revisions(
        &self,
        tenant: &TenantId,
    ) -> Result<Vec<RevisionSummary>, OperationError> {
        let row = self.database.tenant(tenant.clone()).await?;
        let made = self.database.revisions(tenant.clone()).await?;
        Ok(made.iter().map(|made| summary(&row, made)).collect())
    }

    /// One revision whole: spec, what it meant, and the files rendered for it.
    pub async fn revision(
        &self,
        tenant: &TenantId,
        number: u64,
    ) -> Result<RevisionDetail, OperationError> {
        let row = self.database.tenant(tenant.clone()).await?;
        let unknown = || OperationError::UnknownRevision {
            tenant: tenant.clone(),
            number,
        };
        let made = self.database.revisions(tenant.clone()).await?;
        let made = made.iter().find(|made| made.revision.number.0 == number);
        let made = made.ok_or_else(unknown)?;
        let stored = self.database.revision(tenant.clone(), number).await?;
        let stored = stored.ok_or_else(unknown)?;
        let files = stored.unit_set.iter().map(|(path, file)| {
            let text = match file {
                UnitFile::Text(text) => text.clone(),
                UnitFile::Link(target) => format!("link to {target}\n"),
            };
            (path.to_string(), text)
        });
        Ok(RevisionDetail {
            summary: summary(&row, made),
            spec: stored.revision.spec_text.clone(),
            resolved: serde_json::json!(stored.revision.resolved),
            files: files.collect(),
        })
    }
}

fn summary(row: &TenantRow, made: &MadeRevision) -> RevisionSummary {
    let revision = &made.revision;
    RevisionSummary {
        revision: revision.number.0,
        standing: standing(row, made),
        created_at: revision.created_at,
        actor: revision.actor.clone(),
        message: revision.message.clone(),
        template: revision.resolved.template.clone(),
        plan: revision.resolved.plan.clone(),
        image: revision.resolved.image.to_string(),
        image_id: revision.image.to_string(),
        unit_set_hash: revision.unit_set_hash.clone(),
        operation: made.operation,
    }
}

/// Where a revision stands among those of its tenant.
fn standing(row: &TenantRow, made: &MadeRevision) -> Standing {
    let number = Some(made.revision.number.0);
    if made.status == Some(OperationStatus::Running) {
        Standing::Applying
    } else if number == row.current_revision {
        Standing::Current
    } else if number == row.good_revision {
        Standing::LastKnownGood
    } else if made.status == Some(OperationStatus::Failed) {
        Standing::Failed
    } else {
        Standing::Past
    }
}
