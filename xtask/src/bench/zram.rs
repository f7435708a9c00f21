//! Compressed swap in memory for one run, as a node has it: `zram`, by the files that its driver has for it.
//! Sources: the kernel's `Documentation/admin-guide/blockdev/zram.rst`, `swapon(8)`.

use std::{fs, process::Command};

use anyhow::Context as _;

use crate::process;

const CONTROL: &str = "/sys/class/zram-control";

/// Swap that is there until it is dropped.
#[derive(Debug)]
pub struct Zram {
    number: String,
}

impl Zram {
    /// Swap for so much that is not compressed yet. An error where the kernel has no `zram`, or this is not root.
    pub fn new(bytes: u64) -> anyhow::Result<Self> {
        let added = fs::read_to_string(format!("{CONTROL}/hot_add"))
            .context("this kernel gives no zram device")?;
        let zram = Self {
            number: added.trim().to_owned(),
        };
        let size = format!("/sys/block/zram{}/disksize", zram.number);
        fs::write(&size, bytes.to_string()).with_context(|| format!("could not write {size}"))?;
        process::output(Command::new("mkswap").arg(zram.device()))?;
        process::output(Command::new("swapon").arg(zram.device()))?;
        Ok(zram)
    }

    fn device(&self) -> String {
        format!("/dev/zram{}", self.number)
    }
}

impl Drop for Zram {
    /// What cannot be undone stays until the host restarts, and holds nothing then.
    fn drop(&mut self) {
        let _ = process::output(Command::new("swapoff").arg(self.device()));
        let _ = fs::write(format!("{CONTROL}/hot_remove"), &self.number);
    }
}
