//! Wrapped keys in a store that holds back: what is locked, denied, hidden or forged.

use std::fs;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tenantd::backup::{
    Identity, Removal, RepositorySpec, RewrapError, Rewrapped, erase, read_local_spec, rewrap,
};
use tenantd::object_store::{
    Collector, Deleted, ObjectInfo, ObjectStore, ObjectVersion, StoreError, StoreErrorKind,
};

use super::collect::Yard;
use super::shelf::Handle;

/// A store whose key may write and not delete.
#[derive(Debug)]
struct Denying(Arc<Handle>);

#[async_trait]
impl ObjectStore for Denying {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.0.put(name, bytes).await
    }

    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        self.0.get(name, limit).await
    }

    async fn head(&self, name: &str) -> Result<Option<u64>, StoreError> {
        self.0.head(name).await
    }

    async fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StoreError> {
        self.0.get_range(name, offset, length).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.0.list(prefix).await
    }

    async fn list_versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        self.0.list_versions(prefix).await
    }

    async fn get_version(&self, version: &ObjectVersion, limit: u64) -> Result<Bytes, StoreError> {
        self.0.get_version(version, limit).await
    }
}

#[async_trait]
impl Collector for Denying {
    async fn delete_version(&self, version: &ObjectVersion) -> Result<Deleted, StoreError> {
        Err(StoreError {
            action: "deleting",
            place: version.name.clone(),
            kind: StoreErrorKind::Denied,
            source: None,
        })
    }
}

async fn yard() -> (Yard, RepositorySpec, String) {
    let mut yard = Yard::new(0, 1);
    yard.snapshot("one").await;
    let spec = read_local_spec(&yard.world.local()).unwrap().unwrap();
    let mut keys = yard.shelf.names();
    keys.retain(|name| name.contains("/keys/"));
    assert_eq!(keys.len(), 1);
    (yard, spec, keys.remove(0))
}

fn keys(yard: &Yard) -> usize {
    let names = yard.shelf.names();
    names.iter().filter(|name| name.contains("/keys/")).count()
}

#[tokio::test]
async fn what_object_lock_holds_is_left_and_said() {
    let (yard, spec, name) = yard().await;
    yard.shelf.locked.lock().unwrap().push(name);
    let store: Arc<dyn Collector> = yard.shelf.handle(None);
    let removal = erase(&store, spec.prefix, false).await.unwrap();
    assert_eq!(
        (removal.removed, removal.left, removal.denied),
        (0, 1, false)
    );
    assert!(removal.locked_until.is_some() && !removal.is_complete());
    yard.shelf.locked.lock().unwrap().clear();
    assert!(
        erase(&store, spec.prefix, false)
            .await
            .unwrap()
            .is_complete()
    );
    assert_eq!(keys(&yard), 0);
    assert!(yard.world.try_restore(None, "restored").await.is_err());
}

#[tokio::test]
async fn a_key_that_may_not_delete_wraps_anew_and_says_what_it_left() {
    let (mut yard, spec, _) = yard().await;
    let next = Identity::generate();
    let denying: Arc<dyn Collector> = Arc::new(Denying(yard.shelf.handle(None)));
    let recipients = [next.recipient()];
    let (local, operator) = (yard.world.local(), yard.world.operator.clone());
    let rewrapped = async |store: &Arc<dyn Collector>, identity: &Identity| {
        rewrap(store, &local, &spec, identity, &recipients, false).await
    };
    let left = Removal {
        left: 1,
        denied: true,
        ..Removal::default()
    };
    let end = rewrapped(&denying, &operator).await.unwrap();
    assert_eq!(end, Rewrapped::Anew { old: left });
    assert_eq!(keys(&yard), 2);
    // Again with one that may: no third object is made, and the identity is not needed any more.
    let admin: Arc<dyn Collector> = yard.shelf.handle(None);
    let end = rewrapped(&admin, &Identity::generate()).await.unwrap();
    assert!(matches!(end, Rewrapped::Anew { old } if old.is_complete() && old.removed == 1));
    assert_eq!(
        rewrapped(&admin, &next).await.unwrap(),
        Rewrapped::Unchanged
    );
    assert!(yard.world.try_restore(None, "restored").await.is_err());
    yard.world.operator = next;
    yard.check().await;
}

#[tokio::test]
async fn forged_key_objects_are_not_taken_and_go() {
    let (mut yard, spec, _) = yard().await;
    let attacker = Identity::generate();
    let forged = tenantd::backup::RepositoryKeys::generate()
        .unwrap()
        .wrap(
            spec.id,
            &[yard.world.operator.recipient(), attacker.recipient()],
        )
        .unwrap();
    let name = format!(
        "{}/keys/{}.age",
        spec.prefix,
        tenantd::backup::Digest::of(&forged)
    );
    yard.world.store.put(&name, forged.into()).await.unwrap();
    // For a restore the signed commit says which keys are the right ones.
    yard.check().await;

    let store: Arc<dyn Collector> = yard.shelf.handle(None);
    let next = Identity::generate();
    let (local, recipients) = (yard.world.local(), [next.recipient()]);
    let by_attacker = rewrap(&store, &local, &spec, &attacker, &recipients, false).await;
    assert!(matches!(by_attacker, Err(RewrapError::NoKey)));
    let operator = yard.world.operator.clone();
    let end = rewrap(&store, &local, &spec, &operator, &recipients, false).await;
    assert!(matches!(end, Ok(Rewrapped::Anew { old }) if old.removed == 2));
    yard.world.operator = next;
    yard.check().await;
    assert!(fs::exists(local.join("recipients.json")).unwrap());
}
