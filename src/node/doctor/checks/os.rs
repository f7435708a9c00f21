//! The operating system: whether its updates arrive, and what of it has failed.

use jiff::SignedDuration;

use super::super::Evidence;
use super::super::check::{Check, Finding, ok, unknown, warning};
use super::super::look::os::Os;

/// An image that is older than this gets no updates: Fedora CoreOS has one every two weeks.
const OLD_IMAGE: SignedDuration = SignedDuration::from_hours(60 * 24);

/// As many names as a line can bear.
const MOST_NAMED: usize = 8;

pub const UPDATES: Check = Check::warning(
    "os-updates",
    "a host without updates is taken over sooner or later",
    updates,
);

pub const FAILED_UNITS: Check = Check::warning(
    "failed-units",
    "what has failed stays so until somebody looks",
    failed_units,
);

fn updates(evidence: &Evidence) -> Finding {
    let remedy =
        "`rpm-ostree status` or `bootc status` tells more; does zincati or the update timer run?";
    let image = match &evidence.host.os {
        Err(why) => return unknown(why, remedy),
        Ok(Os::Packages) => {
            return ok("the operating system is made of packages: its updates are yours to see to");
        }
        Ok(Os::Image(image)) => image,
    };
    let version = image.version.as_deref().unwrap_or("without a version");
    if let Some(how) = &image.unlocked {
        return warning(
            format!(
                "the image {version} is unlocked ({how}): changes are lost or stand in the way of updates"
            ),
            "reboot, and layer packages instead of unlocking",
        );
    }
    if let Some(next) = &image.staged {
        return ok(format!(
            "image {version}; {next} is taken at the next reboot"
        ));
    }
    let age = image.built.map(|built| evidence.now.duration_since(built));
    match age {
        Some(age) if age > OLD_IMAGE => warning(
            format!(
                "the image {version} is {} days old, and no newer one has come",
                age.as_hours() / 24
            ),
            remedy,
        ),
        _ => ok(format!("image {version}")),
    }
}

fn failed_units(evidence: &Evidence) -> Finding {
    let remedy = "`systemctl status` and `journalctl -u` of each tell why; `systemctl reset-failed` forgets it";
    let units = match &evidence.host.failed_units {
        Err(why) => return unknown(why, remedy),
        Ok(units) if units.is_empty() => return ok("no unit has failed"),
        Ok(units) => units,
    };
    let named = units.iter().take(MOST_NAMED).cloned();
    let more = units.len().checked_sub(MOST_NAMED).filter(|more| *more > 0);
    let named: Vec<_> = named
        .chain(more.map(|more| format!("{more} more")))
        .collect();
    warning(format!("failed: {}", named.join(", ")), remedy)
}
