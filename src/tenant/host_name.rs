//! A host's name as the gateway compares it: lower case, without a final dot, and never an address in disguise.
//! It knows the grammar, not who answers to the name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name such as `api.example.org`.
///
/// Labels of 1 to 63 letters, digits, dashes and underscores, 253 characters in all (RFC 1035, section 2.3.4;
/// underscores are in use, RFC 8552). Names of other scripts come in their ASCII form (`xn--…`). A name whose last label is a number
/// is refused: resolvers and URL parsers take `2130706433`, `0x7f.1` and `127.1` for addresses
/// (WHATWG URL, "ends in a number").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// Why a text is no host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostNameError {
    /// Nothing, or longer than 253 characters.
    #[error("a host name has 1 to 253 characters")]
    Length,
    /// A label is empty or longer than 63 characters.
    #[error("each part of a host name has 1 to 63 characters")]
    Label,
    /// Another character than letters, digits, dashes and underscores.
    #[error(
        "a host name has letters, digits, dashes and dots only; write other scripts as `xn--…`"
    )]
    Character,
    /// An address, in whatever spelling.
    #[error("this is an address and not a host name")]
    Address,
}

impl HostName {
    /// Longest name, in characters, without the final dot.
    pub const MAX_LEN: usize = 253;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this name is below `parent`, at any depth, and not `parent` itself.
    pub fn is_below(&self, parent: &Self) -> bool {
        self.0
            .strip_suffix(parent.as_str())
            .is_some_and(|rest| rest.ends_with('.'))
    }
}

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() || text.len() > Self::MAX_LEN {
            return Err(HostNameError::Length);
        }
        if text.contains(':') {
            return Err(HostNameError::Address);
        }
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !text.chars().all(is_allowed) {
            return Err(HostNameError::Character);
        }
        if text
            .split('.')
            .any(|label| !(1..=63).contains(&label.len()))
        {
            return Err(HostNameError::Label);
        }
        let name = text.to_ascii_lowercase();
        if name.rsplit('.').next().is_some_and(is_number) {
            return Err(HostNameError::Address);
        }
        Ok(Self(name))
    }
}

/// Decimal or octal digits, or hexadecimal ones after `0x`, which may be none.
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x") {
        Some(digits) => digits.chars().all(|c| c.is_ascii_hexdigit()),
        None => label.chars().all(|c| c.is_ascii_digit()),
    }
}

impl TryFrom<String> for HostName {
    type Error = HostNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("api.example.org", "api.example.org")]
    #[case::case_and_final_dot("API.Example.ORG.", "api.example.org")]
    #[case::one_label("ollama", "ollama")]
    #[case::service("_acme-challenge.example.org", "_acme-challenge.example.org")]
    #[case::digits_before_the_end("1.2.3.example", "1.2.3.example")]
    #[case::hex_letters_are_a_name("0xfg.org.0xfg", "0xfg.org.0xfg")]
    fn names(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(text.parse::<HostName>().unwrap().as_str(), expected);
    }

    #[rstest]
    #[case("", HostNameError::Length)]
    #[case(".", HostNameError::Length)]
    #[case("a..b", HostNameError::Label)]
    #[case(".a", HostNameError::Label)]
    #[case("a b", HostNameError::Character)]
    #[case("a\r\nb", HostNameError::Character)]
    #[case("müsli.example", HostNameError::Character)]
    #[case("169.254.169.254", HostNameError::Address)]
    #[case("169.254.169.254.", HostNameError::Address)]
    #[case("2852039166", HostNameError::Address)]
    #[case("0xA9FEA9FE", HostNameError::Address)]
    #[case("0251.0376.0251.0376", HostNameError::Address)]
    #[case("127.1", HostNameError::Address)]
    #[case("a.0x", HostNameError::Address)]
    #[case("::ffff:169.254.169.254", HostNameError::Address)]
    #[case("[fd00:ec2::254]", HostNameError::Address)]
    fn no_names(#[case] text: &str, #[case] expected: HostNameError) {
        assert_eq!(text.parse::<HostName>(), Err(expected));
    }

    proptest! {
        #[test]
        fn a_name_reads_back_as_itself(text in "[A-Za-z0-9_.-]{0,80}") {
            if let Ok(name) = text.parse::<HostName>() {
                prop_assert_eq!(name.as_str().parse(), Ok(name.clone()));
            }
        }

        #[test]
        fn nothing_that_the_resolver_takes_for_an_address_is_a_name(address in any::<u32>()) {
            let ip = std::net::Ipv4Addr::from(address);
            for text in [ip.to_string(), address.to_string(), format!("{address:#x}"), format!("{address:#o}").replace("0o", "0")] {
                prop_assert_eq!(text.parse::<HostName>(), Err(HostNameError::Address));
            }
        }
    }
}
