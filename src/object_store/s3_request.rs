//! One signed request to an S3 server and its answer: rust-s3 signs, this sends and keeps what rust-s3 drops.
//! Versions, Retry-After and bounded bodies come from here; what an answer means is the callers'.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::s3::Bucket;
use ::s3::command::{Command, HttpMethod};
use ::s3::error::S3Error;
use ::s3::request::Request as _;
use ::s3::request::tokio_backend::ReqwestRequest;
use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_LENGTH, DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, Url};

use super::answer::{Refusal, retry_after};
use super::pace::Pace;
use super::s3_sign::{headers_for, wants_md5};
use super::{StoreError, StoreErrorKind};

/// A body may take as long as it takes at this many bytes per second: half a megabit, so that
/// some uploads at a time get through a slow line.
const SLOWEST: u64 = 64 * 1024;
/// Longest refusal that is read; S3's are a few hundred bytes.
const MAX_REFUSAL: u64 = 64 * 1024;

/// What is asked, and of what.
pub(super) struct Question<'a> {
    /// What the operator reads if it fails: `reading`, `storing`, …
    pub action: &'static str,
    /// Object or prefix, as errors name it.
    pub place: String,
    /// The object's key, or empty for the bucket itself.
    pub key: &'a str,
    /// The request, as rust-s3 knows it.
    pub command: Command<'a>,
    /// Further parameters, such as `versionId`.
    pub query: &'a [(&'a str, &'a str)],
    /// What is sent along.
    pub body: Body,
    /// The most that an answer may hold, in bytes.
    pub limit: u64,
}

/// What is sent along with a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Body {
    pub bytes: Bytes,
    /// Its digest, where that is known.
    pub sha256: Option<[u8; 32]>,
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self {
            bytes,
            sha256: None,
        }
    }
}

/// An answer that was no refusal.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// A header's text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// No answer came in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs_f32().ceil())]
struct Silence(Duration);

/// A failure before it has a place.
struct Failure {
    kind: StoreErrorKind,
    /// Whether it is a refusal for want of an MD5.
    wants_md5: bool,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Sends requests for one bucket.
#[derive(Debug, Clone)]
pub(super) struct Courier {
    pub bucket: Box<Bucket>,
    pub pace: Pace,
    /// A request without much of a body may take this long.
    pub answer_within: Duration,
    /// Whether the bucket has asked for an MD5 of what it is sent; clones share it.
    pub wants_md5: Arc<AtomicBool>,
}

impl Courier {
    /// Asks, once, and reads the answer; a refusal is an error. The answer has to begin in good time
    /// after the request was sent, and to end in good time after that.
    pub(super) async fn ask(&self, question: Question<'_>) -> Result<Answer, StoreError> {
        let mut outcome = self.exchange(&question).await;
        if let Err(failure) = &outcome
            && failure.wants_md5
            && !self.wants_md5.swap(true, Ordering::Relaxed)
        {
            outcome = self.exchange(&question).await;
        }
        outcome.map_err(|failure| StoreError {
            action: question.action,
            place: question.place,
            kind: failure.kind,
            source: failure.source,
        })
    }

    /// The longest that something with a body of so many bytes may take.
    fn time_for(&self, bytes: u64) -> Duration {
        self.answer_within + Duration::from_secs(bytes / SLOWEST)
    }

    /// The URL of a request, and its headers with the signature.
    async fn signed(
        &self,
        bucket: &Bucket,
        path: &str,
        question: &Question<'_>,
    ) -> Result<(Url, HeaderMap), S3Error> {
        let Body { bytes, sha256 } = &question.body;
        let mut command = question.command.clone();
        if let (Some(sha256), Command::PutObject { content, .. }) = (sha256, &mut command)
            && !self.wants_md5.load(Ordering::Relaxed)
        {
            *content = &[];
            let empty = ReqwestRequest::new(bucket, path, command).await?;
            let headers = headers_for(&empty, bytes.len(), *sha256).await?;
            return Ok((empty.url()?, headers));
        }
        let signed = ReqwestRequest::new(bucket, path, command).await?;
        Ok((signed.url()?, signed.headers().await?))
    }

    async fn exchange(&self, question: &Question<'_>) -> Result<Answer, Failure> {
        let query: HashMap<String, String> = question
            .query
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let bucket = self.bucket.with_extra_query(query)?;
        let path = format!("/{}", question.key);
        let (url, headers) = self.signed(&bucket, &path, question).await?;
        let method = match question.command.http_verb() {
            HttpMethod::Delete => Method::DELETE,
            HttpMethod::Get => Method::GET,
            HttpMethod::Post => Method::POST,
            HttpMethod::Put => Method::PUT,
            HttpMethod::Head => Method::HEAD,
        };
        let mut request = bucket.http_client().request(method, url).headers(headers);
        let body = &question.body.bytes;
        if !body.is_empty() {
            request = request.body(self.pace.body(body.clone()));
        }
        let sent = body.len() as u64;
        let limit = self.time_for(sent) + self.pace.time_for(sent);
        let answer = within(limit, request.send()).await??;
        let status = answer.status();
        let headers = answer.headers().clone();
        if status.is_success() {
            // A HEAD's length is that of a body that does not come.
            let body = if question.command.http_verb() == HttpMethod::Head {
                Bytes::new()
            } else {
                let limit = self.time_for(question.limit);
                within(limit, bounded(answer, question.limit)).await??
            };
            return Ok(Answer {
                status: status.as_u16(),
                headers,
                body,
            });
        }
        // What cannot be read of a refusal leaves its status, which says enough.
        let read = within(self.answer_within, bounded(answer, MAX_REFUSAL)).await;
        let body = read.and_then(|body| body).unwrap_or_default();
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let wait = text(RETRY_AFTER).and_then(|value| retry_after(value, text(DATE)));
        let refusal = Refusal::read(status.as_u16(), &String::from_utf8_lossy(&body));
        Err(Failure {
            kind: refusal.kind(wait),
            wants_md5: wants_md5(status.as_u16(), &refusal.to_string()),
            source: Some(Box::new(refusal)),
        })
    }
}

/// Waits no longer than `limit`.
async fn within<T>(limit: Duration, waiting: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::time::timeout(limit, waiting)
        .await
        .map_err(|_| Failure {
            kind: UNAVAILABLE,
            wants_md5: false,
            source: Some(Box::new(Silence(limit))),
        })
}

/// Reads a body of at most `limit` bytes.
async fn bounded(mut answer: reqwest::Response, limit: u64) -> Result<Bytes, Failure> {
    let too_large = || Failure {
        kind: StoreErrorKind::TooLarge { limit },
        wants_md5: false,
        source: None,
    };
    let announced = answer.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let expected = announced.and_then(|length| usize::try_from(length).ok());
    let mut body = BytesMut::with_capacity(expected.unwrap_or_default());
    while let Some(piece) = answer.chunk().await? {
        if (body.len() + piece.len()) as u64 > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

const UNAVAILABLE: StoreErrorKind = StoreErrorKind::Unavailable { retry_after: None };

impl From<S3Error> for Failure {
    fn from(error: S3Error) -> Self {
        Self {
            kind: StoreErrorKind::Failed,
            wants_md5: false,
            source: Some(Box::new(error)),
        }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self {
            kind: kind_of_failure(&error),
            wants_md5: false,
            // The place names the URL already.
            source: Some(Box::new(error.without_url())),
        }
    }
}

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
