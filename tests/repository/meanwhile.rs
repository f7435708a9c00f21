//! What others do meanwhile: a snapshot that goes while somebody reads is no fault, and an agent that goes on
//! while it should stand still makes no snapshot.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tenantd::backup::{Pause, PauseError, Share, SnapshotError};
use tenantd::object_store::{ObjectInfo, ObjectStore, ObjectVersion, StoreError};

use super::world::{World, assert_same, nodes, verified};

/// A store from which the oldest commit goes as soon as it was listed.
#[derive(Debug)]
struct Pruned {
    inner: Arc<dyn ObjectStore>,
    root: camino::Utf8PathBuf,
}

#[async_trait]
impl ObjectStore for Pruned {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.put(name, bytes).await
    }

    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        self.inner.get(name, limit).await
    }

    async fn head(&self, name: &str) -> Result<Option<u64>, StoreError> {
        self.inner.head(name).await
    }

    async fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StoreError> {
        self.inner.get_range(name, offset, length).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.inner.list(prefix).await
    }

    async fn list_versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        let listed = self.inner.list_versions(prefix).await?;
        if prefix.ends_with("/commits/") && listed.len() > 1 {
            fs::remove_file(self.root.join(&listed[0].name)).unwrap();
        }
        Ok(listed)
    }

    async fn get_version(&self, version: &ObjectVersion, limit: u64) -> Result<Bytes, StoreError> {
        self.inner.get_version(version, limit).await
    }
}

#[tokio::test]
async fn a_snapshot_that_is_pruned_between_listing_and_reading_is_as_if_it_had_not_been_listed() {
    let mut world = World::new();
    for content in ["one", "two", "three", "four"] {
        fs::write(world.state().join("file"), content).unwrap();
        world.snapshot().await;
    }
    let expected = nodes(&world.state());
    let root = world.path.join("store");
    let inner = Arc::clone(&world.store);
    world.store = Arc::new(Pruned { inner, root });
    let snapshots = world.snapshots().await;
    assert_eq!((snapshots.commits.len(), snapshots.refused.len()), (3, 0));
    let report = verified(&world.remote().await, Share::Everything).await;
    assert!(report.is_good(), "{report:?}");
    assert_eq!(report.commits, 2);
    assert_same(&world.restored(None).await, &expected);
}

/// A pause that somebody else may end.
struct Thawed(AtomicBool);

#[async_trait]
impl Pause for Thawed {
    async fn pause(&self) -> Result<(), PauseError> {
        Ok(())
    }

    async fn resume(&self) -> Result<(), PauseError> {
        Ok(())
    }

    fn has_held(&self) -> bool {
        !self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn what_was_read_of_an_agent_that_went_on_is_no_snapshot_and_the_next_one_is() {
    let mut world = World::new();
    let pause = Arc::new(Thawed(AtomicBool::new(true)));
    world.pause = Arc::clone(&pause) as Arc<dyn Pause>;
    fs::write(world.state().join("file"), "content").unwrap();
    let mut repository = world.repository().await;
    let disturbed = repository.snapshot(world.request()).await;
    assert!(matches!(disturbed, Err(SnapshotError::Disturbed)));
    assert!(repository.head().is_none());
    drop(repository);
    pause.0.store(false, Ordering::SeqCst);
    assert_eq!(world.snapshot().await.sequence, 1);
    assert_same(&world.restored(None).await, &nodes(&world.state()));
}
