//! The test machine: a real systemd with Podman, booted in a second from a cached root, one instance per name.
//!
//! This is what tests use. It boots, enters, waits and reads; it knows nothing of what is tested.

mod boot;
mod enter;
pub mod images;
mod root;
mod tenantd;
mod testing;

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};

use self::boot::{Instance, POLL};
pub use self::{
    enter::{Inside, Output},
    images::Image,
    tenantd::curl,
    testing::in_machine,
};
use crate::{host, paths, process};

/// How long a command inside may take, where a test does not say.
const COMMAND_LIMIT: Duration = Duration::from_mins(2);
/// How long the machine may take to come up: its own second, and what is enabled in it.
const BOOT_LIMIT: Duration = Duration::from_mins(2);
/// How long the launcher may take to show a sign of life: it takes its lock first.
const LAUNCH_LIMIT: Duration = Duration::from_secs(10);
/// How long a clean stop may take; an agent's drain is capped well below.
const STOP_LIMIT: Duration = Duration::from_mins(2);

/// Where the repository is inside every machine, read-only.
pub const REPOSITORY: &str = "/run/repository";

/// A handle on one machine, whether it is up or not. Handles own nothing: dropping one changes nothing.
#[derive(Debug, Clone)]
pub struct Machine {
    instance: Instance,
}

impl Machine {
    /// The machine of this name.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        Ok(Self {
            instance: Instance::new(name)?,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.instance.name
    }

    /// Whether it is up, in any state.
    pub fn is_up(&self) -> anyhow::Result<bool> {
        self.instance.is_up()
    }

    /// What systemd says of the whole: `running`, `degraded`, `starting`, …; `off` when there is no systemd to ask.
    pub fn state(&self) -> anyhow::Result<String> {
        match self.instance.inside()? {
            None => Ok("off".to_owned()),
            Some(inside) => {
                let argv = ["systemctl".to_owned(), "is-system-running".to_owned()];
                Ok(inside.output(&argv, &[], COMMAND_LIMIT)?.trim().to_owned())
            }
        }
    }

    /// Boots it, unless it is up, and waits until systemd has finished starting. Builds what is not built yet.
    pub fn boot(&self) -> anyhow::Result<()> {
        if !self.is_up()? {
            host::provide(host::MACHINE)?;
            let images = images::ensure_all()?;
            let bind = format!(
                "--bind-ro={}:{REPOSITORY}:norbind",
                paths::repository().display()
            );
            self.instance.launch(&images, &[bind])?;
        }
        self.wait_booted(None)
    }

    /// Waits for a finished boot; with `other_than`, for another boot than that.
    fn wait_booted(&self, other_than: Option<&str>) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut launched = false;
        loop {
            if let Some(inside) = self.instance.inside()? {
                let argv = ["systemctl", "is-system-running", "--wait"].map(str::to_owned);
                let state = inside.output(&argv, &[], BOOT_LIMIT)?;
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
            if start.elapsed() > BOOT_LIMIT {
                return Err(self.boot_error("did not boot in time"));
            }
            std::thread::sleep(POLL);
        }
    }

    fn boot_error(&self, what: &str) -> anyhow::Error {
        let console = self.instance.console();
        anyhow!(
            "machine {} {what}\n{}\n(all of it: {})",
            self.name(),
            process::tail(&console),
            console.display()
        )
    }

    /// The place to enter, or an error when it is off.
    pub fn inside(&self) -> anyhow::Result<Inside> {
        self.instance.inside()?.with_context(|| {
            let name = self.name();
            format!("machine {name} is not up; boot it with `cargo xtask machine --name {name} up`")
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
        let content =
            fs::read(from).with_context(|| format!("could not read {}", from.display()))?;
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(from)?.permissions()) & 0o7777;
        self.write(to, content)?;
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
        self.instance.wait_down(STOP_LIMIT)
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
        if let Some(inside) = self.instance.inside()? {
            let argv = ["xfs_io", "-x", "-c", "shutdown", "/var"].map(str::to_owned);
            inside.output(&argv, &[], COMMAND_LIMIT)?.check()?;
        }
        self.instance.slay()
    }

    /// Stops it cleanly if that works in time, by force otherwise. Nothing to do when it is off.
    pub fn down(&self) -> anyhow::Result<()> {
        if self.instance.inside()?.is_some() && self.poweroff().is_ok() {
            return Ok(());
        }
        self.instance.slay()
    }

    /// Ends it and forgets its disk: the next boot is a first boot.
    pub fn reset(&self) -> anyhow::Result<()> {
        self.instance.slay()?;
        self.instance.erase()
    }

    /// The end of what the machine printed on its console.
    pub fn console_tail(&self) -> String {
        process::tail(&self.instance.console())
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
        let mut command = self.inside()?.command(login.into_iter().chain([
            "--working-directory=/root",
            "bash",
            "-l",
        ]));
        Err(command.exec()).context("could not enter the machine")
    }

    /// Replaces this process by a command inside, with this terminal, input and exit code.
    pub fn exec(&self, argv: &[String]) -> anyhow::Result<std::convert::Infallible> {
        Err(self.inside()?.command(argv).exec()).context("could not enter the machine")
    }
}

/// Builds the root and the images, unless they are in the cache, and installs on this host what that needs.
pub fn build() -> anyhow::Result<()> {
    host::provide(host::MACHINE)?;
    images::ensure_all()?;
    root::ensure()?;
    Ok(())
}
