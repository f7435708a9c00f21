//! What tenants' endpoints have used: plain documents, made from the doors' own figures.
//! They hold no secret and no behaviour.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What one tenant's endpoints have used in a month, and how that stands to its limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SpendingReport {
    /// The tenant's id.
    pub tenant: String,
    /// The month, such as `2026-11`, in UTC.
    pub month: String,
    /// By endpoint and model.
    pub lines: Vec<SpendingLine>,
    /// The limits in force, and what counts against them now; none where there are no limits.
    pub limits: Option<SpendingLimits>,
    /// Why the figures cannot be told.
    pub unreadable: Option<String>,
}

/// How a tenant stands to its limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SpendingLimits {
    /// `day` or `month`.
    pub period: String,
    /// Tokens since the period began.
    pub tokens: u64,
    /// Tokens that it may use.
    pub tokens_limit: Option<u64>,
    /// What they cost by the price tables.
    pub money: String,
    /// What they may cost.
    pub money_limit: Option<String>,
    /// Whether its endpoints answer 429 until the next period, or until a limit is raised.
    pub paused: bool,
}

/// What one model has been used for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SpendingLine {
    /// The endpoint.
    pub endpoint: String,
    /// The model as answers name it; `(unknown)` where none does.
    pub model: String,
    /// Requests that were sent to the provider.
    pub requests: u64,
    /// Those of them whose answers broke off.
    pub broken: u64,
    /// Those of them whose tokens are in part a guess.
    pub estimated: u64,
    /// Tokens of requests, without those of the provider's cache.
    pub input_tokens: u64,
    /// Tokens of answers.
    pub output_tokens: u64,
    /// Tokens of requests from the provider's cache.
    pub cache_read_tokens: u64,
    /// Tokens of requests into the provider's cache.
    pub cache_write_tokens: u64,
    /// What they cost by the price tables of their time.
    pub money: String,
    /// Bytes of the requests' bodies.
    pub sent_bytes: u64,
    /// Bytes of the answers' bodies.
    pub received_bytes: u64,
}
