//! A host without anything in it, and state to put there, for the tests of this room.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};

use crate::layout::Layout;
use crate::tenant::TenantId;

/// A host below a temporary directory, and a tenant.
pub(super) fn host() -> (tempfile::TempDir, Layout, TenantId) {
    let guard = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
    (guard, Layout::rooted(root), "acme".parse().unwrap())
}

/// Puts one file into a state directory.
pub(super) fn fill(directory: &Utf8Path, content: &str) {
    fs::create_dir_all(directory.join("data")).unwrap();
    fs::write(directory.join("data/file"), content).unwrap();
}

/// What [`fill`] has put there.
pub(super) fn read(directory: &Utf8Path) -> String {
    fs::read_to_string(directory.join("data/file")).unwrap()
}
