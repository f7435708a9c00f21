//! Whoever has the node's key to the bucket can hide and overwrite all there is, and it costs nothing.

use std::sync::Arc;

use bytes::Bytes;
use jiff::SignedDuration;
use tenantd::backup::collect::{
    Blocked, CollectReport, CollectRequest, Fate, collect, find_repositories,
};
use tenantd::backup::retention::{KeepRules, Policy};
use tenantd::backup::{Digest, RemoteRepository, RepositoryKeys, Share, Trust};
use tenantd::object_store::{Collector, ObjectStore, ObjectVersion, StoreErrorKind};

use super::bucket::Bucket;
use super::bucket_faults::Tenant;
use super::world::{assert_same, nodes, verified};

/// The names in the store, as the thief sees them.
async fn names(bucket: &Bucket) -> Vec<String> {
    let listed = bucket.store().list("").await.unwrap();
    listed.into_iter().map(|object| object.name).collect()
}

async fn hide(bucket: &Bucket, name: &str) {
    let latest = ObjectVersion {
        name: name.to_owned(),
        version: None,
        size: 0,
        modified: bucket.objects.now(),
        is_latest: true,
        is_delete_marker: false,
    };
    bucket.store().delete_version(&latest).await.unwrap();
}

async fn overwrite(bucket: &Bucket, name: &str, bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    bucket.store().put(name, bytes).await.unwrap();
}

async fn full_of_snapshots() -> Tenant {
    let mut tenant = Tenant::with_past().await;
    tenant.back_up().await.unwrap();
    tenant
}

/// Everything can still be done with what is behind the damage.
async fn nothing_is_lost(tenant: &Tenant) {
    tenant.check().await;
    let remote = tenant.world.remote().await;
    for share in [Share::Nothing, Share::Everything] {
        let report = verified(&remote, share).await;
        assert!(report.is_good(), "{report:?}");
        assert_eq!(report.commits, 3);
    }
}

#[tokio::test]
async fn hiding_everything_costs_nothing() {
    let tenant = full_of_snapshots().await;
    for name in names(&tenant.bucket).await {
        hide(&tenant.bucket, &name).await;
    }
    assert!(names(&tenant.bucket).await.is_empty());
    nothing_is_lost(&tenant).await;
}

#[tokio::test]
async fn overwriting_everything_costs_nothing() {
    let tenant = full_of_snapshots().await;
    let names = names(&tenant.bucket).await;
    let long = vec![7; 500_000];
    for (number, name) in names.iter().enumerate() {
        // Empty, of another kind, and longer than anything may be.
        let garbage: [&[u8]; 3] = [b"", b"{\"format\":\"tenantd-repository\"}", &long];
        overwrite(&tenant.bucket, name, garbage[number % 3]).await;
    }
    nothing_is_lost(&tenant).await;
}

#[tokio::test]
async fn hiding_and_overwriting_again_and_again_costs_nothing() {
    let tenant = full_of_snapshots().await;
    let names = names(&tenant.bucket).await;
    for garbage in [b"first", b"again"] {
        for name in &names {
            overwrite(&tenant.bucket, name, garbage).await;
            hide(&tenant.bucket, name).await;
        }
    }
    nothing_is_lost(&tenant).await;
}

#[tokio::test]
async fn overwriting_everything_with_what_nobody_may_read_costs_nothing() {
    let tenant = full_of_snapshots().await;
    for name in names(&tenant.bucket).await {
        tenant.bucket.objects.put_sealed(&name, b"sealed");
    }
    nothing_is_lost(&tenant).await;
    let report = collected(&tenant).await;
    assert!(report.blocked.is_none(), "{report:?}");
}

#[tokio::test]
async fn new_names_that_nobody_may_read_are_refused_and_block_nothing_but_a_prune() {
    let tenant = full_of_snapshots().await;
    let prefix = tenant.world.remote().await;
    let prefix = prefix
        .adoption(&RepositoryKeys::generate().unwrap(), None)
        .prefix;
    let digest = Digest::of(b"junk");
    for place in ["commits", "heartbeats"] {
        let name = format!("{prefix}/{place}/0000000001-0000000009-{digest}");
        tenant.bucket.objects.put_sealed(&name, b"sealed");
    }
    for place in ["keys", "marks"] {
        let name = format!("{prefix}/{place}/{digest}");
        tenant.bucket.objects.put_sealed(&name, b"sealed");
        tenant
            .bucket
            .objects
            .put_sealed(&format!("{name}.age"), b"sealed");
    }
    let snapshots = tenant.world.snapshots().await;
    assert_eq!((snapshots.commits.len(), snapshots.refused.len()), (3, 1));
    let expected = super::world::nodes(&tenant.world.state());
    super::world::assert_same(&tenant.world.restored(None).await, &expected);
    assert!(
        tenant
            .world
            .remote()
            .await
            .heartbeat()
            .await
            .unwrap()
            .is_none()
    );
    let report = collected(&tenant).await;
    assert!(
        matches!(report.blocked, Some(Blocked::Commit(_))),
        "{report:?}"
    );
}

#[tokio::test]
async fn key_objects_without_number_lock_nobody_out() {
    let tenant = full_of_snapshots().await;
    let prefix = tenant.world.remote().await;
    let prefix = prefix
        .adoption(&RepositoryKeys::generate().unwrap(), None)
        .prefix;
    for number in 0..70_u8 {
        // Well named ones, such as are none at all, and others that come first by name.
        let junk = Bytes::from(vec![number; 100]);
        let digest = Digest::of(&junk);
        for name in [
            format!("{digest}.age"),
            format!("000{number}.age"),
            format!("00{number}"),
        ] {
            overwrite(&tenant.bucket, &format!("{prefix}/keys/{name}"), &junk).await;
        }
    }
    tenant.check().await;
}

#[tokio::test]
async fn prefixes_are_found_hidden_or_not_without_listing_what_they_hold() {
    let tenant = full_of_snapshots().await;
    let store = tenant.bucket.store();
    for prefix in 10..30 {
        for number in 0..20 {
            let name = format!("{prefix:032}/packs/{number}");
            overwrite(&tenant.bucket, &name, b"pack").await;
            if prefix % 2 == 0 {
                hide(&tenant.bucket, &name).await;
            }
        }
    }
    tenant.bucket.counted();
    let found = store.list_directories().await.unwrap();
    assert_eq!(tenant.bucket.counted().list, 3, "pages of seven");
    assert_eq!(found.len(), 21);
    assert!(found.is_sorted());
    // Where versions cannot be listed, what is plain to see.
    tenant.bucket.objects.list_no_versions();
    assert_eq!(store.list_directories().await.unwrap().len(), 11);
}

/// What a collector of the operator's would delete.
async fn collected(tenant: &Tenant) -> CollectReport {
    let store: Arc<dyn Collector> = Arc::new(tenant.bucket.admin());
    let prefix = find_repositories(&store).await.unwrap()[0];
    let trust = Trust::root(tenant.world.root.public());
    let rules = KeepRules {
        within: SignedDuration::ZERO,
        hourly: 0,
        daily: 1,
        weekly: 0,
        monthly: 0,
        yearly: 0,
    };
    let grace = SignedDuration::from_hours(72);
    let request = CollectRequest {
        policy: Policy { rules, grace },
        dry_run: true,
        drop_refused: false,
        now: tenant.bucket.objects.now(),
    };
    collect(&store, prefix, &trust, &request).await.unwrap()
}

#[tokio::test]
async fn a_repository_that_is_said_to_be_another_is_still_the_one_it_was() {
    let tenant = full_of_snapshots().await;
    let remote = tenant.world.remote().await;
    let name = names(&tenant.bucket).await;
    let name = name.iter().find(|it| it.ends_with("/repository.json"));
    let forged = br#"{"format":"tenantd-repository","version":3,"id":"00000000000000000000000000000000","created":"2026-01-01T00:00:00Z"}"#;
    overwrite(&tenant.bucket, name.unwrap(), forged).await;
    assert_eq!(tenant.world.remote().await.id(), remote.id());
    let prefixes = RemoteRepository::find(tenant.world.store.as_ref()).await;
    let trust = Trust::root(tenant.world.root.public());
    let store = Arc::clone(&tenant.world.store);
    let known = RemoteRepository::open(store, prefixes.unwrap()[0], Some(remote.id()), trust);
    assert_eq!(known.await.unwrap().id(), remote.id());
    nothing_is_lost(&tenant).await;
}

#[tokio::test]
async fn the_nodes_key_cannot_delete_a_version() {
    let tenant = full_of_snapshots().await;
    let before = tenant.bucket.objects.versions();
    for version in tenant.bucket.store().list_versions("").await.unwrap() {
        let error = tenant.bucket.store().delete_version(&version).await;
        assert_eq!(error.unwrap_err().kind, StoreErrorKind::Denied);
    }
    assert_eq!(tenant.bucket.objects.versions(), before);
}

/// Marks, waits, deletes, and clears the marks away; gives the last report.
async fn collect_thrice(tenant: &Tenant, store: &Arc<dyn Collector>) -> CollectReport {
    let prefix = find_repositories(store).await.unwrap()[0];
    let trust = Trust::root(tenant.world.root.public());
    let grace = SignedDuration::from_hours(72);
    let rules = KeepRules {
        within: SignedDuration::ZERO,
        hourly: 0,
        daily: 1,
        weekly: 0,
        monthly: 0,
        yearly: 0,
    };
    let mut report = CollectReport::default();
    for _ in 0..3 {
        tenant.bucket.objects.wait(80);
        let request = CollectRequest {
            policy: Policy { rules, grace },
            dry_run: false,
            drop_refused: false,
            now: tenant.bucket.objects.now(),
        };
        report = collect(store, prefix, &trust, &request).await.unwrap();
    }
    report
}

#[tokio::test]
async fn a_collector_whose_key_may_not_delete_says_so_of_every_object_and_comes_to_its_end() {
    let tenant = full_of_snapshots().await;
    let denied: Arc<dyn Collector> = Arc::new(tenant.bucket.store());
    let prefix = find_repositories(&denied).await.unwrap()[0];
    let orphan = format!("{prefix}/packs/{}", "0".repeat(64));
    overwrite(&tenant.bucket, &orphan, b"what a backup left that died").await;
    let names = names(&tenant.bucket).await;
    let report = collect_thrice(&tenant, &denied).await;
    assert_eq!(report.denied.objects, 2, "a snapshot, and the orphan");
    assert_eq!(report.deleted.objects, 0);
    let fates = |fate| report.snapshots.iter().filter(|s| s.fate == fate).count();
    assert_eq!((fates(Fate::Denied), fates(Fate::Kept)), (1, 2));
    let there = self::names(&tenant.bucket).await;
    assert!(names.iter().all(|name| there.contains(name)));
    nothing_is_lost(&tenant).await;

    // With a key that may, the same goes, and the marks of the other with it.
    let admin: Arc<dyn Collector> = Arc::new(tenant.bucket.admin());
    let report = collect_thrice(&tenant, &admin).await;
    assert_eq!(report.denied.objects, 0);
    assert_eq!(tenant.world.snapshots().await.commits.len(), 2);
    let there = self::names(&tenant.bucket).await;
    assert!(
        there.iter().all(|name| !name.contains("/marks/")),
        "{there:?}"
    );
    let newest = tenant.world.restored(None).await;
    assert_same(&newest, &nodes(&tenant.world.state()));
}

#[tokio::test]
async fn a_collector_deletes_versions_for_good_and_only_those_that_no_snapshot_needs() {
    let tenant = full_of_snapshots().await;
    let all = names(&tenant.bucket).await;
    for name in &all {
        overwrite(&tenant.bucket, name, b"garbage").await;
        hide(&tenant.bucket, name).await;
    }
    let before = tenant.bucket.objects.versions();
    let store: Arc<dyn Collector> = Arc::new(tenant.bucket.admin());
    collect_thrice(&tenant, &store).await;
    assert!(
        tenant.bucket.objects.versions() < before,
        "{before} versions and nothing was deleted"
    );
    // What stays is whole; the newest always does.
    let snapshots = tenant.world.snapshots().await;
    let newest = tenant.world.restored(None).await;
    assert_same(&newest, &nodes(&tenant.world.state()));
    assert!(snapshots.commits.len() < 3, "{snapshots:?}");
    let remote = tenant.world.remote().await;
    assert!(verified(&remote, Share::Everything).await.is_good());
}
