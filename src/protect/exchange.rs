//! Puts restored state in the place of what was there, by two renames that a crash cannot part.
//! What is put there is the caller's: whole, checked, in `restoring/`.

use camino::{Utf8Path, Utf8PathBuf};

use super::ProtectError;
use super::kept::keep_replaced;
use crate::failpoint;
use crate::host::files::{self};
use crate::host::{clock, dirs};
use crate::layout::Layout;
use crate::tenant::TenantId;

/// Whether any mounted directory below `state/` has anything in it.
pub(super) fn has_state(state: &Utf8Path) -> bool {
    let entries = |path: &Utf8Path| path.read_dir_utf8().into_iter().flatten().flatten();
    entries(state).any(|mount| !mount.path().is_dir() || entries(mount.path()).next().is_some())
}

/// Puts what was restored in place; the state that was there is kept.
pub(super) fn exchange(layout: &Layout, tenant: &TenantId) -> Result<(), ProtectError> {
    let (state, replaced) = (layout.state_dir(tenant), layout.replaced_dir(tenant));
    dirs::remove_tree(&replaced)?;
    if state.exists() {
        files::move_to(&state, &replaced)?;
    } else {
        // So that a crash before the second rename is seen for what it is.
        dirs::make(&replaced, 0o700)?;
    }
    failpoint::hit("protect.exchanged");
    finish_exchange(layout, tenant)
}

/// The second rename and what follows, also after a crash in between.
pub(super) fn finish_exchange(layout: &Layout, tenant: &TenantId) -> Result<(), ProtectError> {
    if is_exchange_open(layout, tenant) {
        files::move_to(&layout.restoring_dir(tenant), &layout.state_dir(tenant))?;
    }
    if layout.state_dir(tenant).exists() {
        keep_replaced(layout, tenant)?;
    }
    Ok(())
}

/// Whether a crash came between the two renames: `replaced/` without `state/` says that
/// `restoring/` is whole.
pub(super) fn is_exchange_open(layout: &Layout, tenant: &TenantId) -> bool {
    layout.replaced_dir(tenant).exists()
        && !layout.state_dir(tenant).exists()
        && layout.restoring_dir(tenant).exists()
}

/// A name that says when something was set aside.
pub(super) fn aside(path: &Utf8Path) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{path}.{}", clock::now().as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protect::samples::{fill, host, read};
    use std::fs;

    #[test]
    fn empty_mounts_are_no_state() {
        let (_guard, layout, tenant) = host();
        let state = layout.state_dir(&tenant);
        assert!(!has_state(&state));
        fs::create_dir_all(state.join("data")).unwrap();
        assert!(!has_state(&state));
        fill(&state, "x");
        assert!(has_state(&state));
    }

    #[test]
    fn the_old_state_is_kept_and_a_crash_between_the_renames_is_finished() {
        let (_guard, layout, tenant) = host();
        fill(&layout.state_dir(&tenant), "old");
        fill(&layout.restoring_dir(&tenant), "new");
        // The crash: only the first rename was done.
        files::move_to(&layout.state_dir(&tenant), &layout.replaced_dir(&tenant)).unwrap();
        assert!(is_exchange_open(&layout, &tenant));
        finish_exchange(&layout, &tenant).unwrap();
        assert!(!is_exchange_open(&layout, &tenant));
        assert_eq!(read(&layout.state_dir(&tenant)), "new");
        assert_eq!(read(&layout.before_restore_dir(&tenant)), "old");
        finish_exchange(&layout, &tenant).unwrap();
        assert_eq!(read(&layout.state_dir(&tenant)), "new");
    }

    #[test]
    fn a_restore_that_was_cut_short_touches_no_state() {
        let (_guard, layout, tenant) = host();
        fill(&layout.state_dir(&tenant), "old");
        fill(&layout.restoring_dir(&tenant), "half");
        finish_exchange(&layout, &tenant).unwrap();
        let path = layout.state_dir(&tenant).join("data/file");
        assert_eq!(fs::read_to_string(path).unwrap(), "old");
    }
}
