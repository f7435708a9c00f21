//! The control group of a tenant's container, and its freezer file.
//! It finds, freezes and thaws; whose freeze it is belongs to the record.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::FreezeError;
use crate::host::{cgroup, clock};
use crate::layout::Layout;
use crate::tenant::TenantId;

/// The control group of the running container; `None` when none runs.
pub(super) fn find(layout: &Layout, tenant: &TenantId) -> Result<Option<Utf8PathBuf>, FreezeError> {
    cgroup::payload(layout, tenant).map_err(|source| FreezeError::Group {
        tenant: tenant.clone(),
        path: cgroup::service(layout, tenant),
        source,
    })
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

/// Whether the kernel says that the group stands still.
pub(super) fn is_still(group: &Utf8Path) -> bool {
    fs::read_to_string(group.join("cgroup.events")).is_ok_and(|events| is_frozen(&events))
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
