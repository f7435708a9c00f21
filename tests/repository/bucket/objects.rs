//! The objects of the bucket and S3's requests on them; the protocol is the `s3s` crate's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use s3s::dto::{
    CommonPrefix, DefaultRetention, DeleteMarkerEntry, DeleteObjectInput, DeleteObjectOutput,
    GetObjectInput, GetObjectLockConfigurationInput, GetObjectLockConfigurationOutput,
    GetObjectOutput, HeadObjectInput, HeadObjectOutput, ListObjectVersionsInput,
    ListObjectVersionsOutput, ListObjectsV2Input, ListObjectsV2Output, Object,
    ObjectLockConfiguration, ObjectLockRetentionMode, ObjectLockRule, ObjectVersion,
    PutObjectInput, PutObjectOutput, StreamingBlob,
};
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};

/// More than this in one page there never is; few, so that every test turns pages.
const PAGE: usize = 7;

#[derive(Debug, Clone)]
struct Version {
    id: String,
    /// None is a marker that hides.
    bytes: Option<Bytes>,
    modified: Timestamp,
    /// Whether a read is refused: it is encrypted with the key of whoever stored it.
    is_sealed: bool,
}

#[derive(Debug)]
struct State {
    /// Versions of each key, the oldest first.
    keys: BTreeMap<String, Vec<Version>>,
    now: Timestamp,
    count: usize,
    /// The newest so many are missing from listings.
    stale: usize,
    /// Days for which new objects are locked.
    lock_days: Option<i32>,
    /// Whether versions are listed at all.
    lists_versions: bool,
    /// Whether a PUT without an MD5 is refused.
    wants_md5: bool,
}

/// Everything in the bucket.
#[derive(Debug)]
pub struct Objects {
    admin: &'static str,
    state: Mutex<State>,
}

/// Ends a stale listing.
pub struct Stale<'a>(&'a Objects);

impl Drop for Stale<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().stale = 0;
    }
}

impl Objects {
    pub fn new(admin: &'static str) -> Arc<Self> {
        Arc::new(Self {
            admin,
            state: Mutex::new(State {
                keys: BTreeMap::new(),
                now: Timestamp::now(),
                count: 0,
                stale: 0,
                lock_days: None,
                wants_md5: false,
                lists_versions: true,
            }),
        })
    }

    pub fn service(self: Arc<Self>) -> Service {
        Service(self)
    }

    /// Lets time pass in the store.
    pub fn wait(&self, hours: i64) {
        self.state.lock().unwrap().now += SignedDuration::from_hours(hours);
    }

    pub fn now(&self) -> Timestamp {
        self.state.lock().unwrap().now
    }

    /// Locks new objects for so many days.
    pub fn lock(&self, days: i32) {
        self.state.lock().unwrap().lock_days = Some(days);
    }

    /// Refuses what is stored without an MD5.
    pub fn want_md5(&self) {
        self.state.lock().unwrap().wants_md5 = true;
    }

    /// Like Garage: there is no listing of versions.
    pub fn list_no_versions(&self) {
        self.state.lock().unwrap().lists_versions = false;
    }

    pub(super) fn stale(&self, missing: usize) -> Stale<'_> {
        self.state.lock().unwrap().stale = missing;
        Stale(self)
    }

    /// Stores a version that nobody else may read, as a PUT with a key of one's own (SSE-C) does.
    pub fn put_sealed(&self, name: &str, bytes: &'static [u8]) {
        let mut state = self.state.lock().unwrap();
        let key = format!("node/a/{name}");
        state.add(&key, Some(Bytes::from_static(bytes)));
        let version = state.keys.get_mut(&key).and_then(|all| all.last_mut());
        version.unwrap().is_sealed = true;
    }

    /// How many versions there are, markers included.
    pub fn versions(&self) -> usize {
        let state = self.state.lock().unwrap();
        state.keys.values().map(Vec::len).sum()
    }
}

impl State {
    fn add(&mut self, key: &str, bytes: Option<Bytes>) -> String {
        self.now += SignedDuration::from_millis(1);
        self.count += 1;
        // As B2's: letters and digits that a query has to escape are among them.
        let id = format!("4_z{:06}+/=&v", self.count);
        let version = Version {
            id: id.clone(),
            bytes,
            modified: self.now,
            is_sealed: false,
        };
        self.keys.entry(key.to_owned()).or_default().push(version);
        id
    }

    /// What a plain read, or one by version, gets.
    fn find(&self, key: &str, id: Option<&str>) -> Option<&Version> {
        let versions = self.keys.get(key)?;
        match id {
            None => versions.last(),
            Some(id) => versions.iter().find(|version| version.id == id),
        }
    }

    /// The number of a version in the order of storing.
    fn number(version: &Version) -> usize {
        version.id[3..9].parse().unwrap()
    }

    fn is_listed(&self, version: &Version) -> bool {
        Self::number(version) + self.stale <= self.count
    }
}

fn time(timestamp: Timestamp) -> s3s::dto::Timestamp {
    SystemTime::from(timestamp).into()
}

/// A page of what keys have in common up to the next slash, and where the next page goes on.
fn directories<'a>(
    keys: impl Iterator<Item = &'a String>,
    prefix: &str,
    after: &str,
) -> (Vec<CommonPrefix>, Option<String>) {
    let mut found: Vec<String> = keys
        .filter_map(|key| {
            let (directory, _) = key.strip_prefix(prefix)?.split_once('/')?;
            Some(format!("{prefix}{directory}/"))
        })
        .filter(|directory| directory.as_str() > after)
        .collect();
    found.dedup();
    let next = (found.len() > PAGE).then(|| found[PAGE - 1].clone());
    found.truncate(PAGE);
    let page = found.into_iter().map(|directory| CommonPrefix {
        prefix: Some(directory),
    });
    (page.collect(), next)
}

fn length(bytes: &Bytes) -> Option<i64> {
    i64::try_from(bytes.len()).ok()
}

/// S3's requests.
pub struct Service(Arc<Objects>);

#[async_trait]
impl S3 for Service {
    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        if input.if_none_match.is_some() || input.if_match.is_some() {
            return Err(s3_error!(NotImplemented, "no conditional writes"));
        }
        if self.0.state.lock().unwrap().wants_md5 && input.content_md5.is_none() {
            return Err(s3_error!(
                InvalidRequest,
                "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests \
                 with Object Lock parameters"
            ));
        }
        let bytes = match input.body {
            Some(body) => Body::from(body).collect().await,
            None => Body::empty().collect().await,
        };
        let bytes = bytes.map_err(|_| s3_error!(IncompleteBody))?.to_bytes();
        let id = self.0.state.lock().unwrap().add(&input.key, Some(bytes));
        Ok(S3Response::new(PutObjectOutput {
            version_id: Some(id),
            ..PutObjectOutput::default()
        }))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let state = self.0.state.lock().unwrap();
        let found = state.find(&input.key, input.version_id.as_deref());
        let (bytes, version) = found
            .and_then(|version| Some((version.bytes.clone()?, version)))
            .ok_or_else(|| s3_error!(NoSuchKey))?;
        if version.is_sealed {
            let words = "The object was stored using a form of Server Side Encryption.";
            return Err(s3_error!(InvalidRequest, "{words}"));
        }
        let mut content_range = None;
        let whole = bytes.len();
        let part = match input.range {
            None => bytes,
            Some(range) => {
                let range = range
                    .check(whole as u64)
                    .map_err(|_| s3_error!(InvalidRange))?;
                content_range = Some(format!("bytes {}-{}/{whole}", range.start, range.end - 1));
                bytes.slice(
                    usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap(),
                )
            }
        };
        Ok(S3Response::new(GetObjectOutput {
            content_length: length(&part),
            content_range,
            last_modified: Some(time(version.modified)),
            version_id: Some(version.id.clone()),
            body: Some(StreamingBlob::from(Body::from(part))),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let state = self.0.state.lock().unwrap();
        let found = state.find(&input.key, input.version_id.as_deref());
        let bytes = found.and_then(|version| version.bytes.as_ref());
        let bytes = bytes.ok_or_else(|| s3_error!(NoSuchKey))?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: length(bytes),
            ..HeadObjectOutput::default()
        }))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let by = request
            .credentials
            .map(|credentials| credentials.access_key);
        let input = request.input;
        let mut state = self.0.state.lock().unwrap();
        let Some(id) = input.version_id else {
            state.add(&input.key, None);
            return Ok(S3Response::new(DeleteObjectOutput::default()));
        };
        if by.as_deref() != Some(self.0.admin) || state.lock_days.is_some() {
            return Err(s3_error!(AccessDenied, "not entitled"));
        }
        if let Some(versions) = state.keys.get_mut(&input.key) {
            versions.retain(|version| version.id != id);
            if versions.is_empty() {
                state.keys.remove(&input.key);
            }
        }
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let state = self.0.state.lock().unwrap();
        let prefix = input.prefix.unwrap_or_default();
        let after = input.continuation_token.unwrap_or_default();
        if input.delimiter.is_some() {
            let all = state.keys.iter().filter(|(_, versions)| {
                versions
                    .last()
                    .is_some_and(|version| version.bytes.is_some())
            });
            let (page, next) = directories(all.map(|(key, _)| key), &prefix, &after);
            return Ok(S3Response::new(ListObjectsV2Output {
                is_truncated: Some(next.is_some()),
                next_continuation_token: next,
                common_prefixes: Some(page),
                ..ListObjectsV2Output::default()
            }));
        }
        let mut contents: Vec<Object> = state
            .keys
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix) && **key > after)
            .filter_map(|(key, versions)| {
                let listed = versions
                    .iter()
                    .rev()
                    .find(|version| state.is_listed(version))?;
                Some(Object {
                    key: Some(key.clone()),
                    size: length(listed.bytes.as_ref()?),
                    last_modified: Some(time(listed.modified)),
                    ..Object::default()
                })
            })
            .take(PAGE + 1)
            .collect();
        let is_truncated = contents.len() > PAGE;
        contents.truncate(PAGE);
        let last = contents.last().and_then(|object| object.key.clone());
        Ok(S3Response::new(ListObjectsV2Output {
            next_continuation_token: last.filter(|_| is_truncated),
            is_truncated: Some(is_truncated),
            contents: Some(contents),
            prefix: Some(prefix),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = request.input;
        let state = self.0.state.lock().unwrap();
        if !state.lists_versions {
            return Err(s3_error!(NotImplemented));
        }
        let prefix = input.prefix.unwrap_or_default();
        let after = (
            input.key_marker.unwrap_or_default(),
            input.version_id_marker.unwrap_or_default(),
        );
        if input.delimiter.is_some() {
            let (page, next) = directories(state.keys.keys(), &prefix, &after.0);
            return Ok(S3Response::new(ListObjectVersionsOutput {
                is_truncated: Some(next.is_some()),
                next_key_marker: next,
                common_prefixes: Some(page),
                ..ListObjectVersionsOutput::default()
            }));
        }
        // By key, the newest first; a page may end inside a key.
        let all: Vec<(&String, &Version, bool)> = state
            .keys
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix))
            .flat_map(|(key, versions)| {
                let newest = versions.len() - 1;
                let numbered = versions.iter().enumerate().rev();
                numbered.map(move |(number, version)| (key, version, number == newest))
            })
            .filter(|(_, version, _)| state.is_listed(version))
            .collect();
        let begin = all
            .iter()
            .position(|(key, version, _)| (&after.0, &after.1) == (*key, &version.id))
            .map_or(0, |last| last + 1);
        let page = &all[begin..all.len().min(begin + PAGE)];
        let is_truncated = begin + PAGE < all.len();
        let last = page.last().filter(|_| is_truncated);
        let (mut versions, mut markers) = (Vec::new(), Vec::new());
        for &(key, version, is_latest) in page {
            match &version.bytes {
                Some(bytes) => versions.push(ObjectVersion {
                    key: Some(key.clone()),
                    version_id: Some(version.id.clone()),
                    is_latest: Some(is_latest),
                    last_modified: Some(time(version.modified)),
                    size: length(bytes),
                    ..ObjectVersion::default()
                }),
                None => markers.push(DeleteMarkerEntry {
                    key: Some(key.clone()),
                    version_id: Some(version.id.clone()),
                    is_latest: Some(is_latest),
                    last_modified: Some(time(version.modified)),
                    ..DeleteMarkerEntry::default()
                }),
            }
        }
        Ok(S3Response::new(ListObjectVersionsOutput {
            next_key_marker: last.map(|(key, _, _)| (*key).clone()),
            next_version_id_marker: last.map(|(_, version, _)| version.id.clone()),
            is_truncated: Some(is_truncated),
            versions: Some(versions),
            delete_markers: Some(markers),
            ..ListObjectVersionsOutput::default()
        }))
    }

    async fn get_object_lock_configuration(
        &self,
        _: S3Request<GetObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
        let Some(days) = self.0.state.lock().unwrap().lock_days else {
            return Err(s3_error!(ObjectLockConfigurationNotFoundError));
        };
        let rule = ObjectLockRule {
            default_retention: Some(DefaultRetention {
                days: Some(days),
                mode: Some(ObjectLockRetentionMode::from_static("COMPLIANCE")),
                years: None,
            }),
        };
        Ok(S3Response::new(GetObjectLockConfigurationOutput {
            object_lock_configuration: Some(ObjectLockConfiguration {
                object_lock_enabled: None,
                rule: Some(rule),
            }),
        }))
    }
}
