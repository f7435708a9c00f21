//! For providers that take little user data: a small config that leads to the large one, and says what must be there.

use std::str::FromStr;

use serde_json::json;
use sha2::{Digest as _, Sha512};

use super::config::Spec;

/// The most that a provider takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeLimit(pub usize);

/// Not a size.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither a number of bytes nor `aws` or `hetzner`")]
pub struct SizeLimitError(String);

impl FromStr for SizeLimit {
    type Err = SizeLimitError;

    fn from_str(text: &str) -> Result<Self, SizeLimitError> {
        match text {
            // Amazon EC2's user guide, "instance user data": 16 KB, before base64.
            "aws" => Ok(Self(16 * 1024)),
            // Hetzner's documentation, "Creating a server": 32 KiB.
            "hetzner" => Ok(Self(32 * 1024)),
            number => {
                let bytes = number
                    .parse()
                    .map_err(|_| SizeLimitError(text.to_owned()))?;
                Ok(Self(bytes))
            }
        }
    }
}

/// What the machine is given, and what it fetches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// What the provider is given.
    pub pointer: String,
    /// What must be at the URL, where it is not all in the pointer.
    pub payload: Option<String>,
}

/// Why a config cannot be given to a provider.
#[derive(Debug, thiserror::Error)]
pub enum PointerError {
    /// It is too large, and nobody said where the rest would be.
    #[error(
        "the config has {size} bytes and the provider takes {limit}; give --payload-url, an https address at which \
         only this machine finds the larger part, and --payload, a file to write it to"
    )]
    NoPayload {
        /// How large it is.
        size: usize,
        /// What may be given.
        limit: usize,
    },
    /// Anybody on the way could read it.
    #[error("{0} is not https; the larger part holds keys")]
    NotHttps(String),
    /// Even the pointer is too large.
    #[error(
        "the pointer alone has {size} bytes and the provider takes {limit}; give a shorter --payload-url"
    )]
    Pointer {
        /// How large it is.
        size: usize,
        /// What may be given.
        limit: usize,
    },
}

/// Splits a config that is larger than the provider takes.
pub fn split(
    ignition: String,
    spec: Spec,
    limit: SizeLimit,
    payload_url: Option<&str>,
) -> Result<Split, PointerError> {
    let (size, SizeLimit(limit)) = (ignition.len(), limit);
    if size <= limit {
        return Ok(Split {
            pointer: ignition,
            payload: None,
        });
    }
    let url = payload_url.ok_or(PointerError::NoPayload { size, limit })?;
    if !url.starts_with("https://") {
        return Err(PointerError::NotHttps(url.to_owned()));
    }
    let hash = format!("sha512-{}", hex::encode(Sha512::digest(&ignition)));
    let pointer = json!({
        "ignition": {
            "version": spec.ignition(),
            "config": { "merge": [{ "source": url, "verification": { "hash": hash } }] },
        },
    })
    .to_string();
    if pointer.len() > limit {
        let size = pointer.len();
        return Err(PointerError::Pointer { size, limit });
    }
    Ok(Split {
        pointer,
        payload: Some(ignition),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_enough_is_given_whole() {
        let split = split("{}".to_owned(), Spec::V3_3, SizeLimit(2), None).unwrap();
        assert_eq!((split.pointer.as_str(), split.payload), ("{}", None));
    }

    #[test]
    fn what_is_too_large_is_fetched_and_checked() {
        let whole = "x".repeat(2000);
        let url = "https://example.com/host-1.ign";
        let limit = "1000".parse().unwrap();
        let split = split(whole.clone(), Spec::V3_4, limit, Some(url)).unwrap();
        assert!(split.pointer.len() <= 1000);
        let pointer: serde_json::Value = serde_json::from_str(&split.pointer).unwrap();
        let merged = &pointer["ignition"]["config"]["merge"][0];
        assert_eq!(merged["source"], url);
        let hash = hex::encode(Sha512::digest(&whole));
        assert_eq!(merged["verification"]["hash"], format!("sha512-{hash}"));
        assert_eq!(split.payload, Some(whole));
    }

    #[test]
    fn keys_travel_over_https_only() {
        let whole = "x".repeat(2000);
        let limit = SizeLimit(1000);
        let refused = |url| {
            split(whole.clone(), Spec::V3_3, limit, url)
                .unwrap_err()
                .to_string()
        };
        insta::assert_snapshot!(
            [refused(None), refused(Some("http://example.com/host.ign"))].join("\n")
        );
        assert!("16 KB".parse::<SizeLimit>().is_err());
    }
}
