//! `dir:/path` and `s3://bucket/prefix`, and an S3 endpoint: how a store is named in settings.

use std::fmt;
use std::str::FromStr;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StoreUrl {
    /// `dir:/path`: a directory of this host.
    Directory(Utf8PathBuf),
    /// `s3://bucket/prefix`; endpoint, region and keys are settings of their own.
    S3 {
        /// The bucket.
        bucket: String,
        /// What all names begin with; empty, or without `/` at either end.
        prefix: String,
    },
}

/// Why a text names no store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a store: {reason} (for example `dir:/var/lib/tenantd/backups` or `s3://bucket/prefix`)"
)]
pub struct StoreUrlError {
    text: String,
    reason: &'static str,
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let refuse = |reason| {
            Err(StoreUrlError {
                text: text.to_owned(),
                reason,
            })
        };
        if let Some(path) = text.strip_prefix("dir:") {
            if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
                return refuse("a directory must be an absolute path without `..`");
            }
            return Ok(Self::Directory(Utf8PathBuf::from(path)));
        }
        let Some(rest) = text.strip_prefix("s3://") else {
            return refuse("it begins with neither `dir:` nor `s3://`");
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let in_bucket = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        // https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
        if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(in_bucket) {
            return refuse(
                "a bucket's name has 3 to 63 lower-case letters, digits, dots and dashes",
            );
        }
        if !prefix.is_empty() && !super::is_object_name(prefix) {
            return refuse(
                "the prefix may have letters, digits, `-`, `_`, `.` and single `/` between",
            );
        }
        Ok(Self::S3 {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "dir:{path}"),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = StoreUrlError;

    fn try_from(text: String) -> Result<Self, StoreUrlError> {
        text.parse()
    }
}

impl From<StoreUrl> for String {
    fn from(url: StoreUrl) -> Self {
        url.to_string()
    }
}

/// Where an S3 store answers: scheme, host and perhaps port, nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(String);

/// Why a text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an S3 endpoint: give scheme and host, and no path (for example \
     `https://s3.eu-central-003.backblazeb2.com` or `http://127.0.0.1:9000`)"
)]
pub struct EndpointError(String);

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let plain = text.trim_end_matches('/');
        let host = ["https://", "http://"]
            .iter()
            .find_map(|scheme| plain.strip_prefix(scheme));
        // Brackets and colons: an IPv6 address, a port.
        let in_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        match host {
            Some(host) if !host.is_empty() && host.chars().all(in_host) => {
                Ok(Self(plain.to_owned()))
            }
            _ => Err(EndpointError(text.to_owned())),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("dir:/var/lib/tenantd/backups")]
    #[case("s3://bucket")]
    #[case("s3://my.bucket-1/node/a")]
    fn stores_are_read_back(#[case] text: &str) {
        assert_eq!(text.parse::<StoreUrl>().unwrap().to_string(), text);
    }

    #[rstest]
    #[case("")]
    #[case("/var")]
    #[case("dir:var")]
    #[case("dir:/a/../b")]
    #[case("s3://")]
    #[case("s3://B")]
    #[case("s3://user:secret@host/x")]
    #[case("s3://bucket/a//b")]
    #[case("s3://bucket/../b")]
    #[case("s3://bucket/a b")]
    #[case("https://host/bucket")]
    fn other_texts_are_refused(#[case] text: &str) {
        assert!(text.parse::<StoreUrl>().is_err());
    }

    #[rstest]
    #[case("https://s3.eu-central-003.backblazeb2.com")]
    #[case("http://127.0.0.1:9000")]
    #[case("http://[::1]:9000")]
    fn endpoints_are_read_back(#[case] text: &str) {
        assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        let with_slash = format!("{text}/").parse::<Endpoint>().unwrap();
        assert_eq!(with_slash.to_string(), text);
    }

    #[rstest]
    #[case("")]
    #[case("127.0.0.1:9000")]
    #[case("s3.eu-central-003.backblazeb2.com")]
    #[case("s3://bucket")]
    #[case("https://")]
    #[case("https://host/bucket")]
    #[case("https://id:secret@host")]
    #[case("https://host?x")]
    fn other_texts_are_no_endpoints(#[case] text: &str) {
        assert!(text.parse::<Endpoint>().is_err());
    }
}
