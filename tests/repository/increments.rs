//! Hourly deltas for weeks: the packs of a snapshot stay few, and it restores as fast as a fresh one.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt as _;

use camino::Utf8PathBuf;
use tenantd::backup::{SnapshotOutcome, SnapshotRequest};

use super::world::{World, assert_same, nodes, noise};

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_increments_leave_few_packs_and_restore() {
    let world = World::new();
    for file in 0..40 {
        fs::write(
            world.state().join(format!("note {file}")),
            noise(file, 20_000),
        )
        .unwrap();
    }
    let database = fs::File::create(world.state().join("agent.sqlite")).unwrap();
    database.write_all_at(b"SQLite format 3\0", 0).unwrap();
    database.write_all_at(&noise(99, 6 << 20), 16).unwrap();
    let first = world.snapshot().await;

    let (mut most, mut sent, mut rewritten) = (0, 0, 0);
    for hour in 0..300_u64 {
        let note = world.state().join(format!("note {}", hour % 40));
        fs::write(note, noise(1000 + hour, 20_000)).unwrap();
        database
            .write_all_at(&noise(hour, 4096), 4096 * (1 + hour * 37 % 1500))
            .unwrap();
        let SnapshotOutcome::Committed(record) = world.outcome().await else {
            panic!("hour {hour} changed something");
        };
        sent += record.added;
        rewritten += record.capture.rewritten;
        if hour % 50 == 49 {
            let remote = world.remote().await;
            let snapshots = world.snapshots().await;
            let packs = remote.packs(snapshots.newest().unwrap()).await.unwrap();
            most = most.max(packs.len());
        }
    }
    assert!(most <= 20, "{most} packs for 7 MiB");
    // A note, a page, and the page's share of a block that is stored whole after sixteen changes.
    let delta = 300 * (20_000 + 4096 + (256 << 10) / 16);
    assert!(
        sent < 4 * delta,
        "{sent} bytes sent for {delta} that changed"
    );
    assert!(rewritten > 0);
    assert_same(&world.restored(None).await, &nodes(&world.state()));

    let report = world.try_restore(None, "again").await.unwrap();
    assert!(
        report.fetched * 10 <= first.stored * 18,
        "{} bytes fetched for what takes {} when it is fresh",
        report.fetched,
        first.stored
    );
}

#[tokio::test]
async fn a_changed_page_of_a_database_sends_hardly_more_than_the_page() {
    let world = World::new();
    let database = fs::File::create(world.state().join("agent.sqlite")).unwrap();
    database.write_all_at(b"SQLite format 3\0", 0).unwrap();
    database.write_all_at(&noise(1, 32 << 20), 16).unwrap();
    world.snapshot().await;
    for page in 0..8 {
        let at = 4096 * (1 + page * 1000);
        database.write_all_at(&noise(page, 4096), at).unwrap();
    }
    let second = world.snapshot().await;
    // Eight pages, 45 bytes of tree for each block there is and each page, and padding.
    let expected = 8 * 4096 + (128 + 8) * 45;
    assert!(second.added < expected * 5 / 4, "{} bytes", second.added);
    assert_same(&world.restored(None).await, &nodes(&world.state()));
}

#[tokio::test]
async fn small_files_are_compressed_together_and_a_changed_one_sends_little() {
    let world = World::new();
    let note = |number: u64, change: &str| {
        let noise = noise(number / 50, 900);
        let words: Vec<_> = noise
            .iter()
            .map(|byte| format!("word{}", byte % 16))
            .collect();
        format!("note {number} {change} {} ", words.join(" "))
    };
    let mut alone = 0;
    for number in 0..1500 {
        let text = note(number, "");
        alone += zstd::bulk::compress(text.as_bytes(), 3).unwrap().len() as u64;
        fs::write(world.state().join(format!("n{number}")), text).unwrap();
    }
    let first = world.snapshot().await;
    assert!(
        first.stored * 2 < alone,
        "{} bytes; one by one they take {alone}",
        first.stored
    );
    fs::write(world.state().join("n700"), note(700, "changed")).unwrap();
    let packs = || {
        let objects = world.objects();
        let is_pack = |path: &&Utf8PathBuf| path.as_str().contains("/packs/");
        objects.iter().filter(is_pack).count()
    };
    let before = packs();
    world.snapshot().await;
    assert_eq!(packs(), before + 1);
    assert_same(&world.restored(None).await, &nodes(&world.state()));
    let report = world.try_restore_path(None, Some("n3"), "one").await;
    assert_eq!(report.unwrap().files, 1);
}

#[tokio::test]
async fn an_unchanged_tenant_is_not_consolidated_and_a_shutdown_has_no_time_for_it() {
    let world = World::new();
    for round in 0..30_u64 {
        fs::write(world.state().join(format!("f{round}")), noise(round, 5000)).unwrap();
        let request = SnapshotRequest {
            consolidation: 0,
            ..world.request()
        };
        let outcome = world.repository().await.snapshot(request).await.unwrap();
        assert!(matches!(outcome, SnapshotOutcome::Committed(_)));
    }
    let packs = async || {
        let remote = world.remote().await;
        let newest = world.snapshots().await;
        let packs = remote.packs(newest.newest().unwrap()).await.unwrap();
        packs.len()
    };
    assert_eq!(packs().await, 30);
    let before: BTreeSet<_> = world.objects().into_iter().collect();
    assert!(matches!(
        world.outcome().await,
        SnapshotOutcome::Unchanged(_)
    ));
    assert_eq!(world.objects().into_iter().collect::<BTreeSet<_>>(), before);
    fs::write(world.state().join("new"), b"new").unwrap();
    world.snapshot().await;
    assert_eq!(
        packs().await,
        1,
        "small packs and the new data fit into one"
    );
    assert_same(&world.restored(None).await, &nodes(&world.state()));
}
