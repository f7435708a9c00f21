//! Podman's version, as far as it decides what tenantd can do.
//! Compared, never branched on elsewhere.

use std::fmt;

use serde::Deserialize;

use super::error::PodmanError;
use super::libpod::{Libpod, Question};

/// A version of Podman.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl Version {
    /// Reads `5.4.2` or `6.0.0-dev`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(['.', '-']).map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            return None;
        };
        Some(Self { major, minor })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    version: String,
}

pub(super) async fn ask(libpod: &Libpod) -> Result<Version, PodmanError> {
    let question = Question {
        verb: "tell",
        object: "its version",
    };
    let answer: Answer = libpod.get("/version", question).await?;
    Version::parse(&answer.version).ok_or_else(|| PodmanError::Broken {
        verb: question.verb,
        object: question.object.to_owned(),
        source: format!("{:?} is no version", answer.version).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let version = |text| Version::parse(text).unwrap();
        assert!(version("5.10.0") > version("5.4.2"));
        assert!(version("6.0.0-dev") > version("5.8.1"));
        assert!(version("4.9.4") < super::super::OLDEST);
        assert_eq!(version("5.4.2"), super::super::OLDEST);
        assert_eq!(Version::parse("podman"), None);
    }
}
