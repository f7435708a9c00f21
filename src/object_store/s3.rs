//! A store in an S3 bucket, signed by rust-s3: one PUT per object, no multipart, no delete.
//! It translates names and errors and lets no request hang; when to try again is `retry`'s.

use std::sync::Arc;

use ::s3::command::Command;
use ::s3::creds::Credentials;
use ::s3::{Bucket, Region};
use async_trait::async_trait;
use bytes::Bytes;
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;

use super::pace::Pace;
use super::s3_listing::{self, ListedVersion, ObjectsPage, VersionsPage};
use super::s3_request::{Answer, Body, Courier, Question};
use super::s3_settings::{S3Keys, S3Settings};
use super::{ObjectInfo, ObjectStore, ObjectVersion, StoreError, StoreErrorKind, is_object_name};

/// A listing with more objects than this is not one of ours.
const MAX_LISTED: usize = 2_000_000;
/// Longest page of a listing: a thousand names of 1 KiB, and as much again about each.
const MAX_PAGE: u64 = 8 << 20;
/// Longest answer that only says that something was done.
const MAX_DONE: u64 = 64 << 10;

/// Objects in a bucket.
#[derive(Debug, Clone)]
pub struct S3Store {
    pub(super) courier: Courier,
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
            endpoint: settings.endpoint.to_string(),
        };
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
        Ok(Self {
            courier: Courier {
                bucket,
                pace: Pace::new(settings.uploads),
                answer_within: settings.answer_within,
                wants_md5: Arc::default(),
            },
            prefix: settings.prefix.clone(),
            shown,
        })
    }

    pub(super) fn key(&self, name: &str) -> String {
        match self.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    pub(super) fn refused(
        &self,
        action: &'static str,
        name: &str,
        kind: StoreErrorKind,
    ) -> StoreError {
        StoreError {
            action,
            place: self.place(name),
            kind,
            source: None,
        }
    }

    fn place(&self, name: &str) -> String {
        format!("{:?} in {}", self.key(name), self.shown)
    }

    /// Asks something about one object.
    pub(super) async fn object(
        &self,
        action: &'static str,
        name: &str,
        command: Command<'_>,
        version: Option<&str>,
        limit: u64,
    ) -> Result<Answer, StoreError> {
        let body = Body::default();
        self.send(action, name, command, version, body, limit).await
    }

    async fn send(
        &self,
        action: &'static str,
        name: &str,
        command: Command<'_>,
        version: Option<&str>,
        body: Body,
        limit: u64,
    ) -> Result<Answer, StoreError> {
        if !is_object_name(name) {
            return Err(self.refused(action, name, StoreErrorKind::BadName));
        }
        let version = version.map(|version| ("versionId", version));
        self.courier
            .ask(Question {
                action,
                place: self.place(name),
                key: &self.key(name),
                command,
                query: version.as_slice(),
                body,
                limit,
            })
            .await
    }

    /// Stores an object; with `if_absent` only where there is none, if the store knows that.
    pub(super) async fn store(
        &self,
        name: &str,
        body: Body,
        if_absent: bool,
    ) -> Result<(), StoreError> {
        let custom_headers = if_absent.then(|| {
            [(
                reqwest::header::IF_NONE_MATCH,
                reqwest::header::HeaderValue::from_static("*"),
            )]
            .into_iter()
            .collect()
        });
        let content = body.bytes.clone();
        let command = Command::PutObject {
            content: &content,
            content_type: "application/octet-stream",
            custom_headers,
            multipart: None,
        };
        let _turn = self.courier.pace.turn().await;
        self.send("storing", name, command, None, body, MAX_DONE)
            .await
            .map(drop)
    }

    /// Asks something about the bucket.
    pub(super) async fn of_bucket(
        &self,
        action: &'static str,
        shown: &str,
        query: &[(&str, &str)],
    ) -> Result<Answer, StoreError> {
        self.courier
            .ask(Question {
                action,
                place: self.place(shown),
                key: "",
                command: Command::GetObject,
                query,
                body: Body::default(),
                limit: MAX_PAGE,
            })
            .await
    }

    pub(super) async fn page<P: DeserializeOwned>(
        &self,
        prefix: &str,
        query: &[(&str, &str)],
    ) -> Result<P, StoreError> {
        let key = self.key(prefix);
        let query: Vec<_> = [("prefix", key.as_str())]
            .into_iter()
            .chain(query.iter().copied())
            .collect();
        let answer = self.of_bucket("listing", prefix, &query).await?;
        s3_listing::read(&answer.body).map_err(|error| StoreError {
            source: Some(Box::new(error)),
            ..self.refused("listing", prefix, StoreErrorKind::Failed)
        })
    }

    fn check_prefix(&self, prefix: &str) -> Result<(), StoreError> {
        let directory = prefix.trim_end_matches('/');
        if directory.is_empty() || is_object_name(directory) {
            return Ok(());
        }
        Err(self.refused("listing", prefix, StoreErrorKind::BadName))
    }

    /// The name of a listed key; none where the store lists what was not asked for.
    pub(super) fn name(&self, key: &str, prefix: &str) -> Option<String> {
        let name = key.strip_prefix(&self.key(""))?;
        name.starts_with(prefix).then(|| name.to_owned())
    }

    /// All objects whose names begin with `prefix`, in order, with when they were stored.
    async fn objects(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        self.check_prefix(prefix)?;
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut query = vec![("list-type", "2")];
            query.extend(token.as_deref().map(|token| ("continuation-token", token)));
            let page: ObjectsPage = self.page(prefix, &query).await?;
            for object in page.contents {
                found.extend(self.name(&object.key, prefix).map(|name| ObjectVersion {
                    name,
                    version: None,
                    size: object.size,
                    modified: object.last_modified,
                    is_latest: true,
                    is_delete_marker: false,
                }));
            }
            let next = page.next_continuation_token.filter(|next| !next.is_empty());
            self.check_progress(prefix, found.len(), next.is_some() && next == token)?;
            token = next;
            if token.is_none() {
                break;
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// All versions whose names begin with `prefix`; an error where the store has no such listing.
    async fn versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        self.check_prefix(prefix)?;
        let mut found = Vec::new();
        let mut after: (Option<String>, Option<String>) = (None, None);
        loop {
            let mut query = vec![("versions", "")];
            query.extend(after.0.as_deref().map(|key| ("key-marker", key)));
            query.extend(after.1.as_deref().map(|id| ("version-id-marker", id)));
            let page: VersionsPage = self.page(prefix, &query).await?;
            let markers = page.markers.into_iter().map(|marker| (marker, true));
            let versions = page.versions.into_iter().map(|version| (version, false));
            for (version, is_delete_marker) in markers.chain(versions) {
                found.extend(self.version(version, prefix, is_delete_marker));
            }
            let next = (page.next_key_marker, page.next_version_id_marker);
            self.check_progress(prefix, found.len(), page.is_truncated && next == after)?;
            if !page.is_truncated {
                break;
            }
            after = next;
        }
        // The store begins with the newest; where two have the same time, that order says which is older.
        found.reverse();
        found.sort_by(|a, b| {
            let rank = |v: &ObjectVersion| (v.modified, v.is_latest);
            a.name.cmp(&b.name).then_with(|| rank(a).cmp(&rank(b)))
        });
        Ok(found)
    }

    fn version(
        &self,
        listed: ListedVersion,
        prefix: &str,
        is_delete_marker: bool,
    ) -> Option<ObjectVersion> {
        // What was stored without versioning has the version `null`, which not every server takes
        // back; while it is the latest, its name means the same. (Where versioning was turned on
        // since, deleting it takes two rounds: the first one hides it.)
        let by_name = listed.is_latest && !is_delete_marker;
        let is_needed = |id: &String| match id.as_str() {
            "" => false,
            "null" => !by_name,
            _ => true,
        };
        Some(ObjectVersion {
            name: self.name(&listed.key, prefix)?,
            version: listed.version_id.filter(is_needed),
            size: listed.size,
            modified: listed.last_modified,
            is_latest: listed.is_latest,
            is_delete_marker,
        })
    }

    /// Refuses a listing without end.
    pub(super) fn check_progress(
        &self,
        prefix: &str,
        found: usize,
        stuck: bool,
    ) -> Result<(), StoreError> {
        if found > MAX_LISTED || stuck {
            return Err(self.refused("listing", prefix, StoreErrorKind::Failed));
        }
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.store(name, bytes.into(), false).await
    }

    async fn put_hashed(
        &self,
        name: &str,
        bytes: Bytes,
        sha256: [u8; 32],
    ) -> Result<(), StoreError> {
        let sha256 = Some(sha256);
        self.store(name, Body { bytes, sha256 }, false).await
    }

    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        let command = Command::GetObject;
        let answer = self.object("reading", name, command, None, limit).await?;
        Ok(answer.body)
    }

    async fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StoreError> {
        // A request cannot ask for no bytes.
        let Some(last) = length.checked_sub(1) else {
            return Ok(Bytes::new());
        };
        let command = Command::GetObjectRange {
            start: offset,
            end: Some(offset.saturating_add(last)),
        };
        match self.object("reading", name, command, None, length).await {
            Ok(answer) if answer.status == 206 || offset == 0 => Ok(answer.body),
            Ok(_) => Err(self.refused("reading", name, StoreErrorKind::Unsupported)),
            Err(error) if error.kind == StoreErrorKind::BeyondEnd => Ok(Bytes::new()),
            Err(error) => Err(error),
        }
    }

    async fn head(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let command = Command::HeadObject;
        match self.object("looking for", name, command, None, 0).await {
            Ok(answer) => {
                let length = answer.header("content-length");
                Ok(Some(length.and_then(|it| it.parse().ok()).unwrap_or(0)))
            }
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let found = self.objects(prefix).await?.into_iter();
        Ok(found
            .map(|object| ObjectInfo {
                name: object.name,
                size: object.size,
            })
            .collect())
    }

    async fn list_versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        match self.versions(prefix).await {
            // Garage has no versions at all, so what it lists is all there is.
            Err(error) if error.kind == StoreErrorKind::Unsupported => self.objects(prefix).await,
            listed => listed,
        }
    }

    async fn list_directories(&self) -> Result<Vec<String>, StoreError> {
        self.directories().await
    }

    async fn get_version(&self, version: &ObjectVersion, limit: u64) -> Result<Bytes, StoreError> {
        let id = version.version.as_deref();
        let command = Command::GetObject;
        let answer = self
            .object("reading", &version.name, command, id, limit)
            .await?;
        Ok(answer.body)
    }
}

#[cfg(test)]
#[path = "s3_tests.rs"]
mod tests;
