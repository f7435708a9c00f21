//! Deleting from a bucket. It deletes by name: in a bucket that keeps versions that only hides.
//! A refused delete of an object under Object Lock is no error.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::collector::{Collector, Deleted, ObjectVersion};
use super::s3::pages;
use super::{ObjectStore as _, S3Store, StoreError, StoreErrorKind};

#[async_trait]
impl Collector for S3Store {
    async fn list_versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        let mut versions = Vec::new();
        for (name, object) in pages(self, prefix).await? {
            let modified = object.last_modified.parse::<Timestamp>();
            let modified = modified.map_err(|error| StoreError {
                source: Some(Box::new(error)),
                ..self.refused("listing", &name, StoreErrorKind::Failed)
            })?;
            versions.push(ObjectVersion {
                name,
                version: None,
                size: object.size,
                modified,
                is_latest: true,
                is_delete_marker: false,
            });
        }
        Ok(versions)
    }

    async fn get_version(&self, version: &ObjectVersion, limit: u64) -> Result<Bytes, StoreError> {
        self.get(&version.name, limit).await
    }

    async fn delete_version(&self, version: &ObjectVersion) -> Result<Deleted, StoreError> {
        let key = self.checked("deleting", &version.name)?;
        let request = self.bucket().delete_object(&key);
        let answered = self.answered("deleting", &version.name, 0, request);
        let Err(error) = answered.await else {
            return Ok(Deleted::Gone);
        };
        match error.kind {
            StoreErrorKind::NotFound => Ok(Deleted::Gone),
            StoreErrorKind::Denied | StoreErrorKind::Failed => {
                let until = self.locked_until(&key).await;
                if until.is_some() || says_locked(&error) {
                    return Ok(Deleted::Locked { until });
                }
                Err(error)
            }
            _ => Err(error),
        }
    }
}

impl S3Store {
    /// Until when Object Lock holds an object, if the key may know.
    async fn locked_until(&self, key: &str) -> Option<Timestamp> {
        let (head, _) = self.bucket().head_object(key).await.ok()?;
        head.object_lock_retain_until_date?.parse().ok()
    }
}

/// Whether the refusal speaks of a lock, as AWS ("protected by object lock") and MinIO ("WORM
/// protected") do; B2 only says that access is denied.
fn says_locked(error: &StoreError) -> bool {
    let Some(refusal) = &error.source else {
        return false;
    };
    let said = refusal.to_string().to_ascii_lowercase();
    ["object lock", "objectlock", "worm protected", "legal hold"]
        .iter()
        .any(|word| said.contains(word))
}

#[cfg(test)]
mod tests {
    use super::super::answer::Refusal;
    use super::*;

    #[test]
    fn a_lock_is_told_from_a_missing_right() {
        let refused = |body: &str| StoreError {
            action: "deleting",
            place: String::new(),
            kind: StoreErrorKind::Denied,
            source: Some(Box::new(Refusal::read(403, body))),
        };
        for body in [
            "<Message>Access Denied because object protected by object lock.</Message>",
            "<Message>Object is WORM protected and cannot be overwritten</Message>",
        ] {
            assert!(says_locked(&refused(body)), "{body}");
        }
        assert!(!says_locked(&refused("<Code>AccessDenied</Code>")));
    }
}
