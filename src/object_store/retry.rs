//! When to try again: a pure policy, and the wrapper that follows it.
//! Only what may get better by itself is repeated, within a budget, with jitter.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    Collector, Deleted, ObjectInfo, ObjectStore, ObjectVersion, StoreError, StoreErrorKind,
};

/// How long and how often to try.
#[derive(Debug, Clone, Copy)]
pub struct RetryBudget {
    /// The first wait, before jitter; it doubles each time.
    pub first: Duration,
    /// No wait is longer, unless the store asks for it.
    pub longest: Duration,
    /// After this time since the first attempt no further one begins; one that has begun ends by
    /// the store's own limits.
    pub total: Duration,
}

impl Default for RetryBudget {
    /// About eight attempts in two minutes.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            total: Duration::from_mins(2),
        }
    }
}

/// How long to wait before trying again, `None` to give up.
///
/// `attempt` counts failed attempts from 1, `spent` is the time since the first began, and
/// `jitter` is uniform in `0.0..1.0`. A wait that the store asks for is kept or, where the
/// budget does not allow it, leads to giving up at once.
pub fn next_delay(
    kind: StoreErrorKind,
    attempt: u32,
    spent: Duration,
    budget: &RetryBudget,
    jitter: f64,
) -> Option<Duration> {
    let StoreErrorKind::Unavailable { retry_after } = kind else {
        return None;
    };
    let doubled = budget
        .first
        .saturating_mul(1 << (attempt.saturating_sub(1)).min(16));
    let ceiling = doubled.min(budget.longest);
    // Between half and the whole: never zero, never in step with others.
    let backoff = ceiling.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
    let delay = backoff.max(retry_after.unwrap_or_default());
    // What a store asks for may be any number of seconds.
    (spent.saturating_add(delay) <= budget.total).then_some(delay)
}

/// A store whose calls are repeated as [`next_delay`] says.
#[derive(Debug, Clone)]
pub struct Retrying<S> {
    inner: S,
    budget: RetryBudget,
}

impl<S> Retrying<S> {
    /// Wraps a store.
    pub fn new(inner: S, budget: RetryBudget) -> Self {
        Self { inner, budget }
    }

    async fn repeat<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let start = Instant::now();
        let mut attempt = 0;
        loop {
            let error = match call().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            attempt += 1;
            // Without randomness all wait equally long, which is still a wait.
            let jitter =
                getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
            match next_delay(error.kind, attempt, start.elapsed(), &self.budget, jitter) {
                Some(delay) => {
                    tracing::warn!(attempt, ?delay, %error, "object store call is repeated");
                    tokio::time::sleep(delay).await;
                }
                None => return Err(told(error, attempt, start.elapsed())),
            }
        }
    }
}

/// The last failure of several, with how often and how long was tried.
#[derive(Debug, thiserror::Error)]
#[error("gave up after {attempts} attempts in {:.0} s", elapsed.as_secs_f64())]
struct GaveUp {
    attempts: u32,
    elapsed: Duration,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The error as it is reported: a single attempt needs no more words.
fn told(error: StoreError, attempts: u32, elapsed: Duration) -> StoreError {
    if attempts == 1 {
        return error;
    }
    let gave_up = GaveUp {
        attempts,
        elapsed,
        source: error.source,
    };
    StoreError {
        source: Some(Box::new(gave_up)),
        ..error
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for Retrying<S> {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.repeat(|| self.inner.put(name, bytes.clone())).await
    }

    async fn put_hashed(
        &self,
        name: &str,
        bytes: Bytes,
        sha256: [u8; 32],
    ) -> Result<(), StoreError> {
        self.repeat(|| self.inner.put_hashed(name, bytes.clone(), sha256))
            .await
    }

    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        self.repeat(|| self.inner.get(name, limit)).await
    }

    async fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StoreError> {
        self.repeat(|| self.inner.get_range(name, offset, length))
            .await
    }

    async fn head(&self, name: &str) -> Result<Option<u64>, StoreError> {
        self.repeat(|| self.inner.head(name)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.repeat(|| self.inner.list(prefix)).await
    }

    async fn list_versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        self.repeat(|| self.inner.list_versions(prefix)).await
    }

    async fn list_directories(&self) -> Result<Vec<String>, StoreError> {
        self.repeat(|| self.inner.list_directories()).await
    }

    async fn get_version(&self, version: &ObjectVersion, limit: u64) -> Result<Bytes, StoreError> {
        self.repeat(|| self.inner.get_version(version, limit)).await
    }
}

#[async_trait]
impl<S: Collector> Collector for Retrying<S> {
    async fn delete_version(&self, version: &ObjectVersion) -> Result<Deleted, StoreError> {
        self.repeat(|| self.inner.delete_version(version)).await
    }

    async fn sweep(&self, prefix: &str, before: Timestamp) -> Result<u64, StoreError> {
        self.repeat(|| self.inner.sweep(prefix, before)).await
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NOW: StoreErrorKind = StoreErrorKind::Unavailable { retry_after: None };

    fn budget() -> RetryBudget {
        RetryBudget {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(8),
            total: Duration::from_mins(1),
        }
    }

    #[rstest]
    #[case::first(1, 0, 0.0, Some(500))]
    #[case::first_late(1, 0, 1.0, Some(1000))]
    #[case::third(3, 5, 1.0, Some(4000))]
    #[case::capped(40, 5, 1.0, Some(8000))]
    #[case::last(4, 52, 1.0, Some(8000))]
    #[case::spent(4, 53, 1.0, None)]
    fn waits_grow_within_the_budget(
        #[case] attempt: u32,
        #[case] spent: u64,
        #[case] jitter: f64,
        #[case] millis: Option<u64>,
    ) {
        let delay = next_delay(NOW, attempt, Duration::from_secs(spent), &budget(), jitter);
        assert_eq!(delay, millis.map(Duration::from_millis));
    }

    #[rstest]
    #[case(20, Some(20))]
    #[case(61, None)]
    #[case(u64::MAX, None)]
    fn the_store_is_obeyed_or_given_up(#[case] seconds: u64, #[case] delay: Option<u64>) {
        let retry_after = Some(Duration::from_secs(seconds));
        let kind = StoreErrorKind::Unavailable { retry_after };
        let found = next_delay(kind, 1, Duration::ZERO, &budget(), 0.0);
        assert_eq!(found, delay.map(Duration::from_secs));
    }

    #[rstest]
    #[case(StoreErrorKind::NotFound)]
    #[case(StoreErrorKind::Denied)]
    #[case(StoreErrorKind::Full)]
    #[case(StoreErrorKind::TooLarge { limit: 1 })]
    #[case(StoreErrorKind::Unsupported)]
    #[case(StoreErrorKind::Exists)]
    #[case(StoreErrorKind::Failed)]
    fn what_stays_wrong_is_not_repeated(#[case] kind: StoreErrorKind) {
        assert_eq!(next_delay(kind, 1, Duration::ZERO, &budget(), 0.5), None);
    }

    #[test]
    fn giving_up_says_how_often_and_how_long_it_was_tried() {
        let refused = || StoreError {
            action: "storing",
            place: "x".to_owned(),
            kind: NOW,
            source: Some("no route to host".into()),
        };
        let once = told(refused(), 1, Duration::ZERO);
        assert_eq!(once.source.unwrap().to_string(), "no route to host");
        let often = told(refused(), 8, Duration::from_secs(118)).source.unwrap();
        assert_eq!(often.to_string(), "gave up after 8 attempts in 118 s");
        assert_eq!(often.source().unwrap().to_string(), "no route to host");
    }
}
