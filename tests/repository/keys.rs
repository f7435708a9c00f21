//! Wrapped keys in a store that holds back: what is locked, denied, hidden or forged.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use tenantd::backup::{
    Digest, Identity, Removal, RepositorySpec, RewrapError, Rewrapped, erase, read_local_spec,
    rewrap,
};
use tenantd::object_store::{Collector, ObjectStore as _};

use super::bucket::Bucket;
use super::bucket_faults::Tenant;
use super::collect::Yard;

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
    let removal = erase(&store, spec.prefix, true, false).await.unwrap();
    assert_eq!(
        (removal.removed, removal.left, removal.denied),
        (0, 1, false)
    );
    assert!(removal.locked_until.is_some() && !removal.is_complete());
    yard.shelf.locked.lock().unwrap().clear();
    assert!(
        erase(&store, spec.prefix, true, false)
            .await
            .unwrap()
            .is_complete()
    );
    assert_eq!(keys(&yard), 0);
    assert!(yard.world.try_restore(None, "restored").await.is_err());
}

/// A tenant with a snapshot in the bucket.
async fn tenant() -> (Tenant, RepositorySpec) {
    let mut tenant = Tenant::new().await;
    fs::create_dir(tenant.world.state().join("notes")).unwrap();
    tenant.change(0);
    tenant.back_up().await.unwrap();
    let spec = read_local_spec(&tenant.world.local()).unwrap().unwrap();
    (tenant, spec)
}

/// How many versions of key objects there are.
async fn in_bucket(bucket: &Bucket, spec: &RepositorySpec) -> usize {
    let prefix = format!("{}/keys/", spec.prefix);
    bucket.store().list_versions(&prefix).await.unwrap().len()
}

#[tokio::test]
async fn a_key_that_may_not_delete_wraps_anew_and_says_what_it_left() {
    let (mut tenant, spec) = tenant().await;
    let next = Identity::generate();
    let denied: Arc<dyn Collector> = Arc::new(tenant.bucket.store());
    let recipients = [next.recipient()];
    let (local, operator) = (tenant.world.local(), tenant.world.operator.clone());
    let rewrapped = async |store: &Arc<dyn Collector>, identity: &Identity| {
        rewrap(store, &local, &spec, identity, &recipients, false).await
    };
    let left = Removal {
        left: 1,
        denied: true,
        ..Removal::default()
    };
    let end = rewrapped(&denied, &operator).await.unwrap();
    assert_eq!(end, Rewrapped::Anew { old: left });
    assert_eq!(in_bucket(&tenant.bucket, &spec).await, 2);
    // Again with one that may: no third object is made, and the identity is not needed any more.
    let admin: Arc<dyn Collector> = Arc::new(tenant.bucket.admin());
    let end = rewrapped(&admin, &Identity::generate()).await.unwrap();
    assert!(matches!(end, Rewrapped::Anew { old } if old.is_complete() && old.removed == 1));
    assert_eq!(
        rewrapped(&admin, &next).await.unwrap(),
        Rewrapped::Unchanged
    );
    let restored = tenant.world.try_restore(None, "restored").await;
    assert!(restored.is_err(), "the old identity still reads it");
    tenant.world.operator = next;
    tenant.check().await;
}

/// Junk that sorts before every real key object, as whoever has the node's key can store it.
async fn bury(bucket: &Bucket, spec: &RepositorySpec, count: usize) {
    let store = bucket.store();
    stream::iter(0..count)
        .for_each_concurrent(8, async |number| {
            let name = format!("{}/keys/{number:064x}.age", spec.prefix);
            store.put(&name, Bytes::from_static(b"junk")).await.unwrap();
        })
        .await;
}

#[tokio::test]
async fn no_number_of_other_objects_keeps_a_key_from_being_read_or_erased() {
    const JUNK: usize = 1100;
    let (mut tenant, spec) = tenant().await;
    let bucket = tenant.bucket.clone();
    bury(&bucket, &spec, JUNK).await;
    tenant.check().await;

    // Nothing may go, and that is said of all there is.
    let denied: Arc<dyn Collector> = Arc::new(bucket.store());
    let removal = erase(&denied, spec.prefix, true, false).await.unwrap();
    assert_eq!((removal.removed, removal.left), (0, JUNK as u64 + 1));
    assert!(removal.denied && !removal.is_complete());
    tenant.check().await;

    // A rotation reads what is buried, also where this host has lost its copy, and leaves one object.
    let admin: Arc<dyn Collector> = Arc::new(bucket.admin());
    let (local, operator) = (tenant.world.local(), tenant.world.operator.clone());
    fs::remove_file(local.join("keys.age")).unwrap();
    let next = Identity::generate();
    let recipients = [next.recipient()];
    let end = rewrap(&admin, &local, &spec, &operator, &recipients, false).await;
    assert!(
        matches!(end, Ok(Rewrapped::Anew { old }) if old.removed == JUNK as u64 + 1),
        "{end:?}"
    );
    assert_eq!(in_bucket(&bucket, &spec).await, 1);
    tenant.world.operator = next;
    tenant.check().await;

    bury(&bucket, &spec, JUNK).await;
    let removal = erase(&admin, spec.prefix, true, false).await.unwrap();
    assert_eq!((removal.removed, removal.left), (JUNK as u64 + 1, 0));
    assert_eq!(in_bucket(&bucket, &spec).await, 0);
    let restored = tenant.world.try_restore(None, "restored").await;
    assert!(restored.is_err(), "what was erased can be read");
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
    let name = format!("{}/keys/{}.age", spec.prefix, Digest::of(&forged));
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
