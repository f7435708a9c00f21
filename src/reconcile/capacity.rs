//! Whether the host may promise what specs ask for, beside what it has promised already.
//! Gathers the figures; the arithmetic is `node::capacity`'s.

use std::collections::BTreeMap;

use tokio::sync::MutexGuard;

use super::blocking;
use super::engine::Engine;
use super::error::OperationError;
use super::operations::ApplyJob;
use crate::node::OnOvercommit;
use crate::node::capacity::{Amounts, Commitment, commitments, exceeded};
use crate::node::what_the_host_has;
use crate::state::{Operation, OperationKind};
use crate::tenant::{Catalog, ResolvedSpec, Source, TenantId};

/// What each tenant was promised. Held ones count: they can come back at any time.
type Promised = BTreeMap<TenantId, Amounts>;

impl Engine {
    /// What plans promise of this host, and how much they may.
    pub async fn commitments(&self) -> Result<[Commitment; 3], OperationError> {
        let promised = total(&self.promised().await?);
        let settings = self.settings().capacity;
        Ok(commitments(&settings, self.has().await, promised))
    }

    /// The right to promise something: whoever has it is the only one who judges what is asked for and records it, so
    /// that two who ask at the same time cannot both be told that there is room.
    pub async fn turn_to_promise(&self) -> Turn<'_> {
        Turn {
            engine: self,
            _alone: self.promising.lock().await,
        }
    }

    /// What was promised, and what is about to be: by operations that are recorded and have not ended.
    async fn promised(&self) -> Result<Promised, OperationError> {
        let in_force = self.database.limits_in_force().await?;
        let in_force = in_force.iter();
        let mut promised: Promised = in_force
            .map(|(tenant, limits)| (tenant.clone(), Amounts::promised(limits)))
            .collect();
        for operation in self.running_operations() {
            if let Some(spec) = asked_for(&self.catalog(), &operation) {
                let amounts = Amounts::promised(&spec.limits);
                let known = promised.entry(spec.tenant).or_default();
                *known = known.most(amounts);
            }
        }
        Ok(promised)
    }

    async fn has(&self) -> Amounts {
        let layout = self.layout.clone();
        blocking(move || what_the_host_has(&layout)).await
    }
}

/// The only one who may promise something now.
pub struct Turn<'a> {
    engine: &'a Engine,
    _alone: MutexGuard<'a, ()>,
}

impl Turn<'_> {
    /// Warns of specs that promise more together than this host may, or refuses them, as `node.toml` says. Nobody else
    /// may come between this and the record: that is made before the turn ends.
    ///
    /// # Errors
    /// Something is exceeded, and `on-overcommit` is `refuse`.
    pub async fn check<'a>(
        &self,
        specs: impl IntoIterator<Item = &'a ResolvedSpec>,
    ) -> Result<Vec<String>, OperationError> {
        let engine = self.engine;
        let settings = engine.settings().capacity;
        let before = engine.promised().await?;
        let mut after = before.clone();
        let mut asked = Vec::new();
        for spec in specs {
            after.insert(spec.tenant.clone(), Amounts::promised(&spec.limits));
            asked.push(spec.tenant.to_string());
        }
        let found = exceeded(&settings, engine.has().await, total(&before), total(&after));
        let figures: Vec<_> = found.iter().map(ToString::to_string).collect();
        match settings.on_overcommit {
            OnOvercommit::Refuse if !figures.is_empty() => Err(OperationError::Capacity {
                asked: asked.join(", "),
                figures,
            }),
            OnOvercommit::Refuse | OnOvercommit::Warn => Ok(figures),
        }
    }
}

/// The spec that an operation which has not ended brings in.
fn asked_for(catalog: &Catalog, operation: &Operation) -> Option<ResolvedSpec> {
    if operation.kind != OperationKind::Apply {
        return None;
    }
    let job: ApplyJob = serde_json::from_value(operation.request.clone()).ok()?;
    let (_, spec) = catalog.resolve(&Source::new(&job.name, &job.spec)).ok()?;
    Some(spec)
}

fn total(promised: &Promised) -> Amounts {
    let amounts = promised.values();
    amounts.fold(Amounts::default(), |sum, more| sum.plus(*more))
}
