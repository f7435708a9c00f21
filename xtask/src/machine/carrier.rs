//! What carries a machine: a container on this kernel, or a virtual machine with one of its own.
//! A carrier starts, finds and ends it; what is done in it is the same for both.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::enter::Inside;

/// One machine's disk, process and way in.
pub(super) trait Carrier: fmt::Debug + Send + Sync {
    /// The machine's name.
    fn name(&self) -> &str;

    /// What one types to use it: `cargo xtask machine --name NAME`.
    fn task(&self) -> String;

    /// Everything that it printed on its console.
    fn console(&self) -> PathBuf;

    /// The files of the host that are its disks, swap included.
    fn disks(&self) -> Vec<PathBuf>;

    /// Whether its kernel has the cgroup controllers that limits are made of.
    fn has_controllers(&self) -> bool;

    /// Whether it is up, in any state.
    fn is_up(&self) -> anyhow::Result<bool>;

    /// The way in, once there is one.
    fn inside(&self) -> anyhow::Result<Option<Inside>>;

    /// Shows it a file of the host, and says where it sees that; `None` where a file has to be sent.
    fn show(&self, file: &Path) -> anyhow::Result<Option<String>>;

    /// Builds what it starts from, unless it is in the cache, and installs on this host what that needs.
    fn build(&self) -> anyhow::Result<()>;

    /// Starts it and does not wait; builds what is not built yet.
    fn launch(&self) -> anyhow::Result<()>;

    /// How long it may take to come up.
    fn boot_limit(&self) -> Duration;

    /// Asks it to power off, as its power button would.
    fn press_power_button(&self) -> anyhow::Result<()>;

    /// Loses what it wrote and did not sync, as a power cut does.
    fn cut_power(&self) -> anyhow::Result<()>;

    /// Ends it at once.
    fn slay(&self) -> anyhow::Result<()>;

    /// Waits until it is off and nothing of it is left but its disk.
    fn wait_down(&self, limit: Duration) -> anyhow::Result<()>;

    /// Erases the disk of a machine that is off.
    fn erase(&self) -> anyhow::Result<()>;
}

/// Whether this can name a machine.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.len() <= 40 && name.chars().all(allowed) && !name.starts_with('-')
}
