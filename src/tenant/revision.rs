//! An immutable, numbered version of what a tenant is.
//! It records; which revision is current is the state database's business.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ImageId, ResolvedSpec, SecretName, SecretVersion, SecretVersions};

/// A tenant's revisions are numbered from 1, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RevisionNumber(pub u64);

impl RevisionNumber {
    /// The first revision of a tenant.
    pub const FIRST: Self = Self(1);

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for RevisionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One version of a tenant, with everything that is needed to render its units again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Revision {
    /// Its number.
    pub number: RevisionNumber,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub actor: String,
    /// Why, in the actor's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The spec as it was written, comments and all.
    pub spec_text: String,
    /// What the spec meant then.
    pub resolved: ResolvedSpec,
    /// The image that its name meant then.
    pub image: ImageId,
    /// The version of each secret that it runs with; a rollback returns to them.
    #[serde(default, skip_serializing_if = "SecretVersions::is_empty")]
    pub secrets: SecretVersions,
    /// `UnitSet::hash` of the units rendered then.
    pub unit_set_hash: String,
}

impl Revision {
    /// The versions of the secrets that the agent gets: all but the keys of its endpoints.
    pub fn agent_secrets(&self) -> impl Iterator<Item = (&SecretName, &SecretVersion)> {
        let keys = &self.resolved.endpoints;
        self.secrets.iter().filter(|(name, _)| !keys.has_key(name))
    }
}
