//! Whatever happens to an object of the store, a restore says so and leaves nothing behind.

use std::error::Error;
use std::fs;

use camino::Utf8Path;

use super::world::{World, noise};

fn fill(world: &World) {
    fs::write(world.state().join("noise"), noise(5, 400_000)).unwrap();
    fs::write(world.state().join("text"), b"text").unwrap();
}

/// The whole chain of causes, as an operator sees it.
fn story(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Changes one object, restores, and gives the error; the object is put back.
async fn error_after(world: &World, object: &Utf8Path, change: impl FnOnce()) -> String {
    let good = fs::read(object).unwrap();
    change();
    let error = world
        .try_restore(None, "restored")
        .await
        .expect_err("the damage went unnoticed");
    assert!(
        !world.path.join("restored").exists(),
        "something was left behind"
    );
    fs::write(object, good).unwrap();
    story(&error)
}

#[tokio::test]
async fn every_kind_of_damage_to_every_kind_of_object_is_reported() {
    let world = World::new();
    fill(&world);
    world.snapshot().await;
    for kind in ["/packs/", "/trees/", "/commits/", "/keys/"] {
        let object = world.object(kind);
        let good = fs::read(&object).unwrap();
        let expected = match kind {
            "/packs/" | "/trees/" => "SHA-256 is not the one that the signed commit names",
            "/commits/" => "no snapshot that a trusted node signed (1 were refused)",
            _ => "none of the identities given opens the keys",
        };
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            let story = error_after(&world, &object, || fs::write(&object, bytes).unwrap()).await;
            assert!(story.contains(expected), "{kind} flipped at {at}: {story}");
        }
        for length in [0, good.len() - 1] {
            let cut = good[..length].to_vec();
            let story = error_after(&world, &object, || fs::write(&object, cut).unwrap()).await;
            assert!(story.contains(expected), "{kind} cut to {length}: {story}");
        }
        let longer = [good.as_slice(), b"x"].concat();
        let story = error_after(&world, &object, || fs::write(&object, longer).unwrap()).await;
        assert!(story.contains(expected), "{kind} longer: {story}");
        let zeros = vec![0; good.len()];
        let story = error_after(&world, &object, || fs::write(&object, zeros).unwrap()).await;
        assert!(story.contains(expected), "{kind} zeroed: {story}");
        let story = error_after(&world, &object, || fs::remove_file(&object).unwrap()).await;
        assert!(!story.is_empty(), "{kind} deleted: {story}");
    }
    world.try_restore(None, "restored").await.unwrap();
}

#[tokio::test]
async fn a_damaged_repository_object_is_reported() {
    let world = World::new();
    fill(&world);
    world.snapshot().await;
    let object = world.object("repository.json");
    let prefix = tenantd::backup::RemoteRepository::find(world.store.as_ref())
        .await
        .unwrap()[0];
    for text in [
        "",
        "{}",
        r#"{"format":"tenantd-repository","version":4,"id":"00000000000000000000000000000000","created":"2026-01-01T00:00:00Z"}"#,
    ] {
        fs::write(&object, text).unwrap();
        let trust = tenantd::backup::Trust::root(world.root.public());
        let opened =
            tenantd::backup::RemoteRepository::open(world.store.clone(), prefix, None, trust).await;
        assert!(
            opened
                .unwrap_err()
                .to_string()
                .contains("not one that this version reads")
        );
    }
}

#[tokio::test]
async fn packs_that_are_exchanged_are_reported() {
    let world = World::new();
    fill(&world);
    world.snapshot().await;
    let first = world.object("/packs/");
    fs::write(world.state().join("other"), noise(6, 400_000)).unwrap();
    world.snapshot().await;
    let packs: Vec<_> = world
        .objects()
        .into_iter()
        .filter(|path| path.as_str().contains("/packs/"))
        .collect();
    let second = packs.iter().find(|path| **path != first).unwrap();
    let bytes = fs::read(second).unwrap();
    let story = error_after(&world, &first, || fs::write(&first, bytes).unwrap()).await;
    assert!(story.contains("SHA-256 is not the one"), "{story}");
}

#[tokio::test]
async fn an_older_commit_is_taken_when_the_newest_is_damaged_and_the_damage_is_reported() {
    let world = World::new();
    fill(&world);
    let first = world.snapshot().await;
    let old = world.restored(None).await;
    fs::write(world.state().join("text"), b"newer").unwrap();
    let second = world.snapshot().await;
    let newest = world.object(&second.commit.to_string());
    fs::write(newest, b"overwritten").unwrap();
    let snapshots = world.snapshots().await;
    assert_eq!(snapshots.refused.len(), 1);
    assert_eq!(snapshots.newest().unwrap().name.digest, first.commit);
    assert_eq!(world.restored(None).await, old);
}

#[tokio::test]
async fn commits_of_another_repository_or_root_are_refused() {
    let (world, mut other) = (World::new(), World::new());
    fill(&world);
    fill(&other);
    world.snapshot().await;
    other.snapshot().await;
    other.root = tenantd::backup::RootKey::from_seed(&[77; 32]).unwrap();
    fs::write(other.state().join("text"), b"by a stranger").unwrap();
    other.snapshot().await;

    let commits = world.object("/commits/").parent().unwrap().to_owned();
    for path in other.objects() {
        if path.as_str().contains("/commits/") {
            fs::copy(&path, commits.join(path.file_name().unwrap())).unwrap();
        }
    }
    let snapshots = world.snapshots().await;
    let mut reasons: Vec<_> = snapshots
        .refused
        .iter()
        .map(|refused| story(&refused.reason))
        .collect();
    reasons.sort();
    assert_eq!(snapshots.commits.len(), 1);
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons[0].contains("belongs to repository"), "{reasons:?}");
    assert!(
        reasons[1].contains("not signed by a trusted root key"),
        "{reasons:?}"
    );
    assert_eq!(world.restored(None).await[&b"text"[..]].content, b"text");
}

#[tokio::test]
async fn verify_finds_the_same_damage_as_deep_as_it_looks() {
    use tenantd::backup::{Problem, Share, Silent, VerifyRequest};

    let world = World::new();
    fill(&world);
    world.snapshot().await;
    let remote = world.remote().await;
    let snapshots = remote.snapshots().await.unwrap();
    let keys = remote
        .unlock(
            snapshots.newest().unwrap(),
            std::slice::from_ref(&world.operator),
        )
        .await
        .unwrap();
    let depth = |share, keys| VerifyRequest {
        share,
        keys,
        progress: std::sync::Arc::new(Silent),
    };
    let sample = Share::Sample {
        permille: 50,
        salt: 7,
    };
    let listing = depth(Share::Nothing, None);
    let download = depth(Share::Everything, None);
    let open = depth(Share::Everything, Some(&keys));
    for depth in [
        &listing,
        &depth(sample, None),
        &depth(sample, Some(&keys)),
        &download,
        &open,
    ] {
        let report = remote.verify(depth).await.unwrap();
        assert!(report.is_good(), "{report:?}");
        assert_eq!((report.commits, report.packs), (1, 1));
    }

    let pack = world.object("/packs/");
    let good = fs::read(&pack).unwrap();
    let mut flipped = good.clone();
    flipped[1000] ^= 1;
    fs::write(&pack, flipped).unwrap();
    assert!(
        remote.verify(&listing).await.unwrap().is_good(),
        "sizes tell nothing"
    );
    let report = remote.verify(&download).await.unwrap();
    assert!(
        matches!(report.faults[..], [ref fault] if matches!(fault.problem, Problem::Content(_)))
    );
    fs::write(&pack, &good[1..]).unwrap();
    let report = remote.verify(&listing).await.unwrap();
    assert!(
        matches!(report.faults[..], [ref fault] if matches!(fault.problem, Problem::Size { .. }))
    );
    fs::remove_file(&pack).unwrap();
    let report = remote.verify(&open).await.unwrap();
    assert!(matches!(report.faults[..], [ref fault] if matches!(fault.problem, Problem::Missing)));

    fs::write(&pack, good).unwrap();
    let tree = world.object("/trees/");
    let part = fs::read(&tree).unwrap();
    fs::remove_file(&tree).unwrap();
    let report = remote.verify(&listing).await.unwrap();
    assert!(matches!(report.faults[..], [ref fault] if fault.object.contains("/trees/")));
    fs::write(&tree, part).unwrap();
    fs::remove_file(world.object("/keys/")).unwrap();
    let report = remote.verify(&listing).await.unwrap();
    assert!(matches!(report.faults[..], [ref fault] if fault.object.ends_with("/keys/")));
}
