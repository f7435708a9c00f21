//! The limits of a container that runs: whether they are the wanted ones, and making them so.
//! Which limits a tenant has is its plan's business.

use std::fs;
use std::io;

use camino::Utf8Path;

use super::{keyed, number, text};

/// The period of `cpu.max` that Podman's `--cpus` uses, in microseconds.
const PERIOD: u64 = 100_000;

/// The largest page: the kernel keeps amounts of memory in whole pages and rounds others down.
const PAGE: u64 = 64 * 1024;

/// A container's own limits; none for what this host has no controller for.
///
/// They are those that Podman sets for `--cpus`, `--memory`, `--memory-swap` and `--pids-limit`, so that a
/// container which was changed under way has what its next start gives it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainerLimits {
    /// Thousandths of a processor.
    pub cpu_millis: Option<u32>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of swap beside it.
    pub swap: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

/// How a container's limits stand to the wanted ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// They are the wanted ones.
    InForce,
    /// Some are others.
    Different,
    /// It uses more memory than it would have, and would be killed for it.
    TooLarge,
}

impl ContainerLimits {
    /// How the limits of `group` stand to these.
    pub fn standing(&self, group: &Utf8Path) -> Standing {
        if self
            .files()
            .all(|(file, value)| is_set(group, file, &value))
        {
            Standing::InForce
        } else if self.memory.is_some_and(|limit| held(group) > limit) {
            Standing::TooLarge
        } else {
            Standing::Different
        }
    }

    /// Sets the limits of `group`. It can be repeated; files that the kernel does not have are left out:
    /// `memory.swap.max` is missing where swap is not accounted for.
    pub fn set(&self, group: &Utf8Path) -> io::Result<()> {
        for (file, value) in self.files() {
            if is_set(group, file, &value) {
                continue;
            }
            match fs::write(group.join(file), value) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// The files and what is in them.
    fn files(&self) -> impl Iterator<Item = (&'static str, String)> {
        let quota = |millis: u32| format!("{} {PERIOD}", u64::from(millis) * PERIOD / 1000);
        [
            ("cpu.max", self.cpu_millis.map(quota)),
            ("memory.max", self.memory.map(|bytes| bytes.to_string())),
            ("memory.swap.max", self.swap.map(|bytes| bytes.to_string())),
            ("pids.max", self.pids.map(|pids| pids.to_string())),
        ]
        .into_iter()
        .filter_map(|(file, value)| Some((file, value?)))
    }
}

/// A file that the kernel does not have cannot be set otherwise.
fn is_set(group: &Utf8Path, file: &str, value: &str) -> bool {
    let Some(found) = text(group, file) else {
        return true;
    };
    let bytes = |text: &str| text.parse::<u64>().ok();
    match (file.starts_with("memory."), bytes(&found), bytes(value)) {
        (true, Some(found), Some(value)) => found <= value && value - found < PAGE,
        _ => found == value,
    }
}

/// Bytes of memory that the kernel cannot take back by dropping clean files. What is in tmpfs and in shared memory
/// counts among files there, and cannot be dropped (`shmem` in the kernel's `cgroup-v2` document).
fn held(group: &Utf8Path) -> u64 {
    let stat = text(group, "memory.stat").unwrap_or_default();
    let amount = |key| keyed(&stat, key).unwrap_or_default();
    let droppable = amount("file").saturating_sub(amount("shmem"));
    let current = number(group, "memory.current").unwrap_or_default();
    current.saturating_sub(droppable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> (tempfile::TempDir, camino::Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = camino::Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        for (name, content) in files {
            fs::write(path.join(name), format!("{content}\n")).unwrap();
        }
        (dir, path)
    }

    const WANTED: ContainerLimits = ContainerLimits {
        cpu_millis: Some(500),
        memory: Some((64 << 20) + 5),
        swap: Some(0),
        pids: Some(99),
    };

    #[test]
    fn limits_are_set_once_and_then_in_force() {
        let (_guard, group) = group(&[
            ("cpu.max", "max 100000"),
            ("memory.max", "max"),
            ("memory.swap.max", "max"),
            ("pids.max", "10"),
            ("memory.current", "1000000"),
        ]);
        assert_eq!(WANTED.standing(&group), Standing::Different);
        WANTED.set(&group).unwrap();
        let read = |name: &str| fs::read_to_string(group.join(name)).unwrap();
        assert_eq!(read("cpu.max"), "50000 100000");
        assert_eq!(read("memory.max"), ((64 << 20) + 5).to_string());
        assert_eq!(read("memory.swap.max"), "0");
        assert_eq!(read("pids.max"), "99");
        assert_eq!(WANTED.standing(&group), Standing::InForce);
        // As the kernel rounds it.
        fs::write(group.join("memory.max"), (64 << 20).to_string()).unwrap();
        assert_eq!(WANTED.standing(&group), Standing::InForce);
        fs::write(group.join("memory.max"), "max").unwrap();
        assert_eq!(WANTED.standing(&group), Standing::Different);
    }

    #[test]
    fn an_agent_that_holds_more_than_it_would_have_is_told_apart() {
        let files = [("memory.max", "max"), ("memory.current", "200000000")];
        let (_guard, held) = group(&files);
        assert_eq!(WANTED.standing(&held), Standing::TooLarge);
        // What can be dropped does not count.
        let cached = [
            files[0],
            files[1],
            ("memory.stat", "anon 7\nfile 190000000"),
        ];
        let (_guard, cached) = group(&cached);
        assert_eq!(WANTED.standing(&cached), Standing::Different);
        // A full /tmp or /dev/shm is among the files, and stays.
        let stat = "anon 7\nfile 190000000\nshmem 190000000";
        let (_guard, filled) = group(&[files[0], files[1], ("memory.stat", stat)]);
        assert_eq!(WANTED.standing(&filled), Standing::TooLarge);
    }

    #[test]
    fn a_host_without_controllers_has_nothing_to_set() {
        let (_guard, group) = group(&[]);
        assert_eq!(WANTED.standing(&group), Standing::InForce);
        WANTED.set(&group).unwrap();
        assert!(!group.join("memory.max").exists());
        assert_eq!(
            ContainerLimits::default().standing(&group),
            Standing::InForce
        );
    }
}
