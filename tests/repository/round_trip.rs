//! What goes in comes out, and little is stored twice.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tenantd::backup::{
    Pause, PauseError, RemoteError, RestoreError, RestoreFilesError, SnapshotError,
    SnapshotOutcome, local_snapshots,
};

use super::world::{World, assert_same, nodes, noise};

/// One of everything that a tenant may have.
pub fn fill(world: &World) {
    let at = |name: &str| world.state().join(name);
    fs::create_dir_all(at("a/b/empty")).unwrap();
    fs::write(at("a/small"), b"small").unwrap();
    fs::write(at("a/none"), b"").unwrap();
    fs::write(at("a/b/text"), "compressible ".repeat(100_000)).unwrap();
    fs::write(at("a/b/noise"), noise(1, 5 << 20)).unwrap();
    let mut database = b"SQLite format 3\0".to_vec();
    database.extend(noise(2, 1_500_000));
    fs::write(at("db.sqlite"), database).unwrap();
    fs::write(at("percent % back\\slash \n newline"), b"odd").unwrap();
    let odd = std::ffi::OsStr::new("x");
    let mut bytes = std::os::unix::ffi::OsStrExt::as_bytes(odd).to_vec();
    bytes.extend(b"\xff\xfe");
    let odd = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&bytes);
    fs::write(world.state().as_std_path().join(odd), b"not UTF-8").unwrap();
    symlink("../outside", at("link")).unwrap();
    fs::hard_link(at("a/small"), at("z-hard")).unwrap();

    let sparse = File::create(at("sparse")).unwrap();
    sparse.write_all_at(b"start", 0).unwrap();
    sparse.write_all_at(b"middle", 4 << 20).unwrap();
    sparse.set_len(9 << 20).unwrap();
    File::create(at("all-hole"))
        .unwrap()
        .set_len(64 << 20)
        .unwrap();

    rustix::fs::setxattr(
        at("a/small").as_std_path(),
        "user.kind",
        b"\0\xff",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    rustix::fs::setxattr(
        at("a/b").as_std_path(),
        "user.dir",
        b"yes",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    fs::set_permissions(at("a/b"), fs::Permissions::from_mode(0o1751)).unwrap();
    fs::set_permissions(at("a/none"), fs::Permissions::from_mode(0o000)).unwrap();
    std::os::unix::fs::lchown(at("link"), Some(1234), Some(4321)).unwrap();
    std::os::unix::fs::chown(at("a/small"), Some(1000), Some(1001)).unwrap();
    let old = std::time::UNIX_EPOCH - std::time::Duration::new(5, 250);
    File::open(at("a/b/text"))
        .unwrap()
        .set_modified(old)
        .unwrap();
}

#[tokio::test]
async fn everything_comes_back() {
    let world = World::new();
    fill(&world);
    let record = world.snapshot().await;
    assert_eq!((record.sequence, record.epoch), (1, 1));

    let report = world.try_restore(None, "restored").await.unwrap();
    assert_eq!(report.labels["tenant"], "acme");
    assert_eq!((report.files, report.bytes), (record.files, record.bytes));
    let restored = world.path.join("restored");
    assert_same(&nodes(&restored), &nodes(&world.state()));
    for name in ["sparse", "all-hole"] {
        let blocks = fs::metadata(restored.join(name)).unwrap().blocks();
        assert!(blocks * 512 < 1 << 20, "{name} has {blocks} blocks");
    }
}

#[tokio::test]
async fn an_unchanged_tree_stores_nothing() {
    let world = World::new();
    fill(&world);
    world.snapshot().await;
    let before = world.objects();
    assert!(matches!(
        world.outcome().await,
        SnapshotOutcome::Unchanged(_)
    ));
    // A touch that is undone changes the ctime only.
    let mode = fs::metadata(world.state().join("a/small"))
        .unwrap()
        .permissions();
    fs::set_permissions(world.state().join("a/small"), mode).unwrap();
    assert!(matches!(
        world.outcome().await,
        SnapshotOutcome::Unchanged(_)
    ));
    assert_eq!(world.objects(), before);
}

#[tokio::test]
async fn a_small_change_stores_little_and_both_snapshots_restore() {
    let world = World::new();
    fill(&world);
    let first = world.snapshot().await;
    let old = nodes(&world.state());

    let database = fs::OpenOptions::new()
        .write(true)
        .open(world.state().join("db.sqlite"))
        .unwrap();
    database.write_all_at(b"a page", 700_000).unwrap();
    fs::write(world.state().join("new"), b"new").unwrap();
    fs::remove_file(world.state().join("a/b/text")).unwrap();
    let second = world.snapshot().await;
    assert_eq!(second.sequence, 2);
    assert!(second.added < 80_000, "{second:?}");

    assert_same(&world.restored(Some("2")).await, &nodes(&world.state()));
    assert_same(
        &world.restored(Some(&first.commit.to_string()[..12])).await,
        &old,
    );

    let chain = world.snapshots().await.chain().unwrap();
    assert_eq!(chain.line.len(), 2);
    assert!(chain.forks.is_empty() && chain.missing.is_empty());
    let local = local_snapshots(&world.local()).unwrap();
    assert_eq!(local, vec![second, first]);
}

#[tokio::test]
async fn a_lost_index_costs_an_upload_and_nothing_else() {
    let world = World::new();
    fill(&world);
    let first = world.snapshot().await;
    fs::write(world.local().join("index"), b"damaged").unwrap();
    let second = world.snapshot().await;
    assert!(second.added > first.added / 2);
    assert_same(&world.restored(None).await, &nodes(&world.state()));
    assert!(matches!(
        world.outcome().await,
        SnapshotOutcome::Unchanged(_)
    ));
}

#[tokio::test]
async fn the_store_tells_neither_names_nor_content() {
    let world = World::new();
    fs::write(
        world.state().join("customer-list"),
        "Alice Example".repeat(50),
    )
    .unwrap();
    world.snapshot().await;
    for path in world.objects() {
        let bytes = fs::read(&path).unwrap();
        for secret in ["customer", "Alice", "acme", "AGE-SECRET", "chunk_id_key"] {
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} in {path}");
        }
        let recipient = String::from(world.repository().await.spec().recipient.clone());
        assert!(
            !bytes
                .windows(recipient.len())
                .any(|window| window == recipient.as_bytes())
        );
    }
}

#[tokio::test]
async fn a_restore_never_touches_what_is_there() {
    let world = World::new();
    fill(&world);
    world.snapshot().await;
    let before = nodes(&world.state());
    let error = world.try_restore(None, "state").await.unwrap_err();
    assert!(matches!(
        error,
        RestoreError::Files(RestoreFilesError::NotFresh(_))
    ));
    assert_eq!(nodes(&world.state()), before);
}

#[tokio::test]
async fn setuid_is_dropped_and_counted() {
    let world = World::new();
    fs::write(world.state().join("tool"), b"#!").unwrap();
    fs::set_permissions(
        world.state().join("tool"),
        fs::Permissions::from_mode(0o6755),
    )
    .unwrap();
    world.snapshot().await;
    let report = world.try_restore(None, "restored").await.unwrap();
    assert_eq!(report.setuid_dropped, 1);
    let mode = fs::metadata(world.path.join("restored/tool"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[tokio::test]
async fn only_one_writer_at_a_time() {
    let world = World::new();
    let _held = world.repository().await;
    let recipients = [world.operator.recipient()];
    let second = tenantd::backup::Repository::create(
        &world.local(),
        Arc::clone(&world.store),
        &recipients,
        jiff::Timestamp::now(),
    )
    .await
    .unwrap_err();
    assert!(second.to_string().contains("another backup"), "{second}");
}

#[tokio::test]
async fn a_rebuilt_node_goes_on_and_the_old_one_becomes_a_fork() {
    let mut world = World::new();
    fill(&world);
    world.snapshot().await;
    let remote = world.remote().await;
    let snapshots = remote.snapshots().await.unwrap();
    let head = snapshots.newest().unwrap();
    let keys = remote
        .unlock(head, &[world.operator.clone()])
        .await
        .unwrap();
    let adopted = remote.adoption(&keys, Some(head.name));

    world.epoch = 2;
    fs::write(world.state().join("by-b"), b"b").unwrap();
    let local = world.path.join("local-b");
    let mut rebuilt = tenantd::backup::Repository::adopt(&local, Arc::clone(&world.store), adopted)
        .await
        .unwrap();
    rebuilt.snapshot(world.request()).await.unwrap();
    let by_b = nodes(&world.state());

    world.epoch = 1;
    for name in ["1", "2", "3"] {
        fs::write(world.state().join("by-a"), name).unwrap();
        world.snapshot().await;
    }
    let snapshots = world.snapshots().await;
    let chain = snapshots.chain().unwrap();
    assert_eq!((chain.line.len(), chain.forks.len()), (2, 3));
    assert_eq!(snapshots.newest().unwrap().name.epoch, 2);
    assert_same(&world.restored(None).await, &by_b);
}

#[tokio::test]
async fn a_stranger_neither_reads_nor_is_believed() {
    let world = World::new();
    fill(&world);
    world.snapshot().await;
    let remote = world.remote().await;
    let snapshots = remote.snapshots().await.unwrap();
    let stranger = tenantd::backup::Identity::generate();
    let locked = remote
        .unlock(snapshots.newest().unwrap(), &[stranger])
        .await
        .unwrap_err();
    assert!(matches!(locked, RemoteError::NoKey));
}

/// Too large to be kept in memory in the pause.
const LARGE: usize = 300_000;

/// Changes a small and a large file while pausing, counts, and may refuse.
struct Busy {
    state: camino::Utf8PathBuf,
    paused: AtomicU32,
    resumed: AtomicU32,
    refuses: bool,
}

#[async_trait::async_trait]
impl Pause for Busy {
    async fn pause(&self) -> Result<(), PauseError> {
        fs::write(self.state.join("busy"), b"written at the last moment").unwrap();
        fs::write(self.state.join("large"), noise(2, LARGE)).unwrap();
        self.paused.fetch_add(1, Ordering::Relaxed);
        if self.refuses {
            Err("the freezer is broken".into())
        } else {
            Ok(())
        }
    }

    async fn resume(&self) -> Result<(), PauseError> {
        fs::write(self.state.join("busy"), b"written after the resume").unwrap();
        fs::write(self.state.join("large"), noise(3, LARGE)).unwrap();
        self.resumed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn busy(world: &mut World, refuses: bool) -> Arc<Busy> {
    let (paused, resumed) = (AtomicU32::new(0), AtomicU32::new(0));
    let busy = Arc::new(Busy {
        state: world.state(),
        paused,
        resumed,
        refuses,
    });
    world.pause = busy.clone();
    busy
}

#[tokio::test]
async fn the_snapshot_is_of_the_moment_of_the_pause() {
    let mut world = World::new();
    fill(&world);
    fs::write(world.state().join("busy"), b"written before").unwrap();
    let busy = busy(&mut world, false);
    let record = world.snapshot().await;
    assert_eq!(busy.resumed.load(Ordering::Relaxed), 1);
    assert!(record.capture.kept >= 1, "{record:?}");
    assert!(
        record.capture.shared + record.capture.copied >= 1,
        "{record:?}"
    );
    assert!(record.capture.pause_us > 0);
    let restored = world.restored(None).await;
    assert_eq!(
        restored[&b"busy"[..]].content,
        b"written at the last moment"
    );
    let digest = blake3::hash(&noise(2, LARGE));
    assert_eq!(restored[&b"large"[..]].content, digest.as_bytes());
}

#[tokio::test]
async fn an_unchanged_agent_is_not_paused_and_a_change_of_labels_is_a_change() {
    let mut world = World::new();
    fill(&world);
    let first = world.snapshot().await;
    // What was changed within the clock's last tick before it was looked at is read once more.
    loop {
        match world.outcome().await {
            SnapshotOutcome::Unchanged(report) if report.pause_us == 0 => break,
            SnapshotOutcome::Unchanged(_) => {}
            SnapshotOutcome::Committed(record) => panic!("something changed: {record:?}"),
        }
    }
    let busy = busy(&mut world, false);
    for _ in 0..2 {
        let SnapshotOutcome::Unchanged(report) = world.outcome().await else {
            panic!("something changed");
        };
        assert_eq!(report.pause_us, 0);
        assert_eq!(report.skipped, first.capture.skipped);
    }
    assert_eq!(busy.paused.load(Ordering::Relaxed), 0);

    let mut request = world.request();
    request.labels.insert("more".to_owned(), "1".to_owned());
    request.pause = Arc::new(tenantd::backup::NobodyWrites);
    let outcome = world.repository().await.snapshot(request).await.unwrap();
    assert!(matches!(outcome, SnapshotOutcome::Committed(_)));
}

#[tokio::test]
async fn what_was_kept_in_the_pause_is_not_taken_for_read_at_rest() {
    let mut world = World::new();
    fill(&world);
    busy(&mut world, false);
    world.snapshot().await;
    world.pause = Arc::new(tenantd::backup::NobodyWrites);
    // The file was changed after the pause, and its size is as it was: only the new time tells.
    fs::write(world.state().join("busy"), b"written at another  moment").unwrap();
    world.snapshot().await;
    assert_eq!(
        world.restored(None).await[&b"busy"[..]].content,
        b"written at another  moment"
    );
}

#[tokio::test]
async fn a_failed_pause_is_resumed_and_nothing_is_committed() {
    let mut world = World::new();
    fill(&world);
    let busy = busy(&mut world, true);
    let error = world
        .repository()
        .await
        .snapshot(world.request())
        .await
        .unwrap_err();
    assert!(matches!(error, SnapshotError::Pause(_)));
    assert_eq!(busy.resumed.load(Ordering::Relaxed), 1);
    assert!(world.snapshots().await.commits.is_empty());
}

#[tokio::test]
async fn a_failure_in_the_pause_resumes_too() {
    let mut world = World::new();
    fill(&world);
    let busy = busy(&mut world, false);
    let mut repository = world.repository().await;
    let mut request = world.request();
    // More clones than fit: a file where the directory for clones should be.
    request.clones = world.path.join("in-the-way/clone");
    fs::write(world.path.join("in-the-way"), b"").unwrap();
    assert!(repository.snapshot(request).await.is_err());
    assert_eq!(
        busy.paused.load(Ordering::Relaxed),
        busy.resumed.load(Ordering::Relaxed)
    );
}
