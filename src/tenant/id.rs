//! A tenant's name, checked once so that everything made from it is safe.
//! It knows the grammar, not which tenants exist.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A tenant's id: `[a-z][a-z0-9-]{0,30}`, not ending in a dash.
///
/// The grammar keeps every name derived from it (unit, container, slice, network
/// namespace, directory) valid without further thought; 31 characters leave room
/// for the prefixes within the 63 of a host name label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(String);

impl TenantId {
    /// Longest id, in characters.
    pub const MAX_LEN: usize = 31;

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as an instance name or slice component: a dash is a level in a
    /// slice's name and `%I` turns it into `/`, so `systemd-escape(1)` writes `\x2d`.
    pub fn escaped(&self) -> String {
        self.0.replace('-', "\\x2d")
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for TenantId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<TenantId> for String {
    fn from(id: TenantId) -> Self {
        id.0
    }
}

impl TryFrom<String> for TenantId {
    type Error = TenantIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let refuse = |reason| {
            Err(TenantIdError {
                text: text.clone(),
                reason,
            })
        };
        if text.len() > Self::MAX_LEN {
            return refuse("it is longer than 31 characters");
        }
        if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
            return refuse("it must start with a lower-case letter");
        }
        if let Some(_bad) = text
            .chars()
            .find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-'))
        {
            return refuse("only lower-case letters, digits and dashes are allowed");
        }
        if text.ends_with('-') {
            return refuse("it must not end with a dash");
        }
        Ok(Self(text))
    }
}

impl FromStr for TenantId {
    type Err = TenantIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl schemars::JsonSchema for TenantId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TenantId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Lower-case letters, digits and dashes, starting with a letter, not ending with a dash.",
            "pattern": "^[a-z]([a-z0-9-]{0,29}[a-z0-9])?$",
        })
    }
}

/// Why a text is no tenant id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a tenant id: {reason} (for example `acme` or `acme-2`)")]
pub struct TenantIdError {
    text: String,
    reason: &'static str,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a")]
    #[case("backup")]
    #[case("foo-bar")]
    #[case("a234567890123456789012345678901")]
    fn accepts(#[case] text: &str) {
        assert_eq!(
            text.parse::<TenantId>().map(String::from),
            Ok(text.to_owned())
        );
    }

    #[rstest]
    #[case("")]
    #[case("1a")]
    #[case("-a")]
    #[case("a-")]
    #[case("a/b")]
    #[case("../a")]
    #[case("A")]
    #[case("a_b")]
    #[case("a\nb")]
    #[case("a%b")]
    #[case("a2345678901234567890123456789012")]
    fn refuses(#[case] text: &str) {
        assert!(text.parse::<TenantId>().is_err(), "{text:?}");
    }

    #[test]
    fn a_dash_is_escaped_for_instances_and_slices() {
        let id: TenantId = "foo-bar".parse().unwrap();
        assert_eq!(id.escaped(), r"foo\x2dbar");
    }
}
