//! What a virtual machine has and the container lacks: Debian's kernel as a process, with its modules, and the ssh
//! server that lets the harness in. Cached; laid below the test machine's own root, which stays as it is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{cache, debian};

/// The kernel (`user-mode-linux`, built from Debian's own) and the way in.
const PACKAGES: &[&str] = &["user-mode-linux", "openssh-server"];

/// The unpacked packages; fetched if this recipe has not been built yet.
pub(super) fn ensure() -> anyhow::Result<PathBuf> {
    let key = cache::Key::new("vm-kernel", [include_str!("kernel.rs"), debian::RECIPE]);
    cache::entry(&key, |directory| {
        debian::unpack(directory, PACKAGES, "vm-kernel")?;
        move_modules(directory).context("the kernel's package is not as expected")
    })
}

/// Puts the modules where `modprobe` looks for them.
fn move_modules(root: &Path) -> anyhow::Result<()> {
    let modules = root.join("usr/lib/modules");
    fs::create_dir_all(&modules)?;
    let versions = root.join("usr/lib/uml/modules");
    for version in fs::read_dir(&versions).with_context(|| versions.display().to_string())? {
        let version = version?;
        fs::rename(version.path(), modules.join(version.file_name()))?;
    }
    Ok(())
}
