//! What the API says of a tenant's way out.
//! Plain documents; they are made elsewhere.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a tenant may go, and what its egress door counted in a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct EgressReport {
    /// The tenant's id.
    pub tenant: String,
    /// The month of the calendar in UTC, such as `2026-11`.
    pub month: String,
    /// How the way out is guarded now: `none`, `allowlist`, `observe` or `open`.
    pub mode: String,
    /// What the list names now.
    pub allow: Vec<String>,
    /// Ports of what the list names without one, and of what the mode lets through.
    pub ports: Vec<u16>,
    /// Private networks that may be reached now.
    pub private_networks: Vec<String>,
    /// Bytes of both directions that a month has by the plan; none where nothing is installed.
    pub volume: Option<u64>,
    /// All destinations together. What passed in the last five seconds may be missing.
    pub total: EgressFigures,
    /// Each destination, `name:port`; what is over a thousand of them is `(others)`.
    pub destinations: BTreeMap<String, EgressFigures>,
}

/// What was counted of one destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct EgressFigures {
    /// Bytes that left.
    pub sent: u64,
    /// Bytes that came back.
    pub received: u64,
    /// Connections that were made.
    pub connections: u64,
    /// What was refused.
    pub refused: u64,
}

/// What would happen to a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct EgressVerdict {
    /// Where it would go.
    pub destination: String,
    /// How the way out is guarded.
    pub mode: String,
    /// Whether it would be let through.
    pub allowed: bool,
    /// The stable word for why not, as in logs and answers.
    pub code: Option<String>,
    /// Why, or why not.
    pub because: String,
    /// The addresses of the name; none where it would not be looked up.
    pub addresses: Vec<EgressAddress>,
}

/// One address of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct EgressAddress {
    /// The address.
    pub address: String,
    /// Why it would not be dialled; none if it may.
    pub refused: Option<String>,
}

/// One decision of a tenant's egress door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct EgressDecision {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Whether it was let through.
    pub allowed: bool,
    /// How the agent asked: `name`, `connect`, `request` or `transparent`.
    pub by: String,
    /// What it asked for.
    pub destination: String,
    /// The address that was dialled.
    pub address: Option<String>,
    /// The stable word for why it was refused.
    pub code: Option<String>,
    /// The list does not name it, and the mode is `observe`.
    pub reported: bool,
    /// All of it in a sentence.
    pub message: String,
}
