//! The slice with a tenant's limits: everything of the tenant is inside it.
//! Pure text.

use super::facts::{Controller, HostFacts};
use super::unit_file::UnitText;
use crate::tenant::{ResolvedSpec, RevisionNumber, Size};

/// What the slice holds beside the agent: its doors, Podman's monitor, exec sessions of the
/// operator. The agent has the plan's full limit, and reaches it before they do.
const MEMORY_BESIDE_AGENT: Size = Size::from_mib(64);
/// See [`MEMORY_BESIDE_AGENT`].
const PIDS_BESIDE_AGENT: u32 = 64;

pub fn text(spec: &ResolvedSpec, revision: RevisionNumber, facts: &HostFacts) -> String {
    let limits = &spec.limits;
    let mut unit = UnitText::new(super::render::headline(spec, revision));
    unit.section("Unit")
        .key(
            "Description",
            format_args!("Limits of tenant {}", spec.tenant),
        )
        .section("Slice");
    for missing in facts.missing_controllers() {
        unit.comment(format_args!(
            "this host has no {missing} controller: no limit"
        ));
    }
    let has = |controller| facts.controllers.contains(&controller);
    if has(Controller::Cpu) {
        unit.key("CPUQuota", percent(limits.cpus.millis()));
    }
    if has(Controller::Io) {
        unit.key("IOWeight", limits.io_weight);
    }
    if has(Controller::Memory) {
        unit.key("MemoryMax", limits.memory.plus(MEMORY_BESIDE_AGENT).bytes());
        unit.key("MemorySwapMax", limits.swap().bytes());
    }
    if has(Controller::Pids) {
        unit.key("TasksMax", limits.pids + PIDS_BESIDE_AGENT);
    }
    unit.finish()
}

/// Thousandths of a processor as systemd's percentage, which has two decimals.
fn percent(millis: u32) -> String {
    match (millis / 10, millis % 10) {
        (whole, 0) => format!("{whole}%"),
        (whole, tenth) => format!("{whole}.{tenth}%"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn percentages() {
        assert_eq!(super::percent(500), "50%");
        assert_eq!(super::percent(1255), "125.5%");
    }
}
