//! Backs up and restores this host's tenants and the node: ties the backup engine to where
//! things are, to whom they are encrypted for, and to the freezer.
//! It knows no format (that is `backup`) and starts no unit (that is `reconcile` and systemd).

mod catalogued;
mod checks;
mod error;
mod exchange;
mod export;
mod forget;
mod forks;
mod freeze;
mod front;
mod heartbeat;
mod import;
mod inspect;
mod kept;
mod keys;
mod last_good;
mod newest;
mod node;
mod node_restore;
mod node_search;
mod opened;
mod order;
mod prune;
mod quiesce;
mod quiesce_call;
mod releases;
mod report;
mod restore;
mod restore_apart;
#[cfg(test)]
mod samples;
mod shutdown;
mod store;
mod tenant;
#[cfg(test)]
mod trust_tests;
mod verify;

pub use checks::{CheckOutcome, Checked, Checks, read_checks};
pub use error::ProtectError;
pub use export::{Export, ExportReport, export};
pub use forks::Fork;
pub use import::{check_vacant, import_state, read_archive};
pub use inspect::{ListedFile, Listing, list_files};
pub use kept::{Kept, give_up, kept, put_back};
pub use keys::{
    Erasure, ErasureStatus, KeyReport, NodeKeyReport, RepositoryReport, Rotated, erase_keys,
    go_on_erasing, pending_erasures, rotate_keys, show_keys,
};
pub use last_good::last_backup;
pub use newest::{Newest, is_fault, note_drill};
pub use node::{back_up_node, has_something};
pub use node_restore::{NodeWanted, Rebuilt, restore_node};
pub use opened::{RestoreReport, Wanted, has_identity};
pub use order::{RestoreOrder, has_order, write_order};
pub use prune::{PruneRequest, Pruned, prune};
pub use quiesce::{Quiesced, release_abandoned};
pub use releases::{Release, bring_back, drop_clones, releases, surplus, take as take_release};
pub use report::{
    BackupReport, Outcome, Told, end_progress, progress, read_report, reports_of,
    take_restore_report, tell_progress,
};
pub use restore::{is_restore_due, restore_if_wanted};
pub use restore_apart::{Apart, Place, restore_apart};
pub use shutdown::{Shown, ShutdownReport, final_backup, prestop_backup};
pub use store::{examine_store, probe_store};
pub use tenant::{Haste, back_up_tenant, create_repository, local_snapshots, newest_size, tenants};
pub use verify::{Faulty, Verified, new_salt, story, verify};
