//! What a hostile store, or whoever can write to it, cannot make a restore take.

use std::fs;

use camino::Utf8PathBuf;
use tenantd::backup::freshness::{Demands, Evidence, Stale, judge};
use tenantd::backup::{
    BucketPrefix, CommitError, CommitName, Digest, NodeKey, RemoteError, RemoteRepository, RootKey,
    Signer, SnapshotOutcome, SnapshotRequest, Trust, known_head,
};

use super::world::{World, noise};

/// A world with two snapshots: `one`, then `two`.
async fn two() -> (World, [CommitName; 2]) {
    let world = World::new();
    fs::write(world.state().join("noise"), noise(5, 400_000)).unwrap();
    let mut names = Vec::new();
    for content in ["one", "two"] {
        fs::write(world.state().join("file"), content).unwrap();
        names.push(world.snapshot().await.name());
    }
    (world, [names[0], names[1]])
}

async fn content(world: &World) -> Vec<u8> {
    world.restored(None).await[&b"file"[..]].content.clone()
}

fn commits(world: &World) -> Utf8PathBuf {
    let objects = world.objects();
    let commit = objects
        .iter()
        .find(|path| path.as_str().contains("/commits/"));
    commit.unwrap().parent().unwrap().to_owned()
}

/// Stores `bytes` as a commit above all others, under the name that fits them.
fn plant(world: &World, epoch: u32, sequence: u32, bytes: &[u8]) -> CommitName {
    let digest = Digest::of(bytes);
    let name = CommitName {
        epoch,
        sequence,
        digest,
    };
    fs::write(commits(world).join(name.to_string()), bytes).unwrap();
    name
}

fn lines(world: &World, name: CommitName) -> Vec<String> {
    let text = fs::read_to_string(commits(world).join(name.to_string())).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// What the only refused commit was refused for.
async fn reason(world: &World) -> CommitError {
    let mut refused = world.snapshots().await.refused;
    assert_eq!(refused.len(), 1, "{refused:?}");
    refused.remove(0).reason
}

#[tokio::test]
async fn a_commit_without_a_signature_is_refused() {
    let (world, [_, newest]) = two().await;
    let payload = lines(&world, newest)[0].replace("\"sequence\":2", "\"sequence\":3");
    plant(&world, 1, 3, format!("{payload}\n").as_bytes());
    assert!(matches!(reason(&world).await, CommitError::Shape(_)));
    assert_eq!(content(&world).await, b"two");
}

#[tokio::test]
async fn a_commit_with_the_signature_of_another_is_refused() {
    let (world, [_, newest]) = two().await;
    let mut text = lines(&world, newest);
    text[0] = text[0].replace("\"sequence\":2", "\"sequence\":3");
    plant(&world, 1, 3, (text.join("\n") + "\n").as_bytes());
    assert!(matches!(reason(&world).await, CommitError::Key(_)));
    assert_eq!(content(&world).await, b"two");
}

#[tokio::test]
async fn a_good_commit_under_a_higher_name_is_refused() {
    let (world, [oldest, _]) = two().await;
    let bytes = fs::read(commits(&world).join(oldest.to_string())).unwrap();
    plant(&world, 1, 9, &bytes);
    assert!(matches!(reason(&world).await, CommitError::Shape(_)));
    assert_eq!(content(&world).await, b"two");
}

/// Whoever has read the host's disk knows the repository's recipient, chunk-id key and index, and can
/// write to the store; the node's key alone is not theirs.
#[tokio::test]
async fn a_snapshot_forged_for_the_right_recipient_without_the_nodes_key_is_refused() {
    let (world, _) = two().await;
    let key = NodeKey::from_seed(&[99; 32]).unwrap();
    let own_root = RootKey::from_seed(&[98; 32]).unwrap();
    let signers = [
        // Certified by a root of their own.
        Signer {
            certificate: own_root.certify(&key.public(), 7).unwrap(),
            key: key.clone(),
        },
        // Or with the node's certificate, which anyone can read.
        Signer {
            certificate: world.signer().certificate,
            key,
        },
    ];
    for (at, signer) in signers.into_iter().enumerate() {
        fs::write(world.state().join("file"), format!("forged {at}")).unwrap();
        let request = SnapshotRequest {
            signer,
            ..world.request()
        };
        let made = world.repository().await.snapshot(request).await;
        if at == 0 {
            assert!(
                matches!(made, Ok(SnapshotOutcome::Committed(_))),
                "{made:?}"
            );
        }
        let snapshots = world.snapshots().await;
        assert_eq!(snapshots.commits.len(), 2);
        let reasons = &snapshots.refused;
        assert!(
            reasons
                .iter()
                .all(|refused| matches!(refused.reason, CommitError::Key(_)))
        );
        assert_eq!(content(&world).await, b"two");
    }
}

#[tokio::test]
async fn packs_of_two_tenants_that_are_exchanged_are_noticed() {
    let (world, _) = two().await;
    let other = World::new();
    fs::write(other.state().join("secret"), noise(6, 400_000)).unwrap();
    other.snapshot().await;
    let foreign = fs::read(other.object("/packs/")).unwrap();
    for path in world.objects() {
        if path.as_str().contains("/packs/") {
            fs::write(path, &foreign).unwrap();
        }
    }
    let error = world.try_restore(None, "restored").await.unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    let story = format!("{error}: {cause:?}");
    assert!(story.contains("SHA-256 is not the one"), "{story}");
    assert!(!world.path.join("restored").exists());
}

#[tokio::test]
async fn a_whole_repository_in_the_place_of_another_is_noticed() {
    let (world, _) = two().await;
    let (other, _) = two().await;
    let expected = world.remote().await.id();
    let store = other.store.clone();
    let prefix: BucketPrefix = RemoteRepository::find(store.as_ref()).await.unwrap()[0];
    // The same root key stands behind both; only the id tells them apart.
    let trust = Trust::root(world.root.public());
    let opened = RemoteRepository::open(store.clone(), prefix, Some(expected), trust.clone()).await;
    assert!(matches!(opened, Err(RemoteError::Exchanged { .. })));
    // With a `repository.json` to match, its commits are still another's.
    fs::copy(
        world.object("repository.json"),
        other.object("repository.json"),
    )
    .unwrap();
    let opened = RemoteRepository::open(store, prefix, Some(expected), trust)
        .await
        .unwrap();
    let snapshots = opened.snapshots().await.unwrap();
    assert!(snapshots.commits.is_empty());
    let is_foreign = |reason: &CommitError| matches!(reason, CommitError::Foreign { .. });
    assert!(
        snapshots
            .refused
            .iter()
            .all(|refused| is_foreign(&refused.reason))
    );
}

#[tokio::test]
async fn a_chain_with_a_commit_torn_out_says_so() {
    let (world, [_, second]) = two().await;
    fs::write(world.state().join("file"), "three").unwrap();
    let third = world.snapshot().await.name();
    fs::remove_file(commits(&world).join(second.to_string())).unwrap();
    let chain = world.snapshots().await.chain().unwrap();
    assert_eq!((chain.line[0], chain.missing), (third, vec![second.digest]));
    assert_eq!(content(&world).await, b"three");
}

/// What is known of the head on the host that has stored it.
async fn evidence(world: &World) -> Evidence {
    let snapshots = world.snapshots().await;
    let newest = snapshots.newest().unwrap();
    Evidence {
        head: newest.name,
        time: newest.commit.time,
        unreadable: snapshots.unreadable(),
        seen: known_head(&world.local()).unwrap().map(|(_, head)| head),
        word: None,
        now: jiff::Timestamp::now(),
    }
}

#[tokio::test]
async fn an_older_head_than_this_host_has_stored_is_refused() {
    let (world, [first, second]) = two().await;
    judge(&Demands::default(), &evidence(&world).await).unwrap();
    // All versions of it were removed, or hidden from this reader.
    fs::remove_file(commits(&world).join(second.to_string())).unwrap();
    let stale = judge(&Demands::default(), &evidence(&world).await).unwrap_err();
    assert_eq!(
        stale,
        Stale::Seen {
            found: first,
            seen: second
        }
    );
}

#[tokio::test]
async fn a_newer_snapshot_of_a_later_format_is_not_passed_over_in_silence() {
    let (world, [_, newest]) = two().await;
    let payload = lines(&world, newest)[0]
        .replace("\"sequence\":2", "\"sequence\":3")
        .replace("\"version\":3", "\"version\":4");
    let signer = world.signer();
    let line = format!("{payload}\n");
    let signature = signer
        .key
        .sign(tenantd::backup::COMMIT_NAMESPACE, line.as_bytes())
        .unwrap();
    let text = format!("{line}{signature}{}", signer.certificate.to_text());
    let later = plant(&world, 1, 3, text.as_bytes());
    assert!(matches!(
        reason(&world).await,
        CommitError::Version { version: 4, .. }
    ));
    let stale = judge(&Demands::default(), &evidence(&world).await).unwrap_err();
    assert!(matches!(stale, Stale::Unreadable { newer, .. } if newer == later));
    // A forged one of the kind is only one more that nobody believes.
    fs::remove_file(commits(&world).join(later.to_string())).unwrap();
    let forged = text.replace("\"version\":4", "\"version\":5");
    plant(&world, 1, 3, forged.as_bytes());
    assert!(matches!(reason(&world).await, CommitError::Key(_)));
    judge(&Demands::default(), &evidence(&world).await).unwrap();
}

#[tokio::test]
async fn objects_in_the_bucket_have_only_sizes_of_classes() {
    let world = World::new();
    for length in [10, 1_000, 30_000, 500_000] {
        fs::write(world.state().join("noise"), noise(length as u64, length)).unwrap();
        world.snapshot().await;
    }
    let snapshots = world.snapshots().await;
    let remote = world.remote().await;
    let keys = remote
        .unlock(
            snapshots.newest().unwrap(),
            std::slice::from_ref(&world.operator),
        )
        .await
        .unwrap();
    let identity: age::x25519::Identity =
        secrecy::ExposeSecret::expose_secret(&keys.identity.to_text())
            .parse()
            .unwrap();
    for path in world.objects() {
        if path.as_str().contains("/packs/") || path.as_str().contains("/trees/") {
            let plain = age::decrypt(&identity, &fs::read(&path).unwrap()).unwrap();
            let significant =
                usize::BITS - plain.len().leading_zeros() - plain.len().trailing_zeros();
            assert!(significant <= 5, "{path}: {} bytes", plain.len());
            zstd::decode_all(plain.as_slice()).unwrap();
        }
    }
}
