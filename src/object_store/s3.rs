//! A store in an S3 bucket, by rust-s3: path style, one PUT per object, no multipart, no delete.
//! It translates names and errors; when to try again is `retry`'s.

use std::error::Error as _;
use std::time::Duration;

use ::s3::creds::Credentials;
use ::s3::error::S3Error;
use ::s3::{Bucket, Region};
use async_trait::async_trait;
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};

use super::{ObjectInfo, ObjectStore, StoreError, StoreErrorKind, is_object_name};

/// One request may take this long: 16 MiB at about 1 Mbit/s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(150);
/// A listing with more objects than this is not one of ours.
const MAX_LISTED: usize = 2_000_000;

/// Which bucket, where.
#[derive(Debug, Clone)]
pub struct S3Settings {
    /// The bucket's name.
    pub bucket: String,
    /// What all names begin with; empty, or without `/` at either end.
    pub prefix: String,
    /// `https://s3.eu-central-003.backblazeb2.com`, `http://127.0.0.1:3900`.
    pub endpoint: String,
    /// The region to sign for.
    pub region: String,
    /// The bucket's name goes into the path instead of the host name.
    pub path_style: bool,
}

/// The key to the bucket; never printed.
#[derive(Debug, Clone)]
pub struct S3Keys {
    /// The key's id.
    pub access_key: SecretString,
    /// The key itself.
    pub secret_key: SecretString,
}

/// Objects in a bucket.
#[derive(Debug, Clone)]
pub struct S3Store {
    bucket: Box<Bucket>,
    prefix: String,
    shown: String,
}

impl S3Store {
    /// A store; nothing is sent yet.
    ///
    /// # Errors
    /// The settings make no client.
    pub fn new(settings: &S3Settings, keys: &S3Keys) -> Result<Self, StoreError> {
        let shown = format!("s3://{} at {}", settings.bucket, settings.endpoint);
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| StoreError {
            action: "opening",
            place: shown.clone(),
            kind: StoreErrorKind::Failed,
            source: Some(source),
        };
        let region = Region::Custom {
            region: settings.region.clone(),
            endpoint: settings.endpoint.trim_end_matches('/').to_owned(),
        };
        let credentials = Credentials::new(
            Some(keys.access_key.expose_secret()),
            Some(keys.secret_key.expose_secret()),
            None,
            None,
            None,
        )
        .map_err(|error| failed(Box::new(error)))?;
        let bucket = Bucket::new(&settings.bucket, region, credentials)
            .map(|bucket| {
                if settings.path_style {
                    bucket.with_path_style()
                } else {
                    bucket
                }
            })
            .and_then(|bucket| bucket.with_request_timeout(REQUEST_TIMEOUT))
            .map_err(|error| failed(Box::new(error)))?;
        Ok(Self {
            bucket,
            prefix: settings.prefix.clone(),
            shown,
        })
    }

    fn key(&self, name: &str) -> String {
        match self.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    fn checked(&self, action: &'static str, name: &str) -> Result<String, StoreError> {
        if is_object_name(name) {
            return Ok(format!("/{}", self.key(name)));
        }
        Err(self.refused(action, name, StoreErrorKind::BadName))
    }

    fn refused(&self, action: &'static str, name: &str, kind: StoreErrorKind) -> StoreError {
        let place = format!("{:?} in {}", self.key(name), self.shown);
        StoreError {
            action,
            place,
            kind,
            source: None,
        }
    }

    fn error(&self, action: &'static str, name: &str, source: S3Error) -> StoreError {
        let kind = kind_of(&source);
        StoreError {
            source: Some(Box::new(source)),
            ..self.refused(action, name, kind)
        }
    }
}

/// rust-s3 keeps no headers of a failed answer, so a Retry-After header cannot be had here.
fn kind_of(error: &S3Error) -> StoreErrorKind {
    let unavailable = StoreErrorKind::Unavailable { retry_after: None };
    match error {
        S3Error::HttpFailWithBody(status, body) => kind_of_status(*status, body),
        S3Error::Reqwest(error) if error.is_builder() => StoreErrorKind::Failed,
        S3Error::Reqwest(error) => {
            // A certificate that is not trusted does not get better by itself.
            let mut cause = error.source();
            while let Some(inner) = cause {
                if inner.to_string().contains("certificate") {
                    return StoreErrorKind::Failed;
                }
                cause = inner.source();
            }
            unavailable
        }
        S3Error::Io(_) => unavailable,
        _ => StoreErrorKind::Failed,
    }
}

fn kind_of_status(status: u16, body: &str) -> StoreErrorKind {
    match status {
        404 => StoreErrorKind::NotFound,
        // B2 answers 403 when the account's cap is reached.
        403 if body.contains("cap_exceeded") || body.contains("QuotaExceeded") => {
            StoreErrorKind::Full
        }
        401 | 403 => StoreErrorKind::Denied,
        408 | 425 | 429 | 500 | 502 | 503 | 504 => {
            StoreErrorKind::Unavailable { retry_after: None }
        }
        507 => StoreErrorKind::Full,
        _ => StoreErrorKind::Failed,
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        let key = self.checked("storing", name)?;
        self.bucket
            .put_object(&key, &bytes)
            .await
            .map(drop)
            .map_err(|error| self.error("storing", name, error))
    }

    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        let key = self.checked("reading", name)?;
        // A range bounds what an object that was overwritten with something huge can cost.
        let response = self
            .bucket
            .get_object_range(&key, 0, Some(limit))
            .await
            .map_err(|error| self.error("reading", name, error))?;
        if response.bytes().len() as u64 > limit {
            return Err(self.refused("reading", name, StoreErrorKind::TooLarge { limit }));
        }
        Ok(response.bytes().clone())
    }

    async fn head(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let key = self.checked("looking for", name)?;
        match self.bucket.head_object(&key).await {
            Ok((_, 404)) => Ok(None),
            Ok((head, 200..=299)) => Ok(Some(
                head.content_length
                    .and_then(|n| u64::try_from(n).ok())
                    .unwrap_or(0),
            )),
            Ok((_, status)) => Err(self.refused("looking for", name, kind_of_status(status, ""))),
            Err(error) => match self.error("looking for", name, error) {
                StoreError {
                    kind: StoreErrorKind::NotFound,
                    ..
                } => Ok(None),
                error => Err(error),
            },
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let directory = prefix.trim_end_matches('/');
        if !directory.is_empty() && !is_object_name(directory) {
            return Err(self.refused("listing", prefix, StoreErrorKind::BadName));
        }
        let own = self.key("");
        let mut found = Vec::new();
        let mut token = None;
        loop {
            let (page, _) = self
                .bucket
                .list_page(self.key(prefix), None, token, None, None)
                .await
                .map_err(|error| self.error("listing", prefix, error))?;
            for object in page.contents {
                if let Some(name) = object.key.strip_prefix(&own) {
                    found.push(ObjectInfo {
                        name: name.to_owned(),
                        size: object.size,
                    });
                }
            }
            if found.len() > MAX_LISTED {
                return Err(self.refused("listing", prefix, StoreErrorKind::Failed));
            }
            token = page.next_continuation_token;
            if token.is_none() {
                break;
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }
}

#[cfg(test)]
#[path = "s3_tests.rs"]
mod tests;
