//! How a tenant sleeps, as the freezer's record and its state tell.

use crate::api::{SleepSummary, SleepTier};
use crate::host::freezer::{Freezer, Owner};
use crate::layout::Layout;
use crate::state::TenantRow;
use crate::tenant::TenantState;

/// None while it is awake, or held.
pub fn summary(layout: &Layout, row: &TenantRow) -> Option<SleepSummary> {
    match row.state {
        TenantState::Asleep => Some(SleepSummary {
            tier: SleepTier::Stopped,
            since: row.changed_at,
        }),
        TenantState::Frozen => {
            let record = Freezer::new(layout.clone()).record(&row.id).ok().flatten();
            let record = record.filter(|record| record.owner == Owner::Sleep)?;
            Some(match record.paged_out {
                Some(since) => SleepSummary {
                    tier: SleepTier::PagedOut,
                    since,
                },
                None => SleepSummary {
                    tier: SleepTier::Frozen,
                    since: record.at,
                },
            })
        }
        _ => None,
    }
}
