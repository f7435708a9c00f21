//! The test machine: a real systemd with Podman, booted from a cached root, one instance per name. In a container on this
//! kernel, up in a second; or as a virtual machine with a kernel of its own, for what this kernel does not have.
//!
//! This is what tests use. It boots, enters, waits and reads; it knows nothing of what is tested.

mod carrier;
mod container;
mod enter;
pub mod images;
mod root;
mod tenantd;
mod testing;
mod virtual_machine;

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};

use self::{carrier::Carrier, container::Container, virtual_machine::VirtualMachine};
pub use self::{
    enter::{Inside, Output},
    images::Image,
    tenantd::curl,
    testing::{in_machine, in_virtual_machine},
};
use crate::{host, process};

/// How often something is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(20);
/// How long a command inside may take, where a test does not say.
const COMMAND_LIMIT: Duration = Duration::from_mins(2);
/// How long the launcher may take to show a sign of life: it takes its lock first.
const LAUNCH_LIMIT: Duration = Duration::from_secs(10);
/// How long a clean stop may take; an agent's drain is capped well below.
const STOP_LIMIT: Duration = Duration::from_mins(2);

/// Where the repository is inside every machine, read-only.
pub const REPOSITORY: &str = "/run/repository";

/// A handle on one machine, whether it is up or not. Handles own nothing: dropping one changes nothing.
#[derive(Debug, Clone)]
pub struct Machine {
    carrier: Arc<dyn Carrier>,
}

impl Machine {
    /// The machine of this name, in a container: up in a second, on this kernel.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        Ok(Self {
            carrier: Arc::new(Container::new(name)?),
        })
    }

    /// The virtual machine of this name: slower, and with a kernel, limits, quotas and swap of its own.
    pub fn virtual_named(name: &str) -> anyhow::Result<Self> {
        Ok(Self {
            carrier: Arc::new(VirtualMachine::new(name)?),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.carrier.name()
    }

    /// What one types to use it: `cargo xtask machine --name NAME`.
    pub fn task(&self) -> String {
        self.carrier.task()
    }

    /// Those of its disks, swap included, that hold this text. What it wrote and did not sync need not be there yet.
    pub fn disks_with(&self, text: &str) -> anyhow::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for disk in self.carrier.disks() {
            // A disk is sparse: grep leaves holes out, if they are empty lines to it.
            let grep = Command::new("grep")
                .args(["--quiet", "--null-data", "--text", "--fixed-strings", "--"])
                .arg(text)
                .arg(&disk)
                .status()
                .context("could not start grep")?;
            match grep.code() {
                Some(0) => found.push(disk),
                Some(1) => {}
                _ => bail!("could not search {}", disk.display()),
            }
        }
        Ok(found)
    }

    /// Whether it is up, in any state.
    pub fn is_up(&self) -> anyhow::Result<bool> {
        self.carrier.is_up()
    }

    /// What systemd says of the whole: `running`, `degraded`, `starting`, …; `off` when there is no systemd to ask.
    pub fn state(&self) -> anyhow::Result<String> {
        match self.carrier.inside()? {
            None => Ok("off".to_owned()),
            Some(inside) => {
                let argv = ["systemctl".to_owned(), "is-system-running".to_owned()];
                let output = inside.output(&argv, &[], COMMAND_LIMIT)?;
                // A virtual machine is up before its way in is open.
                let state = output.code.map_or("starting", |_| output.trim());
                Ok(state.to_owned())
            }
        }
    }

    /// Builds what it starts from, unless it is in the cache.
    pub fn build(&self) -> anyhow::Result<()> {
        self.carrier.build()
    }

    /// Boots it, unless it is up, and waits until systemd has finished starting. Builds what is not built yet.
    pub fn boot(&self) -> anyhow::Result<()> {
        if !self.is_up()? {
            self.carrier.launch()?;
        }
        self.wait_booted(None)
    }

    /// Waits for a finished boot; with `other_than`, for another boot than that.
    fn wait_booted(&self, other_than: Option<&str>) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut launched = false;
        loop {
            if let Some(inside) = self.carrier.inside()? {
                let argv = ["systemctl", "is-system-running", "--wait"].map(str::to_owned);
                let state = inside.output(&argv, &[], self.carrier.boot_limit())?;
                let booted = matches!(state.trim(), "running" | "degraded");
                if booted && other_than.is_none_or(|old| self.boot_id().is_ok_and(|new| new != old))
                {
                    return Ok(());
                }
            }
            let up = self.is_up()?;
            launched |= up;
            if !up && (launched || start.elapsed() > LAUNCH_LIMIT) {
                return Err(self.boot_error("ended while booting"));
            }
            if start.elapsed() > self.carrier.boot_limit() {
                return Err(self.boot_error("did not boot in time"));
            }
            std::thread::sleep(POLL);
        }
    }

    fn boot_error(&self, what: &str) -> anyhow::Error {
        let console = self.carrier.console();
        anyhow!(
            "machine {} {what}\n{}\n(all of it: {})",
            self.name(),
            process::tail(&console),
            console.display()
        )
    }

    /// The place to enter, or an error when it is off.
    pub fn inside(&self) -> anyhow::Result<Inside> {
        self.carrier.inside()?.with_context(|| {
            let (name, task) = (self.name(), self.carrier.task());
            format!("machine {name} is not up; boot it with `{task} up`")
        })
    }

    /// Runs a command inside; an error, with what it printed, when it fails.
    pub fn run<I, S>(&self, argv: I) -> anyhow::Result<Output>
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.attempt(argv)?.check()
    }

    /// Runs a command inside that may fail; the outcome is for the caller to judge.
    pub fn attempt<I, S>(&self, argv: I) -> anyhow::Result<Output>
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.attempt_with(argv, &[], COMMAND_LIMIT)
    }

    /// As [`Machine::attempt`], with an input and a time limit.
    pub fn attempt_with<I, S>(
        &self,
        argv: I,
        stdin: &[u8],
        limit: Duration,
    ) -> anyhow::Result<Output>
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        let argv: Vec<String> = argv.into_iter().map(Into::into).collect();
        self.inside()?.output(&argv, stdin, limit)
    }

    /// Runs a script with bash, stopping at its first failure.
    pub fn script(&self, script: &str) -> anyhow::Result<Output> {
        self.attempt_with(
            ["bash", "-euo", "pipefail", "-s"],
            script.as_bytes(),
            COMMAND_LIMIT,
        )?
        .check()
    }

    /// Writes a file inside, creating its directories.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
        let script = r#"mkdir -p "$(dirname "$0")" && cat >"$0""#;
        self.attempt_with(["sh", "-c", script, path], content.as_ref(), COMMAND_LIMIT)?
            .check()?;
        Ok(())
    }

    /// Reads a text file inside.
    pub fn read(&self, path: &str) -> anyhow::Result<String> {
        Ok(self.run(["cat", path])?.stdout)
    }

    /// Copies a file of the host to a path inside, with its mode.
    pub fn copy_in(&self, from: impl AsRef<Path>, to: &str) -> anyhow::Result<()> {
        let from = from.as_ref();
        let read = || format!("could not read {}", from.display());
        let mode = fs::metadata(from).with_context(read)?.permissions().mode() & 0o7777;
        if let Some(shown) = self.carrier.show(from)? {
            self.run(["install", "-D", &format!("--mode={mode:o}"), &shown, to])?;
            return Ok(());
        }
        self.write(to, fs::read(from).with_context(read)?)?;
        self.run(["chmod", &format!("{mode:o}"), to])?;
        Ok(())
    }

    /// Copies a file inside to a path of the host, byte by byte.
    pub fn copy_out(&self, from: &str, to: impl AsRef<Path>) -> anyhow::Result<()> {
        let to = to.as_ref();
        let file =
            fs::File::create(to).with_context(|| format!("could not create {}", to.display()))?;
        let mut command = self.inside()?.command(["cat", from]);
        process::run(command.stdout(file))
    }

    /// Waits until the command succeeds, and returns what it said then; on time-out, shows what it said last.
    pub fn wait_for<I, S>(&self, argv: I, limit: Duration) -> anyhow::Result<Output>
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        let argv: Vec<String> = argv.into_iter().map(Into::into).collect();
        self.wait_until(
            &format!("`{}` to succeed", argv.join(" ")),
            limit,
            |machine| {
                let output = machine.attempt(argv.clone())?;
                Ok(if output.success() {
                    Ok(output)
                } else {
                    Err(format!("{}{}", output.stdout, output.stderr))
                })
            },
        )
    }

    /// Waits until `look` returns `Ok(Ok(value))`. `Ok(Err(text))` says what is there instead; `Err` ends the wait.
    pub fn wait_until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(&Self) -> anyhow::Result<Result<T, String>>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            match look(self)? {
                Ok(value) => return Ok(value),
                Err(seen) if Instant::now() > deadline => {
                    bail!(
                        "waited {} s in vain for {what}; last seen: {}",
                        limit.as_secs(),
                        seen.trim_end()
                    )
                }
                Err(_) => std::thread::sleep(POLL),
            }
        }
    }

    /// The journal of this boot, filtered by `journalctl` arguments (`["-u", "x.service"]`).
    pub fn journal<const N: usize>(&self, filter: [&str; N]) -> anyhow::Result<String> {
        let argv = [
            "journalctl",
            "--boot",
            "--no-pager",
            "--output=short-precise",
        ]
        .into_iter()
        .chain(filter);
        Ok(self.run(argv)?.stdout)
    }

    /// Which boot this is; another after every reboot.
    pub fn boot_id(&self) -> anyhow::Result<String> {
        Ok(self
            .run(["cat", "/proc/sys/kernel/random/boot_id"])?
            .trim()
            .to_owned())
    }

    /// `systemctl reboot`, and waits until it is up again.
    pub fn reboot(&self) -> anyhow::Result<()> {
        let old = self.boot_id()?;
        self.ask_to("reboot")?;
        self.wait_booted(Some(&old))
    }

    /// `systemctl poweroff`, and waits until it is off.
    pub fn poweroff(&self) -> anyhow::Result<()> {
        self.ask_to("poweroff")?;
        self.carrier.wait_down(STOP_LIMIT)
    }

    /// Presses the power button of a virtual machine, and waits until it is off.
    pub fn press_power_button(&self) -> anyhow::Result<()> {
        self.carrier.press_power_button()?;
        self.carrier.wait_down(STOP_LIMIT)
    }

    fn ask_to(&self, verb: &str) -> anyhow::Result<()> {
        let output = self.attempt(["systemctl", verb])?;
        // The answer may be lost: whoever asks is killed with the rest.
        if output.code.is_some_and(|code| code != 0) {
            output.check()?;
        }
        Ok(())
    }

    /// Cuts the power: the disk takes no more writes, whatever was not synced is lost, then every process dies.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.carrier.cut_power()
    }

    /// Stops it cleanly if that works in time, by force otherwise. Nothing to do when it is off.
    pub fn down(&self) -> anyhow::Result<()> {
        if self.carrier.inside()?.is_some() && self.poweroff().is_ok() {
            return Ok(());
        }
        self.carrier.slay()
    }

    /// Ends it and forgets its disk: the next boot is a first boot.
    pub fn reset(&self) -> anyhow::Result<()> {
        self.carrier.slay()?;
        self.carrier.erase()
    }

    /// The end of what the machine printed on its console.
    pub fn console_tail(&self) -> String {
        process::tail(&self.carrier.console())
    }

    /// Replaces this process by a login inside, on a terminal of the machine's own.
    pub fn shell(&self) -> anyhow::Result<std::convert::Infallible> {
        let term = format!(
            "--setenv=TERM={}",
            std::env::var("TERM").unwrap_or_else(|_| "linux".to_owned())
        );
        let login = [
            "systemd-run",
            "--quiet",
            "--pty",
            "--collect",
            "--setenv=HOME=/root",
            &term,
        ];
        let mut command = self
            .inside()?
            .command_for_a_person(login.into_iter().chain([
                "--working-directory=/root",
                "bash",
                "-l",
            ]));
        Err(command.exec()).context("could not enter the machine")
    }

    /// Replaces this process by a command inside, with this terminal, input and exit code.
    pub fn exec(&self, argv: &[String]) -> anyhow::Result<std::convert::Infallible> {
        Err(self.inside()?.command_for_a_person(argv).exec()).context("could not enter the machine")
    }
}

/// Builds the container's root and the images, unless they are in the cache, and installs on this host what that needs.
pub fn build() -> anyhow::Result<()> {
    host::provide(host::MACHINE)?;
    images::ensure_all()?;
    root::ensure()?;
    Ok(())
}

/// Fetches what a virtual machine needs beside those.
pub fn build_virtual() -> anyhow::Result<()> {
    virtual_machine::build()
}
