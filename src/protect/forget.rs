//! Forgets the records of snapshots that the store has not any more, whenever it was listed.
//! It removes what this host shows, never what it relies on: the newest record and the head stay.

use std::collections::HashSet;

use super::ProtectError;
use crate::backup::{self, CommitName, Digest, Snapshots};
use crate::layout::Layout;

/// Forgets what a listing of all snapshots of `name` has not, unless it has any that could not be read.
pub(super) fn forget_gone(
    layout: &Layout,
    name: &str,
    snapshots: &Snapshots,
) -> Result<(), ProtectError> {
    if !snapshots.refused.is_empty() {
        return Ok(());
    }
    let there = snapshots.commits.iter().map(|commit| commit.name);
    forget_all_but(layout, name, there)
}

/// Forgets all up to the newest of `there` that is not one of them.
pub(super) fn forget_all_but(
    layout: &Layout,
    name: &str,
    there: impl Iterator<Item = CommitName>,
) -> Result<(), ProtectError> {
    let mut newest = None;
    let there: HashSet<Digest> = there
        .map(|commit| {
            newest = newest.max(Some((commit.epoch, commit.sequence)));
            commit.digest
        })
        .collect();
    backup::forget_snapshots(&layout.repository_dir(name), |record| {
        // What was committed since the store was listed is not gone.
        Some((record.epoch, record.sequence)) <= newest && !there.contains(&record.commit)
    })
    .map(drop)
    .map_err(|source| ProtectError::Repository {
        name: name.to_owned(),
        source,
    })
}
