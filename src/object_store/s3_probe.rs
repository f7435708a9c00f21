//! What only a bucket can be asked by the probe: conditional writes, its lock, its clock.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;

use super::probe::{PROBE_PREFIX, Probed};
use super::{S3Store, StoreError, StoreErrorKind, s3_listing};

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectLockConfiguration.html>
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LockConfiguration {
    rule: Option<LockRule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LockRule {
    default_retention: Option<Retention>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Retention {
    #[serde(default)]
    mode: String,
    days: Option<u32>,
    years: Option<u32>,
}

impl LockConfiguration {
    fn shown(self) -> Option<String> {
        let retention = self.rule?.default_retention?;
        let time = match (retention.days, retention.years) {
            (Some(days), _) => format!("{days} days"),
            (None, Some(years)) => format!("{years} years"),
            (None, None) => return None,
        };
        let mode: String = retention.mode.chars().take(20).collect();
        Some(format!("{time}, {}", mode.to_ascii_lowercase()))
    }
}

#[async_trait]
impl Probed for S3Store {
    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.store(name, bytes.into(), true).await
    }

    async fn default_lock(&self) -> Result<Option<String>, StoreError> {
        let query = [("object-lock", "")];
        let answer = match self.of_bucket("asking", PROBE_PREFIX, &query).await {
            // A bucket without a lock has no configuration of one.
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
            answer => answer?,
        };
        let read: Result<LockConfiguration, _> = s3_listing::read(&answer.body);
        read.map(LockConfiguration::shown)
            .map_err(|error| StoreError {
                source: Some(Box::new(error)),
                ..self.refused("asking", PROBE_PREFIX, StoreErrorKind::Failed)
            })
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        let key = self.key(PROBE_PREFIX);
        let query = [("list-type", "2"), ("max-keys", "1"), ("prefix", &key)];
        let answer = self.of_bucket("asking", PROBE_PREFIX, &query).await?;
        let date = answer.header("date").map(httpdate::parse_http_date);
        let time: Option<SystemTime> = date.and_then(Result::ok);
        Ok(time.and_then(|time| Timestamp::try_from(time).ok()))
    }

    async fn hide(&self, name: &str) -> Result<(), StoreError> {
        self.delete(name, None).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_lock_is_told_in_words() {
        let read = |text: &str| {
            let read: LockConfiguration = s3_listing::read(text.as_bytes()).unwrap();
            read.shown()
        };
        let rule = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule>\
                    <DefaultRetention><Mode>COMPLIANCE</Mode><Days>30</Days></DefaultRetention>\
                    </Rule></ObjectLockConfiguration>";
        assert_eq!(read(rule).as_deref(), Some("30 days, compliance"));
        let years = rule.replace("<Days>30</Days>", "<Years>2</Years>");
        assert_eq!(read(&years).as_deref(), Some("2 years, compliance"));
        assert_eq!(read("<ObjectLockConfiguration/>"), None);
    }
}
