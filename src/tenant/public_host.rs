//! A host name under which the public finds a tenant, checked once so that it is safe as a file's name too.
//! It knows the grammar, not whose name it is.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A fully qualified host name as certificates and the wire have it: lower-case ASCII (IDNA's A-labels, RFC 5890),
/// at least two labels, no dot at its end, no wildcard, no address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicHost(String);

impl PublicHost {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `domain` or below it.
    pub fn is_within(&self, domain: &Self) -> bool {
        let rest = self.0.strip_suffix(&domain.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// The name of `label` below this one. A tenant's id is always a good label.
    ///
    /// # Errors
    /// Together they are longer than a host name may be.
    pub fn below(&self, label: &str) -> Result<Self, PublicHostError> {
        format!("{label}.{}", self.0).parse()
    }
}

impl fmt::Display for PublicHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<PublicHost> for String {
    fn from(name: PublicHost) -> Self {
        name.0
    }
}

impl TryFrom<String> for PublicHost {
    type Error = PublicHostError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for PublicHost {
    type Err = PublicHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| PublicHostError {
            text: text.chars().take(MOST_SHOWN).collect(),
            reason,
        };
        if text.starts_with("*.") {
            return Err(refuse("a wildcard is no host; name each host"));
        }
        if text.ends_with('.') {
            return Err(refuse("write it without the dot at its end"));
        }
        // Checks lengths and characters as well (UTS 46, with the rules of STD 3).
        let ascii = idna::domain_to_ascii_strict(text).map_err(|_| {
            refuse("only letters, digits, dashes and dots are allowed, such as `www.acme.com`")
        })?;
        let Some((_, top)) = ascii.rsplit_once('.') else {
            return Err(refuse("it has only one label; give the whole name"));
        };
        if top.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refuse("an address is no host name"));
        }
        Ok(Self(ascii))
    }
}

/// Longest part of a refused text that is repeated.
const MOST_SHOWN: usize = 80;

/// A text that is no host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a host name: {reason}")]
pub struct PublicHostError {
    text: String,
    reason: &'static str,
}

impl schemars::JsonSchema for PublicHost {
    fn schema_name() -> Cow<'static, str> {
        "PublicHost".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A fully qualified host name; names in other scripts are turned into their ASCII form.",
            "maxLength": 253,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("www.acme.com", "www.acme.com")]
    #[case("WWW.Acme.COM", "www.acme.com")]
    #[case("bücher.example", "xn--bcher-kva.example")]
    #[case("xn--bcher-kva.example", "xn--bcher-kva.example")]
    #[case("例え.テスト", "xn--r8jz45g.xn--zckzah")]
    fn a_name_becomes_what_certificates_have(#[case] written: &str, #[case] meant: &str) {
        assert_eq!(written.parse::<PublicHost>().unwrap().as_str(), meant);
    }

    #[rstest]
    #[case("")]
    #[case("localhost")]
    #[case("acme.com.")]
    #[case("*.acme.com")]
    #[case(".acme.com")]
    #[case("a..b")]
    #[case("10.0.0.1")]
    #[case("[::1]")]
    #[case("acme.com:443")]
    #[case("https://acme.com")]
    #[case("../../etc.com")]
    #[case("a_b.com")]
    #[case("-a.com")]
    #[case("a b.com")]
    #[case("a\n.com")]
    #[case("xn--0.com")]
    fn what_is_no_host_is_refused(#[case] written: &str) {
        assert!(written.parse::<PublicHost>().is_err(), "{written}");
    }

    #[test]
    fn a_label_and_a_name_have_their_lengths() {
        let label = "a".repeat(63);
        assert!(format!("{label}.com").parse::<PublicHost>().is_ok());
        assert!(format!("a{label}.com").parse::<PublicHost>().is_err());
        let long = [label.as_str(); 4].join(".");
        assert!(long.parse::<PublicHost>().is_err());
    }

    #[test]
    fn a_domain_has_itself_and_what_is_below_it() {
        let domain: PublicHost = "example.org".parse().unwrap();
        let is_within = |name: &str| name.parse::<PublicHost>().unwrap().is_within(&domain);
        assert!(is_within("example.org") && is_within("a.b.example.org"));
        assert!(!is_within("notexample.org") && !is_within("example.org.evil.com"));
        assert_eq!(domain.below("acme").unwrap().as_str(), "acme.example.org");
    }

    proptest! {
        #[test]
        fn every_name_is_a_plain_file_name_and_its_own_ascii_form(text in "\\PC{0,80}") {
            if let Ok(name) = text.parse::<PublicHost>() {
                let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
                prop_assert!(name.as_str().bytes().all(is_plain));
                prop_assert!(!name.as_str().starts_with(['.', '-']) && name.as_str().len() <= 253);
                prop_assert_eq!(name.as_str().parse::<PublicHost>().unwrap(), name);
            }
        }
    }
}
