//! How many operations of a tenant may be open at a time, so that nobody holds off what others ask for.
//! It owns the bounds; who asks is told to it, and what is recorded and started is the engine's.

use super::error::OperationError;
use super::trials::ACTOR;
use crate::state::Operation;
use crate::tenant::TenantId;

/// Most operations of one tenant that are at work or wait for their turn. What tenantd asks for by itself comes beside
/// them: it waits for its own ends.
pub const MOST_OPEN: usize = 8;

/// Whose bound holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The owner of the tenant: nothing of it is open.
    Owner,
    /// All others: [`MOST_OPEN`].
    Others,
}

/// Refuses what would be too many, given all that is open.
///
/// # Errors
/// [`OperationError::Busy`] for owners, [`OperationError::Crowded`] for others.
pub fn admit(open: &[Operation], asked: &[Operation], bound: Bound) -> Result<(), OperationError> {
    let by_others = asked.iter().filter(|operation| operation.actor != ACTOR);
    for tenant in by_others.filter_map(|operation| operation.tenant.as_ref()) {
        let mut of_it = open
            .iter()
            .filter(|operation| operation.tenant.as_ref() == Some(tenant));
        match bound {
            Bound::Owner => {
                if let Some(first) = of_it.next() {
                    return Err(busy(tenant, first));
                }
            }
            Bound::Others => {
                let open = of_it.count();
                if open >= MOST_OPEN {
                    let tenant = tenant.clone();
                    return Err(OperationError::Crowded { tenant, open });
                }
            }
        }
    }
    Ok(())
}

/// `operation` is in the way of another one.
pub fn busy(tenant: &TenantId, operation: &Operation) -> OperationError {
    OperationError::Busy {
        tenant: tenant.clone(),
        operation: operation.id,
        kind: operation.kind,
        by: operation.actor.clone(),
        since: operation.started_at,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::reconcile::asked;
    use crate::state::OperationKind;

    fn operation(tenant: &str, actor: &str) -> Operation {
        let tenant = Some(tenant.parse().unwrap());
        asked(OperationKind::Backup, tenant, json!({}), actor.to_owned())
    }

    #[rstest]
    #[case(0, "token a (phone)", Bound::Owner, None)]
    #[case(1, "token a (phone)", Bound::Owner, Some("tenant-busy"))]
    #[case(MOST_OPEN - 1, "root", Bound::Others, None)]
    #[case(MOST_OPEN, "root", Bound::Others, Some("too-many-operations"))]
    // A tenant that is to be repaired is repaired.
    #[case(MOST_OPEN, ACTOR, Bound::Others, None)]
    fn nobody_holds_a_tenant_off_with_operations(
        #[case] open: usize,
        #[case] actor: &str,
        #[case] bound: Bound,
        #[case] refused: Option<&str>,
    ) {
        let mut all = vec![operation("acme", "root"); open];
        // Those of others do not count.
        all.extend(vec![operation("other", "root"); 2 * MOST_OPEN]);
        let answer = admit(&all, &[operation("acme", actor)], bound);
        assert_eq!(answer.err().map(|error| error.code().0), refused);
    }
}
