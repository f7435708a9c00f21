//! Of a pack of which little is wanted, little is read; and what ranges cannot prove, the whole object must.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use tenantd::backup::RestoreReport;
use tenantd::object_store::ObjectStore as _;

use super::bucket::Bucket;
use super::world::{Node, World, assert_same, nodes, noise};

const SMALL: &str = "notes/17";

/// A tenant in a bucket with two full packs of noise, and small files in the midst of them.
async fn large() -> (World, Bucket) {
    let bucket = Bucket::start().await;
    let mut world = World::new();
    world.store = Arc::new(bucket.store());
    let state = world.state();
    fs::create_dir(state.join("notes")).unwrap();
    for number in 0..30 {
        let note = state.join(format!("notes/{number}"));
        fs::write(note, noise(number, 3000)).unwrap();
    }
    for (name, seed) in [("media", 100), ("zoo", 101)] {
        fs::write(state.join(name), noise(seed, 14 << 20)).unwrap();
    }
    world.snapshot().await;
    (world, bucket)
}

async fn one_note(world: &World) -> (RestoreReport, BTreeMap<Vec<u8>, Node>) {
    let report = world
        .try_restore_path(None, Some(SMALL), "note")
        .await
        .unwrap();
    let found = nodes(&world.path.join("note"));
    fs::remove_dir_all(world.path.join("note")).unwrap();
    (report, found)
}

async fn packs(bucket: &Bucket) -> Vec<String> {
    let listed = bucket.store().list("").await.unwrap().into_iter();
    let names = listed.map(|object| object.name);
    names.filter(|name| name.contains("/packs/")).collect()
}

#[tokio::test]
async fn one_small_file_of_a_large_repository_takes_a_few_small_requests() {
    let (world, bucket) = large().await;
    bucket.counted();
    let (report, found) = one_note(&world).await;
    let counts = bucket.counted();
    assert_eq!(found[&b"17"[..]], nodes(&world.state())[SMALL.as_bytes()]);
    // A chunk that it shares with others lies in at most five of an age payload.
    assert!(report.fetched < 340_000, "{report:?}");
    // The description (twice: nobody said which repository it is), the commit, the keys, the tree; header and chunk.
    // This bucket's listings have pages of seven.
    assert!(counts.get <= 7 && counts.list <= 5, "{counts:?}");
}

#[tokio::test]
async fn a_range_of_what_was_overwritten_gives_way_to_the_version_that_fits() {
    let (world, bucket) = large().await;
    let names = packs(&bucket).await;
    assert!(names.len() >= 2);
    let store = bucket.store();
    let expected = nodes(&world.state());
    for kind in 0..3 {
        for (name, other) in names.iter().zip(names.iter().cycle().skip(1)) {
            let bytes = match kind {
                // Another pack of the same repository, which opens.
                0 => store.get(other, 16 << 20).await.unwrap(),
                1 => vec![7; 200_000].into(),
                _ => store.get_range(other, 0, 1000).await.unwrap(),
            };
            store.put(name, bytes).await.unwrap();
        }
        let (report, found) = one_note(&world).await;
        assert_eq!(found[&b"17"[..]], expected[SMALL.as_bytes()], "{kind}");
        assert!(report.fetched > 1 << 20, "{report:?}");
    }
    assert_same(&world.restored(None).await, &expected);
}

#[tokio::test]
async fn commits_that_this_host_wrote_are_not_fetched_again() {
    let bucket = Bucket::start().await;
    let mut world = World::new();
    world.store = Arc::new(bucket.store());
    for round in 0..4 {
        fs::write(world.state().join("file"), noise(round, 1000)).unwrap();
        world.snapshot().await;
    }
    let remote = world.remote().await.with_known(&world.local());
    let records = world.local().join("snapshots");
    let mut known: Vec<_> = fs::read_dir(&records)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    known.retain(|entry| entry.path().extension().is_none());
    assert_eq!(known.len(), 4);
    // Nobody believes what lies on the disk either.
    fs::write(known[2].path(), "something else").unwrap();
    bucket.counted();
    let snapshots = remote.snapshots().await.unwrap();
    assert_eq!((snapshots.commits.len(), bucket.counted().get), (4, 1));
}

#[tokio::test]
async fn a_bucket_that_asks_for_an_md5_gets_it() {
    let bucket = Bucket::start().await;
    // As AWS where a bucket has a default retention.
    bucket.objects.want_md5();
    let mut world = World::new();
    world.store = Arc::new(bucket.store());
    fs::write(world.state().join("file"), noise(1, 100_000)).unwrap();
    world.snapshot().await;
    assert_same(&world.restored(None).await, &nodes(&world.state()));
}
