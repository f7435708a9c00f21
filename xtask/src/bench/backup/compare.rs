//! Whether two directories hold the same files: names, contents, modes and times.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use anyhow::{Context as _, ensure};

/// Fails at the first difference.
pub fn assert_same(restored: &Path, original: &Path) -> anyhow::Result<()> {
    let names = |directory: &Path| -> anyhow::Result<Vec<_>> {
        let entries = fs::read_dir(directory)
            .with_context(|| format!("could not list {}", directory.display()))?;
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry?.file_name());
        }
        names.sort();
        Ok(names)
    };
    let (ours, theirs) = (names(restored)?, names(original)?);
    ensure!(
        ours == theirs,
        "{} holds other names than {}",
        restored.display(),
        original.display()
    );
    for name in ours {
        let (restored, original) = (restored.join(&name), original.join(&name));
        let (ours, theirs) = (
            fs::symlink_metadata(&restored)?,
            fs::symlink_metadata(&original)?,
        );
        let facts = |metadata: &fs::Metadata| {
            let time = (metadata.mtime(), metadata.mtime_nsec());
            (metadata.mode(), metadata.uid(), metadata.gid(), time)
        };
        ensure!(
            facts(&ours) == facts(&theirs),
            "{} differs in mode, owner or time",
            restored.display()
        );
        if ours.is_dir() {
            assert_same(&restored, &original)?;
        } else {
            ensure!(
                ours.len() == theirs.len() && same_bytes(&restored, &original)?,
                "{} differs",
                restored.display()
            );
        }
    }
    Ok(())
}

fn same_bytes(a: &Path, b: &Path) -> anyhow::Result<bool> {
    const BLOCK: usize = 1 << 18;
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    let (mut left, mut right) = (vec![0; BLOCK], vec![0; BLOCK]);
    loop {
        let count = a.read(&mut left)?;
        if count == 0 {
            return Ok(true);
        }
        b.read_exact(&mut right[..count])?;
        if left[..count] != right[..count] {
            return Ok(false);
        }
    }
}
