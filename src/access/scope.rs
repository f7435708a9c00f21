//! What a token is for. A scope is a word in the CLI, the API and the database alike.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::tenant::TenantId;

/// What the holder of a token may do, in one word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// All that the API can do, tokens included.
    Admin,
    /// Tenants' daily life: apply, start, stop, suspend, back up, restore, read all of it.
    Operator,
    /// Read how the node and its tenants are; no logs, and nothing that visitors or agents wrote.
    Read,
    /// What the owner of one tenant may do to it.
    Tenant(TenantId),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.write_str("admin"),
            Self::Operator => f.write_str("operator"),
            Self::Read => f.write_str("read"),
            Self::Tenant(tenant) => write!(f, "tenant:{tenant}"),
        }
    }
}

/// A text that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no scope; give `admin`, `operator`, `read`, or `tenant:ID`")]
pub struct ScopeError(String);

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let refuse = || ScopeError(text.to_owned());
        match text {
            "admin" => Ok(Self::Admin),
            "operator" => Ok(Self::Operator),
            "read" => Ok(Self::Read),
            _ => {
                let tenant = text.strip_prefix("tenant:").ok_or_else(refuse)?;
                tenant.parse().map(Self::Tenant).map_err(|_| refuse())
            }
        }
    }
}

impl TryFrom<String> for Scope {
    type Error = ScopeError;

    fn try_from(text: String) -> Result<Self, ScopeError> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("admin", Some("admin"))]
    #[case("tenant:acme", Some("tenant:acme"))]
    #[case("tenant:", None)]
    #[case("tenant:Acme", None)]
    #[case("tenant:*", None)]
    #[case("Admin", None)]
    #[case("", None)]
    fn a_scope_is_one_of_four_words(#[case] text: &str, #[case] meant: Option<&str>) {
        let scope = text.parse::<Scope>().ok().map(|scope| scope.to_string());
        assert_eq!(scope.as_deref(), meant);
    }
}
