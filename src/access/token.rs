//! A token: 256 random bits in a form that scanners for leaked secrets can find, and the hash that is kept of it.
//! A token's text exists while it is shown and while a request is looked at, and is never stored.

use std::fmt;
use std::str::FromStr;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What every token begins with; after it come 64 hexadecimal digits.
const PREFIX: &str = "tenantd_";

/// Bits of a token, in bytes.
const BYTES: usize = 32;

/// Digits of the hash that make a token's id: 48 bits tell a node's tokens apart.
const ID_DIGITS: usize = 12;

/// A token that was just made.
pub struct NewToken {
    /// Its text, for its holder alone.
    pub text: SecretString,
    /// What is kept of it.
    pub hash: TokenHash,
}

impl NewToken {
    /// Makes one from the kernel's random numbers.
    pub fn make() -> Result<Self, getrandom::Error> {
        let mut bits = [0_u8; BYTES];
        getrandom::fill(&mut bits)?;
        let text = format!("{PREFIX}{}", hex::encode(bits));
        let hash = hash(&text);
        let text = text.into();
        Ok(Self { text, hash })
    }
}

/// The SHA-256 of a token's text.
///
/// A slow hash is for passwords, which can be guessed; 256 random bits cannot. For the same reason a lookup by this
/// hash betrays nothing by the time it takes: who learns a part of a hash has no token that leads to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenHash(String);

impl TokenHash {
    /// The hash of a text that has the form of a token; none of any other.
    pub fn of(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (digits.len() == 2 * BYTES && digits.bytes().all(is_hex)).then(|| hash(text))
    }

    /// In hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of its token.
    pub fn id(&self) -> TokenId {
        TokenId(self.0[..ID_DIGITS].to_owned())
    }
}

fn hash(text: &str) -> TokenHash {
    TokenHash(hex::encode(Sha256::digest(text.as_bytes())))
}

/// By what a token is listed and revoked: the beginning of its hash, which is no secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(String);

impl TokenId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no token's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a token's id: those are 12 hexadecimal digits, as `tenantd token list` shows them"
)]
pub struct TokenIdError;

impl FromStr for TokenId {
    type Err = TokenIdError;

    fn from_str(text: &str) -> Result<Self, TokenIdError> {
        let is_id = text.len() == ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        // What is refused is not repeated: somebody may have given the token itself.
        is_id
            .then(|| Self(text.to_ascii_lowercase()))
            .ok_or(TokenIdError)
    }
}

impl TryFrom<String> for TokenId {
    type Error = TokenIdError;

    fn try_from(text: String) -> Result<Self, TokenIdError> {
        text.parse()
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.0
    }
}

/// What people call a token: 1 to 64 letters, digits, dots, dashes, underscores and spaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenName(String);

impl TokenName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no token's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a token's name has 1 to 64 letters, digits, `.`, `-`, `_` and spaces")]
pub struct TokenNameError;

impl FromStr for TokenName {
    type Err = TokenNameError;

    fn from_str(text: &str) -> Result<Self, TokenNameError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_ ".contains(&byte);
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(is_plain);
        // Nobody calls a token by the token.
        let is_token = text.contains(PREFIX);
        (fits && !is_token)
            .then(|| Self(text.to_owned()))
            .ok_or(TokenNameError)
    }
}

impl TryFrom<String> for TokenName {
    type Error = TokenNameError;

    fn try_from(text: String) -> Result<Self, TokenNameError> {
        text.parse()
    }
}

impl From<TokenName> for String {
    fn from(name: TokenName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn what_is_kept_of_a_token_finds_it_again_and_does_not_contain_it() {
        let token = NewToken::make().unwrap();
        let text = token.text.expose_secret();
        assert_eq!(TokenHash::of(text), Some(token.hash.clone()));
        assert!(!text.contains(token.hash.as_str()));
        assert!(token.hash.as_str().starts_with(token.hash.id().as_str()));
        assert_ne!(NewToken::make().unwrap().hash, token.hash);
    }

    #[rstest]
    #[case("")]
    #[case("tenantd_")]
    #[case("tenantd_0000")]
    #[case("0000000000000000000000000000000000000000000000000000000000000000")]
    #[case("tenantd_000000000000000000000000000000000000000000000000000000000000000G")]
    #[case("tenantd_000000000000000000000000000000000000000000000000000000000000000A")]
    #[case("Tenantd_0000000000000000000000000000000000000000000000000000000000000000")]
    fn what_has_not_the_form_of_a_token_is_not_looked_up(#[case] text: &str) {
        assert_eq!(TokenHash::of(text), None);
    }

    #[test]
    fn a_refused_id_or_name_is_not_repeated() {
        let token = format!("{PREFIX}{}", "a".repeat(40));
        let id = token.parse::<TokenId>().unwrap_err().to_string();
        let name = token.parse::<TokenName>().unwrap_err().to_string();
        assert!(!id.contains(&token) && !name.contains(&token));
    }
}
