//! The control groups of tenants (the kernel's `cgroup-v2` document): where they are, what they use,
//! and the limits of a container that runs. It reads and writes; which limits, others decide.
//!
//! The groups of a slice belong to systemd, and nothing here writes there. The container's own group is
//! delegated: its limits are Podman's at the start, and may be changed under it while it runs.

mod limits;
mod usage;

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use crate::layout::{Layout, UnitNames};
use crate::tenant::TenantId;

pub use limits::{ContainerLimits, Standing};
pub(super) use usage::some_avg10;
pub use usage::{Pressure, SliceUsage};

/// The prefix of the child in which `--cgroups=split` puts the container's processes; conmon
/// stays outside, so it goes on to hold the terminal and to report the container's end.
const PAYLOAD: &str = "libpod-payload-";

/// Longest file of a control group that is read: `io.stat` has a line per disk.
const LIMIT: u64 = 64 * 1024;

/// The control group of a tenant's slice.
pub fn slice(layout: &Layout, tenant: &TenantId) -> Utf8PathBuf {
    layout
        .root()
        .join("sys/fs/cgroup/tenant.slice")
        .join(UnitNames(tenant).slice())
}

/// The control group of the agent's service.
pub fn service(layout: &Layout, tenant: &TenantId) -> Utf8PathBuf {
    slice(layout, tenant).join(UnitNames(tenant).service())
}

/// The control group of the running container; `None` when none runs.
pub fn payload(layout: &Layout, tenant: &TenantId) -> io::Result<Option<Utf8PathBuf>> {
    let entries = match service(layout, tenant).read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().starts_with(PAYLOAD) {
            return Ok(Some(entry.into_path()));
        }
    }
    Ok(None)
}

/// Whether the agent's service has any process: the agent's own, or one that starts or stops it.
pub fn is_busy(layout: &Layout, tenant: &TenantId) -> bool {
    let events = text(&service(layout, tenant), "cgroup.events");
    events.is_some_and(|events| keyed(&events, "populated") == Some(1))
}

/// How many processes of the tenant's slice the kernel has killed for lack of memory since the slice was made; `None`
/// where it does not count.
pub fn oom_kills(layout: &Layout, tenant: &TenantId) -> Option<u64> {
    keyed(&text(&slice(layout, tenant), "memory.events")?, "oom_kill")
}

/// Has the kernel take back as much of the memory of `group` as it can: clean files are dropped, the rest goes to swap
/// (the kernel's cgroup-v2 document, "memory.reclaim"). It blocks, for seconds where much goes to a disk.
///
/// # Errors
/// The kernel has no such file, or took back less (`EAGAIN`).
pub fn reclaim(group: &Utf8Path) -> io::Result<()> {
    match number(group, "memory.current") {
        Some(bytes) => std::fs::write(group.join("memory.reclaim"), bytes.to_string()),
        None => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// A file of a group, without the newline at its end; `None` where the kernel has no such file: the
/// group has gone, or lacks the controller.
fn text(group: &Utf8Path, name: &str) -> Option<String> {
    let bytes = super::files::read(&group.join(name), LIMIT).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// A file that holds one number; `max` is none.
fn number(group: &Utf8Path, name: &str) -> Option<u64> {
    text(group, name)?.parse().ok()
}

/// The number of a line `key number`, in a file of such lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(found, _)| *found == key)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_with_a_dash_has_a_group_of_one_level() {
        let layout = Layout::rooted("/r");
        let tenant = "foo-bar".parse().unwrap();
        assert_eq!(
            service(&layout, &tenant),
            "/r/sys/fs/cgroup/tenant.slice/tenant-foo\\x2dbar.slice/tenant-foo-bar.service"
        );
        assert_eq!(payload(&layout, &tenant).unwrap(), None);
    }

    #[test]
    fn a_service_is_busy_while_it_has_a_process() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(dir.path().to_str().unwrap());
        let tenant: TenantId = "acme".parse().unwrap();
        assert!(!is_busy(&layout, &tenant));
        let service = service(&layout, &tenant);
        std::fs::create_dir_all(&service).unwrap();
        for (populated, expected) in [(1, true), (0, false)] {
            let events = format!("populated {populated}\nfrozen 0\n");
            std::fs::write(service.join("cgroup.events"), events).unwrap();
            assert_eq!(is_busy(&layout, &tenant), expected);
        }
    }

    #[test]
    fn the_kernel_says_how_many_it_has_killed_for_lack_of_memory() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(dir.path().to_str().unwrap());
        let tenant: TenantId = "acme".parse().unwrap();
        assert_eq!(oom_kills(&layout, &tenant), None);
        let events = slice(&layout, &tenant);
        std::fs::create_dir_all(&events).unwrap();
        let text = "low 0\noom 3\noom_kill 2\noom_group_kill 0\n";
        std::fs::write(events.join("memory.events"), text).unwrap();
        assert_eq!(oom_kills(&layout, &tenant), Some(2));
    }

    #[test]
    fn only_the_payload_is_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(dir.path().to_str().unwrap());
        let tenant: TenantId = "acme".parse().unwrap();
        let service = service(&layout, &tenant);
        for child in ["runtime", "libpod-payload-0123"] {
            std::fs::create_dir_all(service.join(child)).unwrap();
        }
        assert_eq!(
            payload(&layout, &tenant).unwrap(),
            Some(service.join("libpod-payload-0123"))
        );
    }
}
