//! A process that is killed at any named point loses nothing that was acknowledged, and forks nothing.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::sync::Arc;

use camino::Utf8PathBuf;
use secrecy::ExposeSecret as _;
use tenantd::backup::{
    BeatError, Identity, Rewrapped, SignedHeartbeat, SnapshotOutcome, read_local_spec, rewrap,
};
use tenantd::failpoint::{ALL, VARIABLE};
use tenantd::object_store::{Collector, DirectoryStore};

use super::world::{World, assert_same, nodes, noise};

const DIRECTORY: &str = "TENANTD_TEST_CRASH_DIRECTORY";
const IDENTITY: &str = "TENANTD_TEST_CRASH_IDENTITY";

/// One of the children below, to be run in a process of its own and killed at `point`.
pub fn child(world: &World, child: &str, point: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            &format!("crash::{child}"),
            "--ignored",
            "--nocapture",
        ])
        .env(VARIABLE, point)
        .env(DIRECTORY, &world.path)
        .env(IDENTITY, world.operator.to_text().expose_secret());
    command
}

/// Runs a child that must come to `point`.
fn killed_at(world: &World, name: &str, point: &str) {
    let output = child(world, name, point).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.signal(),
        Some(9),
        "{point} was not reached: {log}"
    );
}

fn child_world() -> World {
    let path = Utf8PathBuf::from(std::env::var(DIRECTORY).unwrap());
    let identity = Identity::from_text(&std::env::var(IDENTITY).unwrap().into()).unwrap();
    World::at(&path, identity)
}

#[tokio::test]
#[ignore = "run by the tests of this file in a process of its own"]
async fn child_backs_up() {
    child_world().snapshot().await;
}

#[tokio::test]
#[ignore = "run by the tests of this file in a process of its own"]
async fn child_backs_up_what_changed() {
    child_world().outcome().await;
}

#[tokio::test]
#[ignore = "run by the tests of this file in a process of its own"]
async fn child_restores() {
    child_world()
        .try_restore(None, "interrupted")
        .await
        .unwrap();
}

#[tokio::test]
#[ignore = "run by the tests of this file in a process of its own"]
async fn child_beats() {
    beat(&child_world()).await.unwrap();
}

async fn rotate(world: &World, identity: &Identity) -> Rewrapped {
    let store: Arc<dyn Collector> = Arc::new(DirectoryStore::new(world.path.join("store")));
    let spec = read_local_spec(&world.local()).unwrap().unwrap();
    let recipients = [identity.recipient()];
    rewrap(
        &store,
        &world.local(),
        &spec,
        &world.operator,
        &recipients,
        false,
    )
    .await
    .unwrap()
}

#[tokio::test]
#[ignore = "run by the tests of this file in a process of its own"]
async fn child_rotates() {
    let world = child_world();
    let next = fs::read_to_string(world.path.join("next")).unwrap();
    rotate(&world, &Identity::from_text(&next.into()).unwrap()).await;
}

#[tokio::test]
async fn a_rotation_may_die_anywhere_and_somebody_can_always_read() {
    for point in ["keys.wrapped", "keys.noted"] {
        let mut world = World::new();
        first_state(&world);
        world.snapshot().await;
        let next = Identity::generate();
        fs::write(world.path.join("next"), next.to_text().expose_secret()).unwrap();
        killed_at(&world, "child_rotates", point);
        assert_same(&world.restored(None).await, &nodes(&world.state()));
        assert!(matches!(
            rotate(&world, &next).await,
            Rewrapped::Anew { .. }
        ));
        world.object("/keys/");
        world.operator = next;
        assert_same(&world.restored(None).await, &nodes(&world.state()));
    }
}

/// Says that nothing has a head; the number is what matters.
async fn beat(world: &World) -> Result<SignedHeartbeat, BeatError> {
    let repository = world.repository().await;
    let now = "2026-11-21T10:00:00Z".parse().unwrap();
    repository.beat(vec![], &world.signer(), now).await
}

#[tokio::test]
async fn a_heartbeat_may_die_anywhere_and_no_number_is_used_twice() {
    for point in points("heartbeat.") {
        let world = World::new();
        let first = beat(&world).await.unwrap().name;
        killed_at(&world, "child_beats", point);
        let third = beat(&world).await.unwrap();
        assert_eq!(third.name.sequence, first.sequence + 2, "{point}");
        let found = world.remote().await.heartbeat().await.unwrap().unwrap();
        assert_eq!(found.name, third.name, "{point}");
        let stored = world.objects();
        let stored = stored
            .iter()
            .filter(|path| path.as_str().contains("/heartbeats/"));
        let is_lost = point == "heartbeat.recorded";
        assert_eq!(stored.count(), if is_lost { 2 } else { 3 }, "{point}");
    }
}

pub fn points(room: &str) -> Vec<&'static str> {
    ALL.iter()
        .copied()
        .filter(|point| point.starts_with(room))
        .collect()
}

fn first_state(world: &World) {
    fs::create_dir(world.state().join("d")).unwrap();
    fs::write(world.state().join("d/noise"), noise(3, 700_000)).unwrap();
    fs::write(world.state().join("small"), b"first").unwrap();
}

fn second_state(world: &World) {
    fs::write(
        world.state().join("small"),
        b"second, changed in the moment of the backup",
    )
    .unwrap();
    fs::write(world.state().join("d/more"), noise(4, 300_000)).unwrap();
}

#[tokio::test]
async fn a_first_backup_may_die_anywhere() {
    for point in points("backup.") {
        let world = World::new();
        first_state(&world);
        killed_at(&world, "child_backs_up", point);
        // The next start finishes or repeats; either way there is one chain of one commit.
        let outcome = world.outcome().await;
        assert_same(&world.restored(None).await, &nodes(&world.state()));
        let snapshots = world.snapshots().await;
        assert_eq!(snapshots.commits.len(), 1, "{point}: {outcome:?}");
        assert!(snapshots.refused.is_empty(), "{point}");
        assert!(!world.path.join("clone").exists(), "{point} leaves clones");
    }
}

#[tokio::test]
async fn a_later_backup_may_die_anywhere_and_the_chain_goes_on() {
    for point in points("backup.")
        .into_iter()
        .filter(|point| !point.contains("create"))
    {
        let world = World::new();
        first_state(&world);
        world.snapshot().await;
        let first = nodes(&world.state());
        second_state(&world);
        killed_at(&world, "child_backs_up", point);
        assert_same(&world.restored(Some("1")).await, &first);

        fs::write(world.state().join("third"), b"third").unwrap();
        assert!(
            matches!(world.outcome().await, SnapshotOutcome::Committed(_)),
            "{point}"
        );
        assert_same(&world.restored(None).await, &nodes(&world.state()));
        let snapshots = world.snapshots().await;
        let chain = snapshots.chain().unwrap();
        assert!(
            chain.forks.is_empty() && chain.missing.is_empty(),
            "{point}: {chain:?}"
        );
        assert_eq!(chain.line.len(), snapshots.commits.len(), "{point}");
        // After the intent, what was prepared is completed, not made again.
        let prepared = [
            "backup.after-intent",
            "backup.after-commit-put",
            "backup.after-index",
            "backup.after-head",
        ];
        let expected = if prepared.contains(&point) { 3 } else { 2 };
        assert_eq!(chain.line.len(), expected, "{point}");
    }
}

#[tokio::test]
async fn a_restore_that_dies_leaves_the_target_to_be_removed_and_the_state_alone() {
    for point in points("restore.") {
        let world = World::new();
        first_state(&world);
        world.snapshot().await;
        let before = nodes(&world.state());
        killed_at(&world, "child_restores", point);
        assert_same(&nodes(&world.state()), &before);
        let again = world.try_restore(None, "interrupted").await;
        assert!(
            again.is_err(),
            "{point}: a target that is there is never written to"
        );
        fs::remove_dir_all(world.path.join("interrupted")).unwrap();
        assert_same(&world.restored(None).await, &before);
    }
}
