//! A machine with a kernel of its own: user-mode Linux, Debian's kernel built to run as a process. It needs no
//! virtualisation and emulates no processor, and it has what the container's kernel may lack: every cgroup controller,
//! quotas, swap, a power button. One processor, no pressure figures, no `io.weight`: see `docs/ARCHITECTURE.md`.

mod files;
mod kernel;
mod monitor;

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    COMMAND_LIMIT, POLL,
    carrier::{Carrier, is_name},
    enter::Inside,
    images::{self, Image, fake_agent},
    root,
};
use crate::{host, paths, process};

const LAUNCH: &str = include_str!("launch.sh");

/// How long it may take to come up: ten seconds where nothing else is done.
const BOOT_LIMIT: Duration = Duration::from_mins(4);
/// Memory of the machine; what it does not use, the host keeps.
const MEMORY: &str = "2G";

/// Fetches what a virtual machine needs beside the test machine's root and images.
pub(super) fn build() -> anyhow::Result<()> {
    host::provide(host::MACHINE)?;
    host::provide(host::VIRTUAL_MACHINE)?;
    kernel::ensure().map(drop)
}

/// One virtual machine's files on the host.
#[derive(Debug, Clone)]
pub(super) struct VirtualMachine {
    name: String,
    directory: PathBuf,
}

impl VirtualMachine {
    pub(super) fn new(name: &str) -> anyhow::Result<Self> {
        ensure!(
            is_name(name),
            "a machine's name is made of a-z, 0-9 and dashes, not {name:?}"
        );
        Ok(Self {
            name: name.to_owned(),
            directory: paths::virtual_machine(name),
        })
    }

    /// The launcher's process, while there is one: everything of the machine is below it.
    fn launcher(&self) -> anyhow::Result<Option<i32>> {
        // Without the lock the number is somebody else's.
        if !self.is_up()? {
            return Ok(None);
        }
        let pid = fs::read_to_string(self.directory.join("launcher.pid")).unwrap_or_default();
        Ok(pid.trim().parse().ok())
    }

    /// The agents' images that it has: only the one that tests use, because its disk is made anew for each.
    fn images() -> anyhow::Result<Vec<Image>> {
        let mut images = images::ensure_all()?;
        images.retain(|image| image.reference == fake_agent::reference());
        Ok(images)
    }
}

impl Carrier for VirtualMachine {
    fn name(&self) -> &str {
        &self.name
    }

    fn task(&self) -> String {
        format!("cargo xtask vm --name {}", self.name)
    }

    fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    fn disks(&self) -> Vec<PathBuf> {
        ["disk.xfs", "swap.img"]
            .map(|disk| self.directory.join(disk))
            .into()
    }

    fn has_controllers(&self) -> bool {
        true
    }

    /// Whether the launcher lives. It holds the lock from its first moment to its last.
    fn is_up(&self) -> anyhow::Result<bool> {
        let path = self.directory.join("lock");
        let file = match OpenOptions::new().write(true).open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            other => other.with_context(|| format!("could not open {}", path.display()))?,
        };
        Ok(Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err())
    }

    fn inside(&self) -> anyhow::Result<Option<Inside>> {
        Ok(self.launcher()?.map(|launcher| Inside::Ssh {
            launcher,
            directory: self.directory.clone(),
        }))
    }

    /// In a directory that the machine has mounted: the cable is slow.
    fn show(&self, file: &Path) -> anyhow::Result<Option<String>> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", std::process::id());
        let shown = self.directory.join("inbox").join(&name);
        if fs::hard_link(file, &shown).is_err() {
            fs::copy(file, &shown).with_context(|| format!("could not copy {}", file.display()))?;
        }
        Ok(Some(format!("/run/inbox/{name}")))
    }

    /// Starts the launcher; does not wait for the machine.
    fn launch(&self) -> anyhow::Result<()> {
        build()?;
        let (root, kernel, images) = (root::ensure()?, kernel::ensure()?, Self::images()?);
        fs::create_dir_all(&self.directory)
            .with_context(|| format!("could not create {}", self.directory.display()))?;
        files::write(&self.directory, &images::storage_conf(&images))
            .context("could not write the machine's own files")?;
        let console = File::create(self.console())?;
        let mut command = Command::new("setsid");
        command
            .args(["--fork", "unshare", "--mount", "--net", "--pid", "--fork"])
            .args(["--kill-child", "--propagation", "private"])
            .args(["bash", "-c", LAUNCH, "launch"])
            .args([&self.directory, &root, &kernel, &paths::repository()])
            .args([&self.name, MEMORY])
            .args(images.iter().map(Image::bind))
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console);
        process::run(&mut command)
    }

    fn build(&self) -> anyhow::Result<()> {
        super::build()?;
        build()
    }

    fn boot_limit(&self) -> Duration {
        BOOT_LIMIT
    }

    fn press_power_button(&self) -> anyhow::Result<()> {
        let launcher = self.launcher()?.context("the machine is off")?;
        monitor::press_ctrl_alt_del(launcher)
    }

    fn cut_power(&self) -> anyhow::Result<()> {
        if let Some(inside) = self.inside()? {
            let argv = ["xfs_io", "-x", "-c", "shutdown", "/var"].map(str::to_owned);
            inside.output(&argv, &[], COMMAND_LIMIT)?.check()?;
        }
        self.slay()
    }

    /// Ends the launcher, and with it every process in its namespace.
    fn slay(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.is_up()? {
            if let Some(launcher) = self.launcher()? {
                kill(Pid::from_raw(launcher), Signal::SIGKILL).ok();
            }
            ensure!(
                Instant::now() < deadline,
                "virtual machine {} does not end",
                self.name
            );
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn wait_down(&self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        while self.is_up()? {
            if Instant::now() > deadline {
                bail!(
                    "virtual machine {} is not off after {} s; see {}",
                    self.name,
                    limit.as_secs(),
                    self.console().display()
                );
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn erase(&self) -> anyhow::Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("could not remove {}", self.directory.display()))
            }
            _ => Ok(()),
        }
    }
}
