//! A store in memory with a clock of its own, used through handles that can be stopped and killed at any call.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tenantd::backup::Clock;
use tenantd::object_store::{
    Collector, Deleted, ObjectInfo, ObjectStore, ObjectVersion, StoreError, StoreErrorKind,
};
use tokio::sync::Notify;

/// What is stored, and when it was.
#[derive(Debug)]
pub struct Shelf {
    objects: Mutex<BTreeMap<String, (Bytes, Timestamp)>>,
    now: Mutex<Timestamp>,
    /// Names that cannot be deleted.
    pub locked: Mutex<Vec<String>>,
}

impl Shelf {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            objects: Mutex::default(),
            // Before any file of the tests was written, so that none counts as at rest.
            now: Mutex::new("2001-01-01T00:00:00Z".parse().unwrap()),
            locked: Mutex::default(),
        })
    }

    pub fn wait(&self, hours: i64) {
        *self.now.lock().unwrap() += SignedDuration::from_hours(hours);
    }

    pub fn names(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    pub fn stored(&self, name: &str) -> Option<Timestamp> {
        Some(self.objects.lock().unwrap().get(name)?.1)
    }

    pub fn overwrite(&self, name: &str, bytes: &'static [u8]) {
        let mut objects = self.objects.lock().unwrap();
        let now = Clock::now(self);
        objects.insert(name.to_owned(), (Bytes::from_static(bytes), now));
    }

    pub fn remove(&self, name: &str) {
        self.objects.lock().unwrap().remove(name);
    }

    /// A handle that stops at its call number `stop_at`, before or after it took effect.
    pub fn handle(self: &Arc<Self>, stop_at: Option<(usize, bool)>) -> Arc<Handle> {
        Arc::new(Handle {
            shelf: Arc::clone(self),
            stop_at,
            calls: AtomicUsize::new(0),
            is_dead: AtomicBool::new(false),
            reached: Notify::new(),
            go_on: Notify::new(),
        })
    }
}

impl Clock for Shelf {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// One process's way to the shelf.
#[derive(Debug)]
pub struct Handle {
    shelf: Arc<Shelf>,
    stop_at: Option<(usize, bool)>,
    calls: AtomicUsize,
    is_dead: AtomicBool,
    reached: Notify,
    go_on: Notify,
}

impl Handle {
    /// Waits until the process stands at its call.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }

    pub fn go_on(&self) {
        self.go_on.notify_one();
    }

    /// Nothing that the process does from now on has an effect.
    pub fn kill(&self) {
        self.is_dead.store(true, Ordering::SeqCst);
        self.go_on.notify_one();
    }

    fn error(name: &str, kind: StoreErrorKind) -> StoreError {
        StoreError {
            action: "using",
            place: name.to_owned(),
            kind,
            source: None,
        }
    }

    async fn call<T>(
        &self,
        name: &str,
        work: impl FnOnce(&mut BTreeMap<String, (Bytes, Timestamp)>) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let stop = |after| self.stop_at == Some((call, after));
        if stop(false) {
            self.reached.notify_one();
            self.go_on.notified().await;
        }
        if self.is_dead.load(Ordering::SeqCst) {
            return Err(Self::error(name, StoreErrorKind::Failed));
        }
        let done = work(&mut self.shelf.objects.lock().unwrap());
        if stop(true) {
            self.reached.notify_one();
            self.go_on.notified().await;
        }
        if self.is_dead.load(Ordering::SeqCst) {
            return Err(Self::error(name, StoreErrorKind::Failed));
        }
        done
    }
}

#[async_trait]
impl ObjectStore for Handle {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.call(name, |objects| {
            objects.insert(name.to_owned(), (bytes, self.shelf.now()));
            Ok(())
        })
        .await
    }

    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        self.call(name, |objects| match objects.get(name) {
            None => Err(Self::error(name, StoreErrorKind::NotFound)),
            Some((bytes, _)) if bytes.len() as u64 > limit => {
                Err(Self::error(name, StoreErrorKind::TooLarge { limit }))
            }
            Some((bytes, _)) => Ok(bytes.clone()),
        })
        .await
    }

    async fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StoreError> {
        let bytes = self.get(name, u64::MAX).await?;
        let size = bytes.len() as u64;
        let (from, to) = (offset.min(size), (offset + length).min(size));
        Ok(bytes.slice(usize::try_from(from).unwrap()..usize::try_from(to).unwrap()))
    }

    async fn head(&self, name: &str) -> Result<Option<u64>, StoreError> {
        self.call(name, |objects| {
            Ok(objects.get(name).map(|(bytes, _)| bytes.len() as u64))
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let versions = self.list_versions(prefix).await?;
        Ok(versions
            .into_iter()
            .map(|version| ObjectInfo {
                name: version.name,
                size: version.size,
            })
            .collect())
    }

    async fn list_versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        self.call(prefix, |objects| {
            Ok(objects
                .iter()
                .filter(|(name, _)| name.starts_with(prefix))
                .map(|(name, (bytes, modified))| ObjectVersion {
                    name: name.clone(),
                    version: None,
                    size: bytes.len() as u64,
                    modified: *modified,
                    is_latest: true,
                    is_delete_marker: false,
                })
                .collect())
        })
        .await
    }

    async fn get_version(&self, version: &ObjectVersion, limit: u64) -> Result<Bytes, StoreError> {
        self.get(&version.name, limit).await
    }
}

#[async_trait]
impl Collector for Handle {
    async fn delete_version(&self, version: &ObjectVersion) -> Result<Deleted, StoreError> {
        if self.shelf.locked.lock().unwrap().contains(&version.name) {
            let until = Some(self.shelf.now() + SignedDuration::from_hours(1000));
            return Ok(Deleted::Locked { until });
        }
        self.call(&version.name, |objects| {
            objects.remove(&version.name);
            Ok(Deleted::Gone)
        })
        .await
    }
}
