//! Whether the host may promise what specs ask for, beside what it has promised already.
//! Gathers the figures; the arithmetic is `node::capacity`'s.

use std::collections::BTreeMap;

use super::blocking;
use super::engine::Engine;
use super::error::OperationError;
use crate::host::{facts, space};
use crate::node::OnOvercommit;
use crate::node::capacity::{Amounts, Commitment, commitments, exceeded};
use crate::state::Wanted;
use crate::tenant::{ResolvedSpec, TenantId};

/// What each tenant was promised. Held ones count: they can come back at any time.
type Promised = BTreeMap<TenantId, Amounts>;

impl Engine {
    /// What plans promise of this host, and how much they may.
    pub async fn commitments(&self) -> Result<[Commitment; 3], OperationError> {
        let promised = total(&self.promised().await?);
        let settings = self.settings().capacity;
        Ok(commitments(&settings, self.has().await, promised))
    }

    /// Warns of specs that promise more together than this host may, or refuses them, as `node.toml` says.
    ///
    /// # Errors
    /// Something is exceeded, and `on-overcommit` is `refuse`.
    pub async fn check_capacity<'a>(
        &self,
        specs: impl IntoIterator<Item = &'a ResolvedSpec>,
    ) -> Result<Vec<String>, OperationError> {
        let settings = self.settings().capacity;
        let before = self.promised().await?;
        let mut after = before.clone();
        let mut asked = Vec::new();
        for spec in specs {
            after.insert(spec.tenant.clone(), Amounts::promised(&spec.limits));
            asked.push(spec.tenant.to_string());
        }
        let found = exceeded(&settings, self.has().await, total(&before), total(&after));
        let figures: Vec<_> = found.iter().map(ToString::to_string).collect();
        match settings.on_overcommit {
            OnOvercommit::Refuse if !figures.is_empty() => Err(OperationError::Capacity {
                asked: asked.join(", "),
                figures,
            }),
            OnOvercommit::Refuse | OnOvercommit::Warn => Ok(figures),
        }
    }

    async fn promised(&self) -> Result<Promised, OperationError> {
        let mut promised = Promised::new();
        for row in self.database.tenants().await? {
            let Some(number) = row
                .current_revision
                .filter(|_| row.wanted != Wanted::Removed)
            else {
                continue;
            };
            if let Some(stored) = self.database.revision(row.id.clone(), number).await? {
                let amounts = Amounts::promised(&stored.revision.resolved.limits);
                promised.insert(row.id, amounts);
            }
        }
        Ok(promised)
    }

    /// What the host has. What cannot be seen counts as without end: it is no reason to refuse.
    async fn has(&self) -> Amounts {
        let path = self.layout.data_dir();
        let root = self.layout.root().to_owned();
        let (memory, space) =
            blocking(move || (facts::memory_total(&root), space::of(&path).ok())).await;
        Amounts {
            memory: memory.unwrap_or(u64::MAX),
            cpu_millis: facts::processors() as u64 * 1000,
            storage: space.map_or(u64::MAX, |space| space.total),
        }
    }
}

fn total(promised: &Promised) -> Amounts {
    let amounts = promised.values();
    amounts.fold(Amounts::default(), |sum, more| sum.plus(*more))
}
