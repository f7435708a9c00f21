//! Which bucket, where, and the key to it: what a store in a bucket is opened with.
//! Values only; `node.toml` and the credentials file are read elsewhere.

use std::time::Duration;

use secrecy::SecretString;

use super::{Endpoint, Uploads};

/// Which bucket, where.
#[derive(Debug, Clone)]
pub struct S3Settings {
    /// The bucket's name.
    pub bucket: String,
    /// What all names begin with; empty, or without `/` at either end.
    pub prefix: String,
    /// Where the store answers.
    pub endpoint: Endpoint,
    /// The region to sign for.
    pub region: String,
    /// The bucket's name goes into the path instead of the host name.
    pub path_style: bool,
    /// How much may be uploaded at a time.
    pub uploads: Uploads,
    /// How long to wait for an answer, bodies apart.
    pub answer_within: Duration,
}

impl S3Settings {
    /// Connecting included, on a slow line to a busy store.
    pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);
}

/// The key to the bucket; never printed.
#[derive(Debug, Clone)]
pub struct S3Keys {
    /// The key's id.
    pub access_key: SecretString,
    /// The key itself.
    pub secret_key: SecretString,
}

impl S3Keys {
    /// Reads a credentials file: two lines, the key's id and the key; `None` when it is not that.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        match (lines.next(), lines.next(), lines.next()) {
            (Some(id), Some(secret), None) => Some(Self {
                access_key: SecretString::from(id),
                secret_key: SecretString::from(secret),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn keys_are_two_lines_and_nothing_else() {
        let keys = S3Keys::parse("id\n secret \n\n").unwrap();
        assert_eq!(keys.access_key.expose_secret(), "id");
        assert_eq!(keys.secret_key.expose_secret(), "secret");
        for bad in ["", "id\n", "id\nsecret\nmore\n"] {
            assert!(S3Keys::parse(bad).is_none());
        }
    }
}
