//! What this host is and has: read once, and handed to those who render and decide.
//! It judges nothing; `doctor` and `apply` do.

use std::collections::BTreeSet;

use camino::Utf8Path;
use nix::sys::statfs::{FsType, statfs};

use super::{files, quota};

/// `CGROUP2_SUPER_MAGIC` of the kernel's `linux/magic.h`.
const CGROUP2_MAGIC: FsType = FsType(0x6367_7270);

/// Longest fact in a file.
const LIMIT: u64 = 4096;

/// The facts of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one independent look at the host"
)]
pub struct Facts {
    /// Whether systemd booted this host and still runs it (`sd_booted(3)`).
    pub systemd_booted: bool,
    /// Whether `/sys/fs/cgroup` is the unified hierarchy.
    pub cgroup_v2: bool,
    /// The controllers that slices can use: `cpu`, `io`, `memory`, `pids`, …
    pub controllers: BTreeSet<String>,
    /// Whether `SELinux` is there and enforces.
    pub selinux: SeLinux,
    /// Whether the file system of the data directory keeps limits on directories.
    pub project_quotas: bool,
    /// Whether this process is root.
    pub root: bool,
}

/// What `SELinux` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeLinux {
    /// Not in this kernel, or not mounted.
    Absent,
    /// It only reports.
    Permissive,
    /// It enforces.
    Enforcing,
}

impl Facts {
    /// Looks at the host whose file systems are below `root`, which is `/` but in tests.
    pub fn gather(root: &Utf8Path) -> Self {
        let cgroup = root.join("sys/fs/cgroup");
        let text = |path: &str| {
            files::read(&root.join(path), LIMIT)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .ok()
        };
        Self {
            systemd_booted: root.join("run/systemd/system").is_dir(),
            cgroup_v2: statfs(cgroup.as_std_path())
                .is_ok_and(|fs| fs.filesystem_type() == CGROUP2_MAGIC),
            controllers: text("sys/fs/cgroup/cgroup.controllers")
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            selinux: match text("sys/fs/selinux/enforce").as_deref().map(str::trim) {
                None => SeLinux::Absent,
                Some("1") => SeLinux::Enforcing,
                Some(_) => SeLinux::Permissive,
            },
            project_quotas: quota::is_possible(&root.join("var/lib/tenantd")),
            root: nix::unistd::geteuid().is_root(),
        }
    }
}

/// The processors that this process may use; one where the kernel does not say.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes of memory that the kernel manages, of the host below `root` (`MemTotal` of `proc_meminfo(5)`).
pub fn memory_total(root: &Utf8Path) -> Option<u64> {
    let text = files::read(&root.join("proc/meminfo"), 64 * 1024).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The number with which systemd's version begins: 257 of `257.13-1~deb13u1`.
pub fn systemd_number(version: &str) -> Option<u32> {
    let digits = version.trim_start_matches('v');
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn reads_what_is_there_and_misses_what_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        let empty = Facts::gather(root);
        assert!(!empty.systemd_booted && !empty.cgroup_v2 && empty.controllers.is_empty());
        assert_eq!(empty.selinux, SeLinux::Absent);

        for dir in ["run/systemd/system", "sys/fs/cgroup", "sys/fs/selinux"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::write(
            root.join("sys/fs/cgroup/cgroup.controllers"),
            "cpu memory\n",
        )
        .unwrap();
        fs::write(root.join("sys/fs/selinux/enforce"), "1").unwrap();
        let facts = Facts::gather(root);
        assert!(facts.systemd_booted);
        assert_eq!(
            facts.controllers.into_iter().collect::<Vec<_>>(),
            ["cpu", "memory"]
        );
        assert_eq!(facts.selinux, SeLinux::Enforcing);
    }

    #[test]
    fn the_memory_is_read_in_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        assert_eq!(memory_total(root), None);
        fs::create_dir(root.join("proc")).unwrap();
        let text = "MemTotal:        8061052 kB\nMemFree: 1 kB\n";
        fs::write(root.join("proc/meminfo"), text).unwrap();
        assert_eq!(memory_total(root), Some(8_061_052 * 1024));
    }

    #[test]
    fn a_version_begins_with_its_number() {
        assert_eq!(systemd_number("257.13-1~deb13u1"), Some(257));
        assert_eq!(systemd_number("v258~rc1"), Some(258));
        assert_eq!(systemd_number("255"), Some(255));
        assert_eq!(systemd_number("rawhide"), None);
    }
}
