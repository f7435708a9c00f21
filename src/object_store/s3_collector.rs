//! Deleting from a bucket, version by version: by name, a bucket that keeps versions would only hide.
//! A refused delete of an object under Object Lock is no error.

use ::s3::command::Command;
use async_trait::async_trait;
use jiff::Timestamp;

use super::collector::{Collector, Deleted};
use super::{ObjectVersion, S3Store, StoreError, StoreErrorKind};

#[async_trait]
impl Collector for S3Store {
    async fn delete_version(&self, version: &ObjectVersion) -> Result<Deleted, StoreError> {
        match self.delete(&version.name, version.version.as_deref()).await {
            Ok(()) => Ok(Deleted::Gone),
            Err(error) => match error.kind {
                StoreErrorKind::NotFound => Ok(Deleted::Gone),
                StoreErrorKind::Denied | StoreErrorKind::Failed => {
                    let until = self.locked_until(version).await;
                    if until.is_some() || says_locked(&error) {
                        return Ok(Deleted::Locked { until });
                    }
                    Err(error)
                }
                _ => Err(error),
            },
        }
    }
}

impl S3Store {
    /// Deletes one version; without one, hides the object where the bucket keeps versions.
    pub(super) async fn delete(&self, name: &str, version: Option<&str>) -> Result<(), StoreError> {
        let command = Command::DeleteObject;
        self.object("deleting", name, command, version, 0)
            .await
            .map(drop)
    }

    /// Until when Object Lock holds a version, if the key may know.
    async fn locked_until(&self, version: &ObjectVersion) -> Option<Timestamp> {
        let id = version.version.as_deref();
        let command = Command::HeadObject;
        let head = self.object("looking for", &version.name, command, id, 0);
        let head = head.await.ok()?;
        head.header("x-amz-object-lock-retain-until-date")?
            .parse()
            .ok()
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
