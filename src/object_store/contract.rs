//! What every store promises, asked of each kind: the tests of `directory` and of `s3` call it.

use bytes::Bytes;
use camino::Utf8PathBuf;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{DirectoryStore, ObjectStore, StoreErrorKind};

/// As large as a pack may be.
const LARGE: usize = 16 << 20;

/// Puts under way at a time.
const AT_ONCE: usize = 16;

/// An empty store in a directory that is not made yet.
pub(super) fn directory() -> (tempfile::TempDir, DirectoryStore) {
    let directory = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(directory.path().join("store")).unwrap();
    (directory, DirectoryStore::new(root))
}

/// Asks an empty store for all that is promised; `many` objects are put to be listed.
pub(super) async fn holds(store: &dyn ObjectStore, many: usize) {
    assert_eq!(names(store, "").await, Vec::<String>::new());
    one_object(store).await;
    prefixes(store).await;
    directories(store).await;
    sizes(store).await;
    ranges(store).await;
    versions(store).await;
    many_objects(store, many).await;
    bad_names(store).await;
}

async fn names(store: &dyn ObjectStore, prefix: &str) -> Vec<String> {
    let found = store.list(prefix).await.unwrap();
    found.into_iter().map(|object| object.name).collect()
}

async fn one_object(store: &dyn ObjectStore) {
    let missing = store.get("one/object", 10).await.unwrap_err();
    assert_eq!(missing.kind, StoreErrorKind::NotFound, "{missing}");
    assert_eq!(store.head("one/object").await.unwrap(), None);
    // The second put repeats the first, as after an answer that was lost; the third replaces it.
    for content in ["first", "first", "second, longer"] {
        store.put("one/object", Bytes::from(content)).await.unwrap();
        assert_eq!(store.get("one/object", 100).await.unwrap(), content);
        let size = store.head("one/object").await.unwrap();
        assert_eq!(size, Some(content.len() as u64));
    }
    assert_eq!(names(store, "one/").await, ["one/object"]);
}

async fn prefixes(store: &dyn ObjectStore) {
    for name in ["p/packs/1", "p/packs/12", "p/trees/3", "q/packs/1"] {
        store.put(name, Bytes::from(name)).await.unwrap();
    }
    assert_eq!(names(store, "p/packs/").await, ["p/packs/1", "p/packs/12"]);
    assert_eq!(names(store, "p/packs/12").await, ["p/packs/12"]);
    assert_eq!(names(store, "p/t").await, ["p/trees/3"]);
    assert_eq!(names(store, "r/").await, Vec::<String>::new());
    let found = store.list("q/").await.unwrap();
    assert_eq!(found[0].size, "q/packs/1".len() as u64);
}

async fn directories(store: &dyn ObjectStore) {
    for name in ["p", "q"] {
        let name = format!("{name}/directories/x/y");
        store.put(&name, Bytes::new()).await.unwrap();
    }
    store.put("file", Bytes::new()).await.unwrap();
    let found = store.list_directories().await.unwrap();
    assert!(found.is_sorted(), "{found:?}");
    for name in ["one", "p", "q"] {
        let times = found.iter().filter(|one| *one == name).count();
        assert_eq!(times, 1, "{name} of {found:?}");
    }
    assert!(!found.iter().any(|one| one == "file" || one.contains('/')));
}

async fn sizes(store: &dyn ObjectStore) {
    let large: Bytes = (0_u64..LARGE as u64 / 8)
        .flat_map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes())
        .collect();
    for (name, bytes) in [("size/none", Bytes::new()), ("size/large", large)] {
        store.put(name, bytes.clone()).await.unwrap();
        let length = bytes.len() as u64;
        assert_eq!(store.head(name).await.unwrap(), Some(length));
        assert!(store.get(name, length).await.unwrap() == bytes, "{name}");
        assert!(
            store.get(name, length + 1).await.unwrap() == bytes,
            "{name}"
        );
        if length > 0 {
            let limit = length - 1;
            let error = store.get(name, limit).await.unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::TooLarge { limit });
        }
    }
}

async fn ranges(store: &dyn ObjectStore) {
    let digits = Bytes::from_static(b"0123456789");
    store.put("range/digits", digits).await.unwrap();
    for (offset, length, expected) in [
        (0, 10, "0123456789"),
        (0, 3, "012"),
        (4, 2, "45"),
        (8, 100, "89"),
        (9, 1, "9"),
        (3, 0, ""),
        (10, 1, ""),
        (1000, 5, ""),
    ] {
        let found = store.get_range("range/digits", offset, length).await;
        assert_eq!(found.unwrap(), expected, "{length} from {offset}");
    }
    let missing = store.get_range("range/none", 0, 1).await.unwrap_err();
    assert_eq!(missing.kind, StoreErrorKind::NotFound, "{missing}");
}

/// What was put last is the latest version, and can be read as such.
async fn versions(store: &dyn ObjectStore) {
    for content in ["older", "newest one"] {
        let bytes = Bytes::from_static(content.as_bytes());
        store.put("versions/a", bytes).await.unwrap();
    }
    let b = Bytes::from_static(b"b");
    store.put("versions/b", b).await.unwrap();
    let found = store.list_versions("versions/").await.unwrap();
    let latest: Vec<_> = found.iter().filter(|version| version.is_latest).collect();
    let names: Vec<_> = latest.iter().map(|version| version.name.as_str()).collect();
    assert_eq!(names, ["versions/a", "versions/b"], "{found:?}");
    assert!(found.is_sorted_by_key(|version| &version.name));
    assert_eq!(latest[0].size, 10);
    let read = store.get_version(latest[0], 10).await.unwrap();
    assert_eq!(read, "newest one");
    let limited = store.get_version(latest[0], 9).await.unwrap_err();
    assert_eq!(limited.kind, StoreErrorKind::TooLarge { limit: 9 });
    for version in &found {
        assert!(!version.is_delete_marker, "{version:?}");
        let bytes = store.get_version(version, 100).await.unwrap();
        assert_eq!(bytes.len() as u64, version.size, "{version:?}");
    }
    assert_eq!(store.list_versions("versions/none").await.unwrap(), []);
}

/// More than fit in one page of a listing, where there are pages.
async fn many_objects(store: &dyn ObjectStore, many: usize) {
    let wanted: Vec<String> = (0..many).map(|n| format!("many/{n:05}")).collect();
    // Every fourth is put twice at the same time.
    let twice = wanted.iter().step_by(4);
    stream::iter(wanted.iter().chain(twice))
        .map(|name| store.put(name, Bytes::from(name.clone())))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
        .unwrap();
    assert_eq!(names(store, "many/").await, wanted);
    for name in wanted.iter().step_by(many.div_ceil(10)) {
        assert_eq!(store.get(name, 100).await.unwrap(), name.as_str());
    }
}

async fn bad_names(store: &dyn ObjectStore) {
    for name in ["", "/etc/x", "../x", "a/../x", "a//x", ".x", "a b", "a\0"] {
        let error = store.put(name, Bytes::new()).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::BadName, "{name:?}");
        assert!(store.get(name, 1).await.is_err(), "{name:?}");
    }
}
