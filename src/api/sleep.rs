//! How a tenant sleeps, for people and programs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How deep a tenant sleeps, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SleepSummary {
    /// How deep.
    pub tier: SleepTier,
    /// Since when it sleeps so deep.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// The tiers of sleep; each costs less and takes longer to wake from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SleepTier {
    /// In memory, without a processor.
    Frozen,
    /// Frozen, and its memory is in swap.
    PagedOut,
    /// Ended until somebody comes.
    Stopped,
}

impl SleepTier {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::PagedOut => "paged out",
            Self::Stopped => "stopped until somebody comes",
        }
    }
}
