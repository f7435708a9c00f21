//! The doctor's checks of plans: whether storage limits are kept, whose state is nearly full, and whether more
//! is promised than the host has. Pure: it judges the evidence.

use super::super::Evidence;
use super::super::check::{Check, Finding, ok, unknown, warning};
use crate::api::TenantUsage;
use crate::node::NO_QUOTAS;
use crate::node::capacity::Commitment;

pub const LIMITS_KEPT: Check = Check::warning(
    "storage-limits",
    "without limits one tenant can fill the disk of all",
    kept,
);

pub const STORAGE: Check = Check::warning(
    "storage",
    "an agent whose storage is full cannot write, and most do not bear that",
    storage,
);

pub const CAPACITY: Check = Check::warning(
    "capacity",
    "agents that all use what they were promised push each other off the host",
    capacity,
);

/// Whether the file system keeps the plans' storage limits.
fn kept(evidence: &Evidence) -> Finding {
    if !evidence.project_quotas {
        return warning(
            format!("storage limits are not kept: {NO_QUOTAS}"),
            "put /var/lib/tenantd on XFS mounted with `prjquota` and install xfsprogs; until then a tenant can \
             fill the disk",
        );
    }
    let missed = named(evidence, |usage| {
        usage.storage.is_some_and(|found| !found.kept)
    });
    if missed.is_empty() {
        return ok("the file system keeps every storage limit");
    }
    warning(
        format!("storage limit not kept: {}", missed.join(", ")),
        "it is set before an agent starts: `tenantd restart` them; `journalctl -u 'tenantd-quota@*'` tells what \
         stands in the way",
    )
}

/// Whose state is nearly full.
fn storage(evidence: &Evidence) -> Finding {
    let full = named(evidence, |usage| {
        usage.storage.is_some_and(|found| found.is_nearly_full())
    });
    if full.is_empty() {
        return ok("no state has reached four fifths of its plan's storage");
    }
    warning(
        format!("nearly full: {}", full.join(", ")),
        "clear up inside, or apply the spec with a larger plan; that needs no restart",
    )
}

/// Whether plans promise more than the host may.
fn capacity(evidence: &Evidence) -> Finding {
    let Some(commitments) = &evidence.commitments else {
        return unknown(
            "the daemon was not asked",
            "start tenantd: it knows what plans promise",
        );
    };
    let exceeded: Vec<_> = commitments
        .iter()
        .filter(|found| found.is_exceeded())
        .map(ToString::to_string)
        .collect();
    if exceeded.is_empty() {
        let short: Vec<_> = commitments.iter().map(Commitment::short).collect();
        return ok(format!("plans promise {}", short.join(", ")));
    }
    warning(
        exceeded.join("; "),
        "choose smaller plans or a larger host, or change [capacity] in node.toml",
    )
}

fn named(evidence: &Evidence, is_one: impl Fn(&TenantUsage) -> bool) -> Vec<&str> {
    let found = evidence.storage.iter().filter(|usage| is_one(usage));
    found.map(|usage| usage.id.as_str()).collect()
}
