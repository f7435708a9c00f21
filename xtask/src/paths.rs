//! Where things are: the repository, its target directory, the cache shared by all checkouts.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The repository's root, known when this crate was compiled.
pub fn repository() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// Cargo's target directory, `CARGO_TARGET_DIR` included.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => repository().join(directory),
        None => repository().join("target"),
    }
}

/// The directory of one machine: its disk, its log, its lock.
pub fn machine(name: &str) -> PathBuf {
    target().join("machines").join(name)
}

/// The directory of one virtual machine.
pub fn virtual_machine(name: &str) -> PathBuf {
    target().join("vms").join(name)
}

/// What is expensive to build and the same for every checkout: `$XDG_CACHE_HOME/tenantd`.
pub fn cache() -> PathBuf {
    let home = || env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .unwrap_or_else(|| home().join(".cache"))
        .join("tenantd")
}
