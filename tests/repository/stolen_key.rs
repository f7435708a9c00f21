//! Whoever has the node's key to the bucket can hide and overwrite all there is, and it costs nothing.

use std::sync::Arc;

use bytes::Bytes;
use jiff::SignedDuration;
use tenantd::backup::collect::{CollectReport, CollectRequest, Fate, collect, find_repositories};
use tenantd::backup::retention::{KeepRules, Policy};
use tenantd::backup::{RemoteRepository, Share, Trust};
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
async fn a_repository_that_is_said_to_be_another_is_still_the_one_it_was() {
    let tenant = full_of_snapshots().await;
    let remote = tenant.world.remote().await;
    let name = names(&tenant.bucket).await;
    let name = name.iter().find(|it| it.ends_with("/repository.json"));
    let forged = br#"{"format":"tenantd-repository","version":2,"id":"00000000000000000000000000000000","created":"2026-01-01T00:00:00Z"}"#;
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
