//! Names and ids of container images.
//! It checks their grammar and never asks whether an image exists.

use std::fmt;
use std::str::FromStr;

use super::text::text_value;

/// An image as an operator names it, with its registry: `localhost/openclaw:2026.9`.
///
/// A name without a registry is refused: which image it means would depend on the
/// host's `registries.conf`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef(String);

impl ImageRef {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is of this host only and never pulled.
    pub fn is_local(&self) -> bool {
        self.0.starts_with("localhost/")
    }

    /// Whether its registry can give another image for the same name: not when the name has
    /// a digest in it.
    pub fn can_move(&self) -> bool {
        !self.is_local() && !self.0.contains('@')
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ImageRef {
    type Err = ImageRefError;

    fn from_str(text: &str) -> Result<Self, ImageRefError> {
        let refuse = |reason: String| {
            Err(ImageRefError {
                text: text.to_owned(),
                reason,
            })
        };
        if text.is_empty() || text.len() > 512 {
            return refuse("it must have 1 to 512 characters".to_owned());
        }
        if let Some(bad) = text
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || "._:/@-".contains(*c)))
        {
            return refuse(format!("{bad:?} is not allowed in it"));
        }
        let (registry, name) = text.split_once('/').unwrap_or(("", text));
        if name.is_empty() || name.starts_with(['/', ':', '@']) {
            return refuse("it has no name after the registry".to_owned());
        }
        if registry != "localhost" && !registry.contains(['.', ':']) {
            return refuse(format!(
                "it names no registry; write `docker.io/…`, `ghcr.io/…` or, for an image of this host, `localhost/{name}`"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Why a text is no image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image: {reason}")]
pub struct ImageRefError {
    text: String,
    reason: String,
}

text_value!(
    ImageRef,
    "an image such as \"ghcr.io/example/agent:1.2\"",
    "^(localhost|[A-Za-z0-9-]*[.:][A-Za-z0-9.:-]*)/[A-Za-z0-9._:/@-]+$",
    "A container image with its registry, such as ghcr.io/example/agent:1.2 or localhost/agent."
);

/// The id of an image on this host: the SHA-256 of its configuration, `sha256:` and 64 digits.
///
/// Units name the image by it, so that a tag that moves changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(String);

impl ImageId {
    /// The 64 hexadecimal digits; the form that Quadlet takes for unambiguous.
    pub fn hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl FromStr for ImageId {
    type Err = ImageIdError;

    /// Takes the id with or without `sha256:`; Podman prints both.
    fn from_str(text: &str) -> Result<Self, ImageIdError> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if hex.len() == 64 && hex.bytes().all(is_digit) {
            Ok(Self(hex.to_owned()))
        } else {
            Err(ImageIdError(text.to_owned()))
        }
    }
}

/// A text that is no image id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an image id: it must be `sha256:` and 64 hexadecimal digits")]
pub struct ImageIdError(String);

text_value!(
    ImageId,
    "an image id (sha256:…)",
    "^sha256:[0-9a-f]{64}$",
    "The id of an image: sha256: and 64 hexadecimal digits."
);

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("localhost/openclaw:2026.9")]
    #[case("ghcr.io/a/b@sha256:0123")]
    #[case("registry:5000/a")]
    fn accepts(#[case] text: &str) {
        assert_eq!(text.parse::<ImageRef>().unwrap().as_str(), text);
    }

    #[rstest]
    #[case("")]
    #[case("alpine")]
    #[case("library/alpine")]
    #[case("localhost/")]
    #[case("localhost/:a")]
    #[case("localhost/a b")]
    #[case("localhost/a\n")]
    #[case("localhost/a%n")]
    fn refuses(#[case] text: &str) {
        assert!(text.parse::<ImageRef>().is_err(), "{text:?}");
    }

    #[test]
    fn an_id_reads_both_of_podmans_forms() {
        let hex = "a1".repeat(32);
        let id: ImageId = hex.parse().unwrap();
        assert_eq!(id, format!("sha256:{hex}").parse().unwrap());
        assert_eq!(id.to_string(), format!("sha256:{hex}"));
        assert!("sha256:abc".parse::<ImageId>().is_err());
    }
}
