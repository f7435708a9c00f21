//! The file system of the data directory: clones, room, inodes.

use super::super::Evidence;
use super::super::check::{Check, Finding, ok, unknown, warning};
use crate::host::space::{Inodes, Space};

/// Free share of the data disk, and of its inodes, below which backups and restores are at risk.
const FREE_PERCENT: u64 = 10;

pub const REFLINK: Check = Check::warning(
    "reflink",
    "agents pause while what they changed is cloned: an instant, or as long as a copy takes",
    reflink,
);

pub const DISK: Check = Check::warning(
    "disk",
    "a full disk stops agents, backups and restores",
    disk,
);

pub const INODES: Check = Check::warning(
    "inodes",
    "without inodes no file can be made, however much room is free",
    inodes,
);

fn reflink(evidence: &Evidence) -> Finding {
    if evidence.reflink {
        ok("/var/lib/tenantd can clone files: backups pause agents for an instant only")
    } else {
        warning(
            "/var/lib/tenantd cannot clone files: backups copy what changed while the agent is paused",
            "put /var/lib/tenantd on XFS or btrfs",
        )
    }
}

fn disk(evidence: &Evidence) -> Finding {
    let Some(Space { free, total }) = evidence.disk else {
        return absent();
    };
    let percent = free.saturating_mul(100).checked_div(total).unwrap_or(0);
    let finding = format!("{percent} % of the disk of /var/lib/tenantd is free");
    if percent >= FREE_PERCENT {
        ok(finding)
    } else {
        warning(finding, "make room: a full disk stops agents and restores")
    }
}

fn inodes(evidence: &Evidence) -> Finding {
    let Some(Inodes { free, total }) = evidence.inodes else {
        return absent();
    };
    // btrfs makes them as they are needed, and counts none.
    let Some(percent) = free.saturating_mul(100).checked_div(total) else {
        return ok("the file system of /var/lib/tenantd does not limit inodes");
    };
    let finding = format!("{percent} % of the inodes of /var/lib/tenantd are free");
    if percent >= FREE_PERCENT {
        ok(finding)
    } else {
        warning(
            finding,
            "remove what has very many small files, or enlarge the file system",
        )
    }
}

fn absent() -> Finding {
    unknown(
        "/var/lib/tenantd is not there",
        "`tenantd init` makes it; is its disk mounted?",
    )
}
