//! The newest snapshot of a tenant, opened for a drill: how much room it takes, and the snapshot itself.
//! What is done with it, and what follows, is the drill's business.

use std::sync::Arc;

use camino::Utf8Path;
use secrecy::SecretString;

use super::ProtectError;
use super::checks::{CheckOutcome, Checked, note_check};
use super::inspect::open_snapshot;
use super::opened::{Opened, RestoreReport, Wanted};
use super::verify::is_gone;
use crate::backup::{Entry, EntryKind, Progress, RemoteError, RestoreError};
use crate::host::space::{self, Space};
use crate::layout::Layout;
use crate::node::NodeSettings;
use crate::tenant::TenantId;

/// A tenant's newest snapshot, which can be read with the identity that is at hand.
pub struct Newest {
    tenant: TenantId,
    opened: Opened,
}

impl Newest {
    /// Finds it in the store and unlocks it.
    ///
    /// # Errors
    /// As a restore of it; [`is_fault`] tells what is the backup's fault.
    pub async fn open(
        layout: &Layout,
        settings: &NodeSettings,
        tenant: &TenantId,
        identity: Option<&SecretString>,
    ) -> Result<Self, ProtectError> {
        let wanted = Wanted {
            identity,
            ..Wanted::default()
        };
        Ok(Self {
            tenant: tenant.clone(),
            opened: open_snapshot(layout, settings, tenant, wanted).await?,
        })
    }

    /// Its number.
    pub fn snapshot(&self) -> u64 {
        self.opened.commit().name.sequence.into()
    }

    /// Restores it into the new directory `target`, unless the tenants' disk would then be nearly full.
    pub async fn restore(
        &self,
        target: &Utf8Path,
        progress: Arc<dyn Progress>,
    ) -> Result<RestoreReport, ProtectError> {
        let name = self.tenant.as_str();
        let needed = size(&self.opened.entries(name).await?);
        let space = space::of(target.parent().unwrap_or(target))?;
        if !has_room(space, needed) {
            return Err(ProtectError::NoRoom {
                name: name.to_owned(),
                needed,
                free: space.free,
            });
        }
        self.opened.restore(name, target, None, progress).await
    }
}

/// The sizes of all files added up.
fn size(entries: &[Entry]) -> u64 {
    entries.iter().fold(0, |sum: u64, entry| match &entry.kind {
        EntryKind::File { size, .. } => sum.saturating_add(*size),
        _ => sum,
    })
}

/// Whether a twentieth of the disk is left to the tenants that run.
fn has_room(space: Space, needed: u64) -> bool {
    needed.saturating_add(space.total / 20) <= space.free
}

/// Whether an error says something of the backup itself, and not of the way to it or of this host.
pub fn is_fault(error: &ProtectError) -> bool {
    let of_remote = |error: &RemoteError| match error {
        RemoteError::NoKey => false,
        RemoteError::Store(_) => is_gone(error),
        _ => true,
    };
    match error {
        ProtectError::Stale { .. } => true,
        ProtectError::Read { source, .. } => of_remote(source),
        ProtectError::Restore { source, .. } => match source {
            RestoreError::Remote(source) => of_remote(source),
            RestoreError::Files(_) | RestoreError::Worker(_) | RestoreError::NoPath(_) => false,
            RestoreError::Pack { .. } | RestoreError::Chunk { .. } => true,
        },
        _ => false,
    }
}

/// Remembers what a drill of `tenant` found.
pub fn note_drill(layout: &Layout, tenant: &TenantId, drill: Checked) -> Result<(), ProtectError> {
    note_check(layout, tenant.as_str(), |checks| {
        if says_more(&drill, checks.drill.as_ref()) {
            checks.drill = Some(drill);
        }
    })
}

/// That nothing could be looked at takes the place of nothing that was found by looking.
fn says_more(new: &Checked, old: Option<&Checked>) -> bool {
    let was_looked = |checked: &Checked| checked.outcome != CheckOutcome::Skipped;
    was_looked(new) || !old.is_some_and(was_looked)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(100, 1000, 50, true)]
    #[case(100, 1000, 51, false)]
    #[case(100, 1000, u64::MAX, false)]
    fn a_drill_leaves_room_to_those_who_run(
        #[case] free: u64,
        #[case] total: u64,
        #[case] needed: u64,
        #[case] expected: bool,
    ) {
        assert_eq!(has_room(Space { free, total }, needed), expected);
    }

    #[rstest]
    #[case(CheckOutcome::Skipped, None, true)]
    #[case(CheckOutcome::Skipped, Some(CheckOutcome::Skipped), true)]
    #[case(CheckOutcome::Skipped, Some(CheckOutcome::Good), false)]
    #[case(CheckOutcome::Skipped, Some(CheckOutcome::Faulty), false)]
    #[case(CheckOutcome::Good, Some(CheckOutcome::Faulty), true)]
    #[case(CheckOutcome::Faulty, Some(CheckOutcome::Good), true)]
    fn what_was_found_is_not_forgotten_for_a_drill_that_was_skipped(
        #[case] new: CheckOutcome,
        #[case] old: Option<CheckOutcome>,
        #[case] expected: bool,
    ) {
        let checked = |outcome| Checked {
            at: Timestamp::UNIX_EPOCH,
            snapshot: 1,
            outcome,
            detail: String::new(),
        };
        let old = old.map(checked);
        assert_eq!(says_more(&checked(new), old.as_ref()), expected);
    }
}
