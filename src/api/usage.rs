//! What tenants use at this moment: plain documents, made from control groups and file systems.
//! They hold no secret and no behaviour but what a number means.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::SleepSummary;

/// What all tenants use, or one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct UsageReport {
    /// When it was looked at. Two reports tell rates.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// By id.
    pub tenants: Vec<TenantUsage>,
}

/// What one tenant uses: its agent, doors and helpers together. What the host does not count is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TenantUsage {
    /// The tenant's id.
    pub id: String,
    /// Where it stands.
    pub state: String,
    /// How it sleeps; none while it is awake, or held.
    #[serde(default)]
    pub sleep: Option<SleepSummary>,
    /// Its plan.
    pub plan: Option<String>,
    /// Processor time since its slice was made, in microseconds.
    pub cpu_us: Option<u64>,
    /// Processors that it may use, in thousandths.
    pub cpu_limit_millis: Option<u32>,
    /// Bytes of memory, with what files it has cached.
    pub memory_bytes: Option<u64>,
    /// Bytes of memory that its agent may use.
    pub memory_limit_bytes: Option<u64>,
    /// Bytes of swap.
    pub swap_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Processes and threads that its agent may have.
    pub pids_limit: Option<u32>,
    /// Bytes read from disks since its slice was made.
    pub read_bytes: Option<u64>,
    /// Bytes written to disks since its slice was made.
    pub written_bytes: Option<u64>,
    /// Percent of the last ten seconds in which something of it waited for a processor.
    pub cpu_pressure: Option<f64>,
    /// Likewise for memory.
    pub memory_pressure: Option<f64>,
    /// Likewise for a disk.
    pub io_pressure: Option<f64>,
    /// What its state holds.
    pub storage: Option<StorageUsage>,
}

/// What a tenant's state holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct StorageUsage {
    /// Bytes, as of `at`; none before anything was measured.
    pub used_bytes: Option<u64>,
    /// Bytes that its plan allows.
    pub limit_bytes: u64,
    /// Whether the file system keeps it to that.
    pub kept: bool,
    /// When it was measured: now where the file system counts, else with the newest snapshot.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
}

/// From this share of its limit a state counts as nearly full, in percent.
const NEARLY_FULL: u64 = 80;

impl StorageUsage {
    /// How much of the limit is used, in percent; more than 100 where the limit is not kept.
    pub fn percent(&self) -> Option<u64> {
        let used = u128::from(self.used_bytes?) * 100;
        u64::try_from(used.checked_div(u128::from(self.limit_bytes))?).ok()
    }

    /// Whether an operator should be told before it is full.
    pub fn is_nearly_full(&self) -> bool {
        self.percent().is_some_and(|percent| percent >= NEARLY_FULL)
    }
}

/// What plans promise of one of the host's resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Promised {
    /// `memory`, `cpu` or `storage`.
    pub resource: String,
    /// All plans together, in bytes or thousandths of a processor.
    pub promised: u64,
    /// The most that `[capacity]` lets them promise.
    pub most: u64,
    /// What the host has.
    pub has: u64,
    /// Whether more is promised than may be.
    pub exceeded: bool,
    /// What is promised of what may be, in a few words.
    pub summary: String,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Some(79), 100, Some(79), false)]
    #[case(Some(80), 100, Some(80), true)]
    #[case(Some(250), 100, Some(250), true)]
    #[case(Some(u64::MAX), u64::MAX, Some(100), true)]
    #[case(Some(1), 0, None, false)]
    #[case(None, 100, None, false)]
    fn a_state_is_nearly_full_from_four_fifths(
        #[case] used_bytes: Option<u64>,
        #[case] limit_bytes: u64,
        #[case] percent: Option<u64>,
        #[case] expected: bool,
    ) {
        let storage = StorageUsage {
            used_bytes,
            limit_bytes,
            kept: true,
            at: None,
        };
        assert_eq!(storage.percent(), percent);
        assert_eq!(storage.is_nearly_full(), expected);
    }
}
