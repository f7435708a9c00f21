//! The fixed-size names of the repository format, each with a type of its own.
//! All are written as lower-case hex.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// A text that is not the lower-case hex of the expected length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {length} lower-case hex digits")]
pub struct HexError {
    text: String,
    length: usize,
}

macro_rules! hex_name {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "std::borrow::Cow<'_, str>", into = "String")]
        pub struct $name(pub [u8; $length]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0; $length * 2];
                // The buffer has exactly two digits for each byte.
                let _ = hex::encode_to_slice(self.0, &mut text);
                f.pad(std::str::from_utf8(&text).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = HexError;

            fn from_str(text: &str) -> Result<Self, HexError> {
                let mut bytes = [0; $length];
                let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
                if lower && hex::decode_to_slice(text, &mut bytes).is_ok() {
                    return Ok(Self(bytes));
                }
                let text = text.chars().take(80).collect();
                Err(HexError { text, length: $length * 2 })
            }
        }

        impl TryFrom<std::borrow::Cow<'_, str>> for $name {
            type Error = HexError;

            fn try_from(text: std::borrow::Cow<'_, str>) -> Result<Self, HexError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }
    };
}

hex_name!(
    /// The SHA-256 of an object's bytes.
    Digest,
    32
);
hex_name!(
    /// The keyed BLAKE3 of a chunk's plain bytes; never leaves ciphertext.
    ChunkId,
    32
);
hex_name!(
    /// A repository's random id, repeated in every signed commit.
    RepositoryId,
    16
);
hex_name!(
    /// The random directory of a repository in its object store.
    BucketPrefix,
    16
);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

/// Bytes from the kernel's random number generator.
///
/// # Errors
/// The kernel has none to give, which no supported kernel does after boot.
pub fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_what_sha256sum_prints() {
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), text);
        assert_eq!(text.parse(), Ok(Digest::of(b"abc")));
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "",
            "00",
            &"A0".repeat(32),
            &"g0".repeat(32),
            &"00".repeat(33),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
