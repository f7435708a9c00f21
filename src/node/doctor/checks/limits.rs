//! What plans' limits are made of: cgroup v2, its controllers, and their way down to the tenants' slices.

use super::super::Evidence;
use super::super::check::{Check, Finding, failed, ok, unknown, warning};

pub const CGROUP: Check = Check::error(
    "cgroup",
    "limits, freezing and sleep are made of the unified hierarchy",
    cgroup,
);

pub const LIMITS: Check = Check::warning(
    "limits",
    "without a limit one agent can take the host from all others",
    limits,
);

pub const DELEGATION: Check = Check::warning(
    "delegation",
    "a controller that does not reach a tenant's slice limits nothing there",
    delegation,
);

fn cgroup(evidence: &Evidence) -> Finding {
    if evidence.cgroup_v2 {
        ok("cgroup v2")
    } else {
        failed("cgroup v1", "boot with systemd.unified_cgroup_hierarchy=1")
    }
}

fn limits(evidence: &Evidence) -> Finding {
    if evidence.missing_controllers.is_empty() {
        return ok("every limit of the plans is enforced");
    }
    let missing = evidence.missing_controllers.join(", ");
    warning(
        format!("no {missing} controller: those limits of the plans are not enforced"),
        "run on a host whose kernel gives systemd these cgroup controllers",
    )
}

fn delegation(evidence: &Evidence) -> Finding {
    let remedy = "`systemctl daemon-reload`, then `tenantd restart` those tenants";
    match &evidence.host.undelegated {
        Err(why) => unknown(why, remedy),
        Ok(slices) if slices.is_empty() => ok("every tenant's slice has the host's controllers"),
        Ok(slices) => {
            let told: Vec<_> = slices
                .iter()
                .map(|(slice, missing)| format!("{slice} ({})", missing.join(", ")))
                .collect();
            warning(
                format!("controllers do not reach {}", told.join("; ")),
                remedy,
            )
        }
    }
}
