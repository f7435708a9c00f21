//! What is installed: tenantd's own files, tenants' units, and what nobody knows.

use super::super::Evidence;
use super::super::check::{Check, Finding, failed, ok, unknown, warning};
use super::super::fix::Fix;

pub const FILES: Check = Check::error(
    "own-units",
    "tenants run under units that belong to the binary; others were never tried with it",
    files,
)
.fixable();

pub const DRIFT: Check = Check::warning(
    "drift",
    "a unit that was changed by hand is not what the revision says, and a rollback does not know of it",
    drift,
)
.fixable();

pub const UNKNOWN: Check = Check::warning(
    "unknown-units",
    "what nobody recorded is run by systemd all the same, and nobody watches it or backs it up",
    strange,
);

pub const NAMESPACES: Check = Check::warning(
    "namespaces",
    "a namespace that was left behind is taken for that of the next tenant of its name",
    namespaces,
)
.fixable();

fn files(evidence: &Evidence) -> Finding {
    let remedy = "`tenantd doctor --fix`, or `tenantd node install`, writes them anew; keep changes of your own in drop-ins";
    match &evidence.units.own_files {
        Err(why) => unknown(why, remedy),
        Ok(differing) if differing.is_empty() => ok("tenantd's own units are this binary's"),
        Ok(differing) => failed(
            format!("not as this binary has them: {}", differing.join(", ")),
            remedy,
        )
        .mended_by([Fix::PlaceFiles]),
    }
}

fn drift(evidence: &Evidence) -> Finding {
    let remedy = "`tenantd units T --diff` shows it, `tenantd reload` puts it right";
    match &evidence.units.drifted {
        Err(why) => unknown(why, "start tenantd and run `tenantd doctor` again"),
        Ok(tenants) if tenants.is_empty() => ok("every tenant's units are as recorded"),
        Ok(tenants) => warning(
            format!("units are not as recorded: {}", tenants.join(", ")),
            remedy,
        )
        .mended_by([Fix::Reload]),
    }
}

fn strange(evidence: &Evidence) -> Finding {
    let remedy = "it may be yours, so it is left alone: move it to another name or remove it, then `systemctl daemon-reload`";
    match &evidence.units.unknown {
        Err(why) => unknown(why, remedy),
        Ok(units) if units.is_empty() => ok("every unit in tenantd's places is known"),
        Ok(units) => warning(format!("not of any tenant: {}", units.join(", ")), remedy),
    }
}

fn namespaces(evidence: &Evidence) -> Finding {
    let remedy = "`tenantd doctor --fix` removes them";
    match &evidence.units.leaked {
        Err(why) => unknown(why, remedy),
        Ok(leaked) if leaked.is_empty() => ok("no network namespace was left behind"),
        Ok(leaked) => {
            let names: Vec<_> = leaked
                .iter()
                .map(|tenant| format!("tenant-{tenant}"))
                .collect();
            let fixes = leaked.iter().map(|tenant| Fix::RemoveNamespace {
                tenant: tenant.clone(),
            });
            warning(
                format!("network namespaces of no tenant: {}", names.join(", ")),
                remedy,
            )
            .mended_by(fixes)
        }
    }
}
