//! A store in an S3 bucket, by rust-s3: path style, one PUT per object, no multipart, no delete.
//! It translates names and errors and lets no request hang; when to try again is `retry`'s.

use std::time::Duration;

use ::s3::creds::Credentials;
use ::s3::error::S3Error;
use ::s3::serde_types::Object;
use ::s3::{Bucket, Region};
use async_trait::async_trait;
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};

use super::answer::Refusal;
use super::{Endpoint, ObjectInfo, ObjectStore, StoreError, StoreErrorKind, is_object_name};

/// A request without much of a body may take this long, connecting included.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// A body may take as long as it takes at this many bytes per second: half a megabit, so that
/// some uploads at a time get through a slow line.
const SLOWEST: u64 = 64 * 1024;
/// A listing with more objects than this is not one of ours.
const MAX_LISTED: usize = 2_000_000;

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

/// Objects in a bucket.
#[derive(Debug, Clone)]
pub struct S3Store {
    bucket: Box<Bucket>,
    prefix: String,
    shown: String,
    request_limit: Duration,
}

/// No answer came in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs_f32().ceil())]
struct Silence(Duration);

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
            endpoint: settings.endpoint.to_string(),
        };
        // One policy for repeats, ours: with its own, a silent store would be waited for twice.
        ::s3::set_retries(0);
        let credentials = Credentials::new(
            Some(keys.access_key.expose_secret()),
            Some(keys.secret_key.expose_secret()),
            None,
            None,
            None,
        )
        .map_err(|error| failed(Box::new(error)))?;
        let mut bucket = Bucket::new(&settings.bucket, region, credentials)
            .map_err(|error| failed(Box::new(error)))?;
        if settings.path_style {
            bucket = bucket.with_path_style();
        }
        // `answered` has the time limits; they depend on the size.
        bucket.set_request_timeout(None);
        Ok(Self {
            bucket,
            prefix: settings.prefix.clone(),
            shown,
            request_limit: REQUEST_LIMIT,
        })
    }

    pub(super) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    fn key(&self, name: &str) -> String {
        match self.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    pub(super) fn checked(&self, action: &'static str, name: &str) -> Result<String, StoreError> {
        if is_object_name(name) {
            return Ok(format!("/{}", self.key(name)));
        }
        Err(self.refused(action, name, StoreErrorKind::BadName))
    }

    pub(super) fn refused(
        &self,
        action: &'static str,
        name: &str,
        kind: StoreErrorKind,
    ) -> StoreError {
        let place = format!("{:?} in {}", self.key(name), self.shown);
        StoreError {
            action,
            place,
            kind,
            source: None,
        }
    }

    /// Waits for the answer to a request with a body of at most `bytes`, in one direction or the other.
    pub(super) async fn answered<T>(
        &self,
        action: &'static str,
        name: &str,
        bytes: u64,
        request: impl Future<Output = Result<T, S3Error>>,
    ) -> Result<T, StoreError> {
        let limit = self.request_limit + Duration::from_secs(bytes / SLOWEST);
        let (kind, source): (_, Box<dyn std::error::Error + Send + Sync>) =
            match tokio::time::timeout(limit, request).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(S3Error::HttpFailWithBody(status, body))) => {
                    let refusal = Refusal::read(status, &body);
                    (refusal.kind(), Box::new(refusal))
                }
                // The place names the URL already.
                Ok(Err(S3Error::Reqwest(error))) => {
                    (kind_of_failure(&error), Box::new(error.without_url()))
                }
                Ok(Err(error @ S3Error::Io(_))) => (UNAVAILABLE, Box::new(error)),
                Ok(Err(error)) => (StoreErrorKind::Failed, Box::new(error)),
                Err(_) => (UNAVAILABLE, Box::new(Silence(limit))),
            };
        Err(StoreError {
            source: Some(source),
            ..self.refused(action, name, kind)
        })
    }
}

/// rust-s3 keeps no headers of a failed answer, so a Retry-After header cannot be had here.
const UNAVAILABLE: StoreErrorKind = StoreErrorKind::Unavailable { retry_after: None };

/// The kind of a failure on the way to the store.
fn kind_of_failure(error: &(impl std::error::Error + 'static)) -> StoreErrorKind {
    // A certificate that is not trusted does not get better by itself.
    let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
    if causes.any(|cause| cause.to_string().contains("certificate")) {
        StoreErrorKind::Failed
    } else {
        UNAVAILABLE
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        let key = self.checked("storing", name)?;
        let request = self.bucket.put_object(&key, &bytes);
        self.answered("storing", name, bytes.len() as u64, request)
            .await
            .map(drop)
    }

    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        let key = self.checked("reading", name)?;
        // A range bounds what an object that was overwritten with something huge can cost.
        let request = async {
            match self.bucket.get_object_range(&key, 0, Some(limit)).await {
                Ok(response) => Ok(response.bytes().clone()),
                // An object without bytes has no range that could be given.
                Err(S3Error::HttpFailWithBody(416, _)) => Ok(Bytes::new()),
                Err(error) => Err(error),
            }
        };
        let bytes = self.answered("reading", name, limit, request).await?;
        if bytes.len() as u64 > limit {
            return Err(self.refused("reading", name, StoreErrorKind::TooLarge { limit }));
        }
        Ok(bytes)
    }

    async fn head(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let key = self.checked("looking for", name)?;
        let request = self.bucket.head_object(&key);
        match self.answered("looking for", name, 0, request).await {
            Ok((head, _)) => Ok(Some(
                head.content_length
                    .and_then(|length| u64::try_from(length).ok())
                    .unwrap_or(0),
            )),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let found = pages(self, prefix).await?;
        Ok(found
            .into_iter()
            .map(|(name, object)| ObjectInfo {
                name,
                size: object.size,
            })
            .collect())
    }
}

/// All objects whose names begin with `prefix`, by name, as the store describes them.
pub(super) async fn pages(
    store: &S3Store,
    prefix: &str,
) -> Result<Vec<(String, Object)>, StoreError> {
    let directory = prefix.trim_end_matches('/');
    if !directory.is_empty() && !is_object_name(directory) {
        return Err(store.refused("listing", prefix, StoreErrorKind::BadName));
    }
    let own = store.key("");
    let mut found = Vec::new();
    let mut token = None;
    loop {
        let request = store
            .bucket
            .list_page(store.key(prefix), None, token, None, None);
        let (page, _) = store.answered("listing", prefix, 0, request).await?;
        for object in page.contents {
            if let Some(name) = object.key.strip_prefix(&own) {
                found.push((name.to_owned(), object));
            }
        }
        if found.len() > MAX_LISTED {
            return Err(store.refused("listing", prefix, StoreErrorKind::Failed));
        }
        token = page.next_continuation_token;
        if token.is_none() {
            break;
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

#[cfg(test)]
#[path = "s3_tests.rs"]
mod tests;
