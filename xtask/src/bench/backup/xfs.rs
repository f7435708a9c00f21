//! A file system with reflinks in a file, for the agent that is paused.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::{host, process};

/// Sparse: what is not written takes no space.
const SIZE: u64 = 8 << 30;

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct Xfs {
    image: PathBuf,
    directory: PathBuf,
    mounted: bool,
}

impl Xfs {
    /// Makes and mounts one below `work`.
    pub fn mount(work: &Path) -> anyhow::Result<Self> {
        host::provide(host::MACHINE)?;
        let (image, directory) = (work.join("xfs.img"), work.join("xfs"));
        File::create(&image)
            .and_then(|file| file.set_len(SIZE))
            .with_context(|| format!("could not make {}", image.display()))?;
        fs::create_dir(&directory)
            .with_context(|| format!("could not create {}", directory.display()))?;
        process::run_logged(Command::new("mkfs.xfs").arg("-q").arg(&image), "mkfs-xfs")?;
        let mut mount = Command::new("mount");
        process::run(mount.args(["-o", "loop"]).arg(&image).arg(&directory))?;
        Ok(Self {
            image,
            directory,
            mounted: true,
        })
    }

    /// Its root.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Unmounts it and removes the file.
    pub fn unmount(mut self) -> anyhow::Result<()> {
        self.mounted = false;
        process::run(Command::new("umount").arg(&self.directory))?;
        fs::remove_file(&self.image).context("could not remove the image")
    }
}

impl Drop for Xfs {
    fn drop(&mut self) {
        if self.mounted {
            // After a failure that is reported already.
            let _ = process::run(Command::new("umount").arg(&self.directory));
        }
    }
}
