//! A machine in a container: the launcher process, its lock, its cgroup.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use nix::fcntl::{Flock, FlockArg};

use super::{
    COMMAND_LIMIT, POLL, REPOSITORY,
    carrier::{Carrier, is_name},
    enter::Inside,
    images::{self, Image},
    root,
};
use crate::{host, paths, process};

const LAUNCH: &str = include_str!("launch.sh");

/// How long it may take to come up: its own second, and what is enabled in it.
const BOOT_LIMIT: Duration = Duration::from_mins(2);

/// One machine's files on the host.
#[derive(Debug, Clone)]
pub(super) struct Container {
    name: String,
    directory: PathBuf,
    /// Unique on the host, where other checkouts may run a machine of the same name.
    unique: String,
}

impl Container {
    pub(super) fn new(name: &str) -> anyhow::Result<Self> {
        ensure!(
            is_name(name),
            "a machine's name is made of a-z, 0-9 and dashes, not {name:?}"
        );
        let directory = paths::machine(name);
        let hash = blake3::hash(directory.as_os_str().as_encoded_bytes()).to_hex();
        // A host name has at most 64 bytes.
        Ok(Self {
            name: name.to_owned(),
            unique: format!("{name}-{}", &hash[..8]),
            directory,
        })
    }

    fn disk(&self) -> PathBuf {
        self.directory.join("disk.xfs")
    }

    /// Which root the disk was made on.
    fn root_record(&self) -> PathBuf {
        self.directory.join("root.path")
    }

    /// The machine's cgroup on the host; `payload` below it is what the machine takes for the root.
    fn cgroup(&self) -> anyhow::Result<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")
            .context("could not read the host's mounts")?;
        let hierarchy = cgroup2(&mounts)
            .context("this host has no cgroup v2 mounted, not even a hybrid one")?;
        Ok(Path::new(hierarchy).join(format!("tenantd-machine-{}", self.unique)))
    }

    /// What a disk has been laid over once, it must be laid over always: an overlay's lower part must not change.
    fn check_root(&self, root: &Path) -> anyhow::Result<()> {
        let record = self.root_record();
        let current = root.as_os_str().as_encoded_bytes();
        if self.disk().exists() && fs::read(&record).is_ok_and(|recorded| recorded != current) {
            bail!(
                "machine {name} was made from an older root; erase it with `cargo xtask machine --name {name} reset`",
                name = self.name
            );
        }
        fs::write(&record, current).with_context(|| format!("could not write {}", record.display()))
    }

    /// Removes what an ended machine leaves: its empty cgroups.
    fn sweep(&self) -> anyhow::Result<()> {
        let cgroup = self.cgroup()?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while cgroup.exists() {
            if let Err(error) = remove_cgroup(&cgroup) {
                if Instant::now() > deadline {
                    return Err(error)
                        .with_context(|| format!("could not remove {}", cgroup.display()));
                }
                // Processes of a killed run that are still dying.
                fs::write(cgroup.join("cgroup.kill"), "1").ok();
                std::thread::sleep(POLL);
            }
        }
        Ok(())
    }
}

impl Carrier for Container {
    fn name(&self) -> &str {
        &self.name
    }

    fn task(&self) -> String {
        format!("cargo xtask machine --name {}", self.name)
    }

    fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    fn disks(&self) -> Vec<PathBuf> {
        vec![self.disk()]
    }

    /// Those of this kernel belong to the host.
    fn has_controllers(&self) -> bool {
        false
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

    /// The running systemd, if there is one.
    fn inside(&self) -> anyhow::Result<Option<Inside>> {
        if !self.is_up()? {
            return Ok(None);
        }
        let Some(nspawn) = read_number(&self.directory.join("nspawn.pid")) else {
            return Ok(None);
        };
        let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children"))
            .unwrap_or_default();
        let is_systemd = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.trim() == "systemd")
        };
        let leader = children
            .split_ascii_whitespace()
            .filter_map(|word| word.parse().ok())
            .find(is_systemd);
        let cgroup = self.cgroup()?.join("payload");
        Ok(leader.map(|leader| Inside::Namespaces { leader, cgroup }))
    }

    fn show(&self, _: &Path) -> anyhow::Result<Option<String>> {
        Ok(None)
    }

    /// Starts the launcher; does not wait for the machine.
    fn launch(&self) -> anyhow::Result<()> {
        host::provide(host::MACHINE)?;
        let images = images::ensure_all()?;
        let repository = format!(
            "--bind-ro={}:{REPOSITORY}:norbind",
            paths::repository().display()
        );
        fs::create_dir_all(&self.directory)
            .with_context(|| format!("could not create {}", self.directory.display()))?;
        let root = root::ensure()?;
        self.check_root(&root)?;
        self.sweep()?;
        let cgroup = self.cgroup()?;
        let console = File::create(self.console())?;
        let storage = self.directory.join("storage.conf");
        fs::write(&storage, images::storage_conf(&images))
            .with_context(|| format!("could not write {}", storage.display()))?;
        let mut command = Command::new("setsid");
        command
            .args([
                "--fork",
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "bash",
                "-c",
                LAUNCH,
                "launch",
            ])
            .args([&self.directory, &root])
            .arg(&self.unique)
            .arg(&cgroup)
            .arg(format!("--hostname={}", self.name))
            .arg(format!(
                "--bind-ro={}:/etc/containers/storage.conf",
                storage.display()
            ))
            .args(images.iter().map(Image::bind))
            .arg(repository)
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console);
        process::run(&mut command)
    }

    fn build(&self) -> anyhow::Result<()> {
        super::build()
    }

    fn boot_limit(&self) -> Duration {
        BOOT_LIMIT
    }

    fn press_power_button(&self) -> anyhow::Result<()> {
        bail!("a container has no power button: that is for `cargo xtask vm`")
    }

    fn cut_power(&self) -> anyhow::Result<()> {
        if let Some(inside) = self.inside()? {
            let argv = ["xfs_io", "-x", "-c", "shutdown", "/var"].map(str::to_owned);
            inside.output(&argv, &[], COMMAND_LIMIT)?.check()?;
        }
        self.slay()
    }

    /// Ends every process of the machine, the launcher included, at once.
    fn slay(&self) -> anyhow::Result<()> {
        let kill = self.cgroup()?.join("cgroup.kill");
        if kill.exists() {
            fs::write(&kill, "1").with_context(|| format!("could not write {}", kill.display()))?;
        }
        self.wait_down(Duration::from_secs(30))
    }

    /// Waits until the launcher has ended and everything is unmounted.
    fn wait_down(&self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        while self.is_up()? {
            if Instant::now() > deadline {
                bail!(
                    "machine {} is not off after {} s; see {}",
                    self.name,
                    limit.as_secs(),
                    self.console().display()
                );
            }
            std::thread::sleep(POLL);
        }
        self.sweep()
    }

    /// Erases the disk of a machine that is off.
    fn erase(&self) -> anyhow::Result<()> {
        for path in [self.disk(), self.root_record()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("could not remove {}", path.display()))?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn remove_cgroup(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

fn read_number(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The mount point of the (first) cgroup v2 hierarchy. Format: `proc_pid_mountinfo(5)`.
fn cgroup2(mountinfo: &str) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        right
            .starts_with("cgroup2 ")
            .then(|| left.split(' ').nth(4))?
    })
}

#[cfg(test)]
mod tests {
    use super::{Container, cgroup2};

    #[test]
    fn the_hierarchy_is_found_on_a_unified_and_on_a_hybrid_host() {
        let unified =
            "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let hybrid = "31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      40 31 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2(unified), Some("/sys/fs/cgroup"));
        assert_eq!(cgroup2(hybrid), Some("/sys/fs/cgroup/unified"));
        assert_eq!(
            cgroup2("31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw"),
            None
        );
    }

    #[test]
    fn a_machine_name_is_a_plain_word() {
        for name in ["dev", "t-restore", "0"] {
            assert!(Container::new(name).is_ok(), "{name}");
        }
        for name in ["", "-x", "a/b", "..", "A", "a.b"] {
            assert!(Container::new(name).is_err(), "{name}");
        }
    }
}
