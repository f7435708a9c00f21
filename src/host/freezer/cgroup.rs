//! The control group of a tenant's container, and its freezer file.
//! It finds, freezes and thaws; whose freeze it is belongs to the record.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::FreezeError;
use crate::host::clock;
use crate::layout::{Layout, UnitNames};
use crate::tenant::TenantId;

/// The prefix of the child in which `--cgroups=split` puts the container's processes; conmon
/// stays outside, so it goes on to hold the terminal and to report the container's end.
const PAYLOAD: &str = "libpod-payload-";

/// The service's control group, made by its slice's name: a level for each dash.
fn service_group(layout: &Layout, tenant: &TenantId) -> Utf8PathBuf {
    let names = UnitNames(tenant);
    layout
        .root()
        .join("sys/fs/cgroup/tenant.slice")
        .join(names.slice())
        .join(names.service())
}

/// The control group of the running container; `None` when none runs.
pub(super) fn find(layout: &Layout, tenant: &TenantId) -> Result<Option<Utf8PathBuf>, FreezeError> {
    let service = service_group(layout, tenant);
    let failed = |source| FreezeError::Group {
        tenant: tenant.clone(),
        path: service.clone(),
        source,
    };
    let entries = match service.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_name().starts_with(PAYLOAD) {
            return Ok(Some(entry.into_path()));
        }
    }
    Ok(None)
}

/// Asks for the state and waits until `cgroup.events` tells that it is reached (the kernel's
/// cgroup-v2 document, "cgroup.freeze"). A group that has gone is in no state and no error.
pub(super) fn set_frozen(group: &Utf8Path, frozen: bool, wait: Duration) -> io::Result<bool> {
    let wanted = if frozen { "1" } else { "0" };
    let outcome = fs::write(group.join("cgroup.freeze"), wanted)
        .and_then(|()| wait_until(group, frozen, wait));
    match outcome {
        Err(error) if gone(&error) => Ok(false),
        Err(error) => Err(error),
        Ok(()) => Ok(true),
    }
}

fn wait_until(group: &Utf8Path, frozen: bool, wait: Duration) -> io::Result<()> {
    let mut events = File::open(group.join("cgroup.events"))?;
    let deadline = clock::monotonic() + wait;
    let mut text = String::new();
    loop {
        text.clear();
        events.seek(SeekFrom::Start(0))?;
        events.read_to_string(&mut text)?;
        // A group without processes is never reported frozen.
        if is_frozen(&text) == frozen || !is_populated(&text) {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(clock::monotonic());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
        poll(
            &mut fds,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        )?;
    }
}

fn is_frozen(events: &str) -> bool {
    events.lines().any(|line| line == "frozen 1")
}

fn is_populated(events: &str) -> bool {
    events.lines().any(|line| line == "populated 1")
}

/// A removed group says that it does not exist, or, through an open file, that its device has gone.
fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_a_tenant_with_a_dash() {
        let layout = Layout::default();
        assert_eq!(
            service_group(&layout, &"foo-bar".parse().unwrap()),
            r"/sys/fs/cgroup/tenant.slice/tenant-foo\x2dbar.slice/tenant-foo-bar.service"
        );
    }

    #[test]
    fn only_the_payload_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::rooted(dir.path().to_str().unwrap());
        let tenant: TenantId = "acme".parse().unwrap();
        assert_eq!(find(&layout, &tenant).unwrap(), None);
        let service = service_group(&layout, &tenant);
        for child in ["runtime", "libpod-payload-0123"] {
            fs::create_dir_all(service.join(child)).unwrap();
        }
        assert_eq!(
            find(&layout, &tenant).unwrap(),
            Some(service.join("libpod-payload-0123"))
        );
    }

    #[test]
    fn a_group_that_has_gone_is_no_error() {
        let gone = Utf8Path::new("/sys/fs/cgroup/absent/libpod-payload-0");
        assert!(!set_frozen(gone, false, Duration::ZERO).unwrap());
    }

    #[test]
    fn reads_events() {
        assert!(is_frozen("populated 1\nfrozen 1\n"));
        assert!(!is_frozen("populated 1\nfrozen 0\n"));
        assert!(!is_populated("populated 0\nfrozen 0\n"));
    }
}
