//! A small repository, written once by version 3, that must restore for ever.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use camino::Utf8Path;
use tenantd::backup::{Head, Identity, RemoteRepository, RestoreRequest, Silent, Trust};
use tenantd::object_store::DirectoryStore;

use super::world::{World, nodes};

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/v3");

/// One line for each file: what a snapshot keeps of it.
fn listing(root: &Utf8Path) -> String {
    let mut lines = String::new();
    for (path, node) in nodes(root) {
        use std::fmt::Write as _;
        let path = String::from_utf8_lossy(&path).escape_default().to_string();
        let content = hex::encode(blake3::hash(&node.content).as_bytes());
        let (mode, owner, mtime) = (node.mode, node.owner, node.mtime);
        writeln!(
            lines,
            "{path} {mode:o} {owner:?} {mtime:?} {} {} {:?} {}",
            node.size,
            &content[..16],
            node.xattrs,
            node.names.len()
        )
        .unwrap();
    }
    lines
}

#[tokio::test]
async fn the_golden_repository_restores() {
    let vectors = Utf8Path::new(VECTORS);
    let operator = fs::read_to_string(vectors.join("operator.txt")).unwrap();
    let operator = Identity::from_text(&operator.into()).unwrap();
    let root = fs::read_to_string(vectors.join("root.pub"))
        .unwrap()
        .parse()
        .unwrap();
    let store = Arc::new(DirectoryStore::new(vectors.join("store")));
    let prefix = RemoteRepository::find(store.as_ref()).await.unwrap()[0];
    let remote = RemoteRepository::open(store, prefix, None, Trust::root(root))
        .await
        .unwrap();
    let snapshots = remote.snapshots().await.unwrap();
    assert_eq!((snapshots.commits.len(), snapshots.refused.len()), (2, 0));
    let beat = remote.heartbeat().await.unwrap().unwrap();
    let named = beat.heartbeat.head_of(remote.id()).unwrap();
    assert_eq!(named.name(), snapshots.newest().unwrap().name);

    let temporary = tempfile::tempdir().unwrap();
    for (sequence, expected) in [("1", "first.txt"), ("2", "second.txt")] {
        let commit = snapshots.named(sequence).unwrap();
        let keys = remote
            .unlock(commit, std::slice::from_ref(&operator))
            .await
            .unwrap();
        let target = Utf8Path::from_path(temporary.path())
            .unwrap()
            .join(sequence);
        let request = RestoreRequest {
            target: target.clone(),
            only: None,
            ownership: true,
            keep_setuid: false,
            progress: Arc::new(Silent),
        };
        remote.restore(commit, &keys, &request).await.unwrap();
        let expected = fs::read_to_string(vectors.join(expected)).unwrap();
        assert_eq!(listing(&target), expected);
    }
}

/// Writes the vectors of a new format version: `cargo test … --ignored vectors::write`.
#[tokio::test]
#[ignore = "only for a new version of the format"]
async fn write() {
    use secrecy::ExposeSecret as _;

    let vectors = Utf8Path::new(VECTORS);
    assert!(
        !vectors.join("store").exists(),
        "a published vector is never written again"
    );
    let mut world = World::new();
    world.store = Arc::new(DirectoryStore::new(vectors.join("store")));
    super::round_trip::fill(&world);
    fs::write(
        world.state().join("a/b/noise"),
        super::world::noise(1, 300_000),
    )
    .unwrap();
    fs::write(
        world.state().join("db.sqlite"),
        b"SQLite format 3\0 but short",
    )
    .unwrap();
    let database = fs::File::create(world.state().join("pages.sqlite")).unwrap();
    let content = super::world::noise(2, 300_000);
    database
        .write_all_at(b"SQLite format 3\0", 0)
        .and_then(|()| database.write_all_at(&content, 16))
        .unwrap();
    world.snapshot().await;
    fs::write(vectors.join("first.txt"), listing(&world.state())).unwrap();
    fs::write(world.state().join("a/small"), b"changed").unwrap();
    fs::remove_file(world.state().join("link")).unwrap();
    // Of this only the page is stored again.
    let page = super::world::noise(3, 4096);
    database.write_all_at(&page, 40 * 4096).unwrap();
    world.snapshot().await;
    fs::write(vectors.join("second.txt"), listing(&world.state())).unwrap();
    let repository = world.repository().await;
    let head = Head::new(repository.spec().id, repository.head().unwrap());
    for (text, _) in tenantd::backup::without_us::FILES {
        // No reader looks at them.
        let prefix = repository.spec().prefix.to_string();
        fs::remove_file(vectors.join("store").join(prefix).join(text)).unwrap();
    }
    let now = jiff::Timestamp::now();
    repository
        .beat(vec![head], &world.signer(), now)
        .await
        .unwrap();
    fs::write(
        vectors.join("operator.txt"),
        world.operator.to_text().expose_secret(),
    )
    .unwrap();
    fs::write(
        vectors.join("root.pub"),
        format!("{}\n", world.root.public()),
    )
    .unwrap();
}
