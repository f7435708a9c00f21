//! What `doctor --store` finds out about a bucket and a key, and that it leaves the rest alone.

use bytes::Bytes;
use jiff::Timestamp;
use tenantd::object_store::{
    Conditional, Deleting, History, ObjectStore, PROBE_PREFIX, Probed, StoreErrorKind, StoreFacts,
    probe,
};

use super::bucket::{Bucket, Fault, Kind, Rule};

const NAME: &str = "tenantd-probe/0123456789abcdef";

async fn probed(store: &dyn Probed) -> StoreFacts {
    assert!(NAME.starts_with(PROBE_PREFIX));
    probe(
        store,
        "s3://backups/node/a".to_owned(),
        NAME,
        Timestamp::now,
    )
    .await
}

/// A bucket with an object that is somebody's.
async fn bucket() -> Bucket {
    let bucket = Bucket::start().await;
    let other = Bytes::from_static(b"somebody's");
    bucket.store().put("x/packs/1", other).await.unwrap();
    bucket
}

#[tokio::test]
async fn the_nodes_key_hides_only_and_its_leftovers_are_named() {
    let bucket = bucket().await;
    let facts = probed(&bucket.impatient()).await;
    let expected = StoreFacts {
        url: "s3://backups/node/a".to_owned(),
        reached: facts.reached.clone(),
        put: Ok(()),
        get: Ok(()),
        range: Ok(()),
        list: Ok(()),
        history: Ok(History::Kept),
        lock: Ok(None),
        conditional: Ok(Conditional::NotOffered),
        deleting: Ok(Deleting::HidesOnly),
        skew: facts.skew.clone(),
        leftovers: vec![NAME.to_owned()],
    };
    assert_eq!(facts, expected);
    assert!(facts.reached.is_ok());
    let skew = facts.skew.unwrap().unwrap();
    assert!(skew.abs().as_secs() < 60, "{skew}");
    // Nothing of it is in the way of a plain listing.
    let names = bucket.store().list("").await.unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[tokio::test]
async fn a_key_that_deletes_versions_is_found_out_and_nothing_is_left() {
    let bucket = bucket().await;
    // What an earlier probe with a lesser key had to leave.
    probed(&bucket.impatient()).await;
    assert!(bucket.objects.versions() > 1);
    let facts = probed(&bucket.admin_once()).await;
    assert_eq!(facts.deleting, Ok(Deleting::ForGood));
    assert_eq!(facts.leftovers, Vec::<String>::new());
    assert_eq!(bucket.objects.versions(), 1);
}

#[tokio::test]
async fn a_default_lock_is_found() {
    let bucket = bucket().await;
    bucket.objects.lock(30);
    let facts = probed(&bucket.impatient()).await;
    assert_eq!(facts.lock, Ok(Some("30 days, compliance".to_owned())));
    assert_eq!(facts.deleting, Ok(Deleting::HidesOnly));
}

#[tokio::test]
async fn a_key_that_may_not_write_is_told_and_the_rest_is_not_tried() {
    let bucket = bucket().await;
    bucket.fail([Rule::every(Kind::Put, Fault::Refuse(403, None))]);
    let facts = probed(&bucket.impatient()).await;
    let denied = facts.put.unwrap_err();
    assert!(denied.contains("access denied"), "{denied}");
    let not_tried = facts.deleting.unwrap_err();
    assert!(not_tried.contains("not tried"), "{not_tried}");
    assert!(facts.reached.is_ok());
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_asked_once() {
    let bucket = bucket().await;
    bucket.counted();
    bucket.fail([Rule::every(Kind::List, Fault::CutBefore)]);
    let facts = probed(&bucket.impatient()).await;
    assert!(facts.reached.is_err());
    let counted = bucket.counted();
    assert_eq!((counted.put, counted.get, counted.delete), (0, 0, 0));
}

#[tokio::test]
async fn parts_and_versions_are_read_from_a_bucket_like_b2s() {
    let bucket = Bucket::start().await;
    let store = bucket.store();
    for text in ["0123456789", "abc"] {
        let bytes = Bytes::from_static(text.as_bytes());
        store.put("p/x", bytes).await.unwrap();
    }
    let versions = store.list_versions("p/x").await.unwrap();
    let sizes: Vec<_> = versions.iter().map(|version| version.size).collect();
    assert_eq!(sizes, [10, 3], "the oldest comes first");
    let first = store.get_version(&versions[0], 10).await.unwrap();
    assert_eq!(first, "0123456789");
    assert_eq!(store.get_range("p/x", 1, 1).await.unwrap(), "b");
    assert_eq!(store.get_range("p/x", 2, 100).await.unwrap(), "c");
    assert_eq!(store.get_range("p/x", 3, 100).await.unwrap(), "");
    let error = store.get("p/x", 2).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::TooLarge { limit: 2 });
    // More versions than fit on a page, of one name.
    for number in 0..20_u8 {
        store.put("q", Bytes::from(vec![number])).await.unwrap();
    }
    let versions = store.list_versions("q").await.unwrap();
    assert_eq!(versions.len(), 20);
    for (version, number) in versions.iter().zip(0_u8..) {
        assert_eq!(store.get_version(version, 1).await.unwrap(), [number][..]);
    }
}
