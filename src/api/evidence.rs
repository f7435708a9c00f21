//! What the API shows of an attempt that failed: plain documents, which hold no secret and no behaviour.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Problem;
use crate::state::{OperationId, OperationKind};

/// What is kept of a failed attempt. It has what the agent wrote to its log, and no secret of tenantd's.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Evidence {
    /// The operation that failed, or that tenantd began because a revision on trial had failed.
    #[schema(value_type = String, format = "uuid")]
    pub operation: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// The tenant.
    pub tenant: String,
    /// The revision that failed.
    pub revision: Option<u64>,
    /// When all this was looked at.
    #[schema(value_type = String, format = DateTime)]
    pub gathered_at: Timestamp,
    /// What went wrong.
    pub problem: Problem,
    /// How the agent's service stood.
    pub job: JobEvidence,
    /// What the agent answered to the last probes through its ingress.
    pub probes: Vec<ProbeAttempt>,
    /// What the tenant's journal told, oldest first.
    pub journal: Vec<JournalLine>,
    /// Over the files rendered for the revision.
    pub unit_set_hash: Option<String>,
    /// These files by path; `link to …` for a symbolic link.
    pub files: BTreeMap<String, String>,
}

/// How a service stood, in systemd's words.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct JobEvidence {
    /// The service.
    pub unit: String,
    /// `ActiveState`.
    pub active: String,
    /// `SubState`.
    pub sub: String,
    /// `Result`.
    pub result: Option<String>,
    /// `ExecMainStatus`: exit code or signal.
    pub status: Option<i32>,
    /// `NRestarts`.
    pub restarts: Option<u32>,
}

/// One question to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ProbeAttempt {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What it answered.
    pub answer: String,
}

/// One line of a tenant's journal.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct JournalLine {
    /// When it was received.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Whether the agent wrote it, and not Podman or systemd.
    pub by_agent: bool,
    /// The text.
    pub message: String,
}
