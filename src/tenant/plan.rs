//! Named limits, as data.
//! Three come with the program; the operator's files override and add.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check;
use super::source::Source;
use super::tables::Sleep;
use super::wake;
use super::{Cpus, Egress, Period, Problems, Size, Spending, WakeMode};

/// A plan: a name and the limits that its tenants get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "tenantd plan")]
pub struct Plan {
    /// The name by which specs ask for it.
    pub name: String,
    /// One sentence for the operator who chooses.
    pub description: String,
    /// When its tenants' agents run.
    #[serde(default)]
    pub wake: WakeMode,
    /// How soon they sleep, where they are not always on.
    #[serde(default)]
    pub sleep: Sleep,
    /// Where its tenants' agents may go, beside what their template says.
    #[serde(default)]
    pub egress: Egress,
    /// What its tenants' endpoints may use, where their specs say nothing else.
    #[serde(default)]
    pub spending: Spending,
    /// The limits.
    pub limits: Limits,
}

/// What one tenant may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// Processors, such as 0.5.
    pub cpus: Cpus,
    /// Memory of the agent.
    pub memory: Size,
    /// Swap beside the memory; as much as memory when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<Size>,
    /// Storage of the tenant's state.
    pub storage: Size,
    /// Processes and threads.
    #[schemars(range(min = 16, max = 65536))]
    pub pids: u32,
    /// Share of the disk when it is contended, 1 to 10000; 100 is everyone's default.
    #[schemars(range(min = 1, max = 10000))]
    pub io_weight: u16,
    /// Size of the kept log.
    pub log_size: Size,
    /// Age of the kept log.
    pub log_retention: Period,
    /// Bytes that may pass the egress door in a month of the calendar (UTC), both directions together.
    pub egress: Size,
    /// How long the state of a terminated tenant is kept.
    pub retention: Period,
}

impl Limits {
    /// Swap beside the memory: what Podman gives where nobody says, as much as memory.
    pub fn swap(&self) -> Size {
        self.swap.unwrap_or(self.memory)
    }
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// Every problem of the text, each with its line and column.
    pub fn parse(source: &Source) -> Result<Self, Problems> {
        source.parse(|plan: &Self| {
            let mut findings = check::name(&plan.name);
            findings.extend(wake::check(&plan.sleep));
            findings.extend(plan.egress.check());
            findings.extend(check::limits(&plan.limits));
            findings
        })
    }
}
