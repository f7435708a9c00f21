//! One file or directory of a snapshot comes back alone, and whole.

use std::fs;

use tenantd::backup::RestoreError;

use super::round_trip::fill;
use super::world::{World, assert_same, nodes, noise};

#[tokio::test]
async fn one_path_needs_only_the_packs_that_it_is_in() {
    let world = World::new();
    let at = |name: &str| world.state().join(name);
    fs::create_dir(at("wanted")).unwrap();
    fs::write(at("wanted/noise"), noise(1, 3 << 20)).unwrap();
    world.snapshot().await;
    let packs = world.objects().into_iter();
    let first: Vec<_> = packs
        .filter(|path| path.as_str().contains("/packs/"))
        .collect();
    fs::write(at("other"), noise(2, 3 << 20)).unwrap();
    let second = world.snapshot().await;
    for path in world.objects() {
        if path.as_str().contains("/packs/") && !first.contains(&path) {
            fs::remove_file(path).unwrap();
        }
    }
    assert!(world.try_restore(None, "all").await.is_err());
    let report = world
        .try_restore_path(None, Some("wanted"), "part")
        .await
        .unwrap();
    assert_eq!((report.files, report.bytes), (1, 3 << 20));
    assert!(report.fetched < second.bytes, "{report:?}");
    assert_same(&nodes(&world.path.join("part")), &nodes(&at("wanted")));
}

#[tokio::test]
async fn a_directory_a_file_and_a_link_come_back_as_they_were() {
    let world = World::new();
    fill(&world);
    world.snapshot().await;
    let part = async |path, target| {
        world
            .try_restore_path(None, Some(path), target)
            .await
            .unwrap();
        nodes(&world.path.join(target))
    };
    assert_same(
        &part("a/b", "directory").await,
        &nodes(&world.state().join("a/b")),
    );
    let all = nodes(&world.state());
    for (path, target) in [
        ("a/b/text", "file"),
        ("link", "symlink"),
        ("sparse", "sparse"),
    ] {
        let name = path.rsplit('/').next().unwrap().as_bytes();
        assert_eq!(
            part(path, target).await[name],
            all[path.as_bytes()],
            "{path}"
        );
    }
    // Its first name is elsewhere: here it is a file of its own.
    let hard = part("z-hard", "hard").await;
    assert_eq!(hard[&b"z-hard"[..]].content, b"small");

    let missing = world
        .try_restore_path(None, Some("a/gone"), "missing")
        .await;
    assert!(matches!(missing, Err(RestoreError::NoPath(path)) if path == "a/gone"));
    assert!(!world.path.join("missing").exists());
}
