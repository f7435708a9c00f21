//! `tenantd prune` as an operator types it, on a machine that is no host: a directory, a public key, no daemon.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

use super::world::{World, assert_same, nodes};

fn prune(world: &World, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tenantd"))
        .args([
            "prune",
            "--store",
            &format!("dir:{}", world.path.join("store")),
        ])
        .args(["--root-key", &world.root.public().to_string()])
        .args(arguments)
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn a_store_is_pruned_without_daemon_and_identity() {
    let world = World::new();
    for content in ["one", "two"] {
        fs::write(world.state().join("file"), content).unwrap();
        world.snapshot().await;
    }
    // What a backup left that died long ago.
    let pack = world
        .objects()
        .iter()
        .find(|object| object.as_str().contains("/packs/"))
        .unwrap()
        .with_file_name("0".repeat(64));
    fs::write(&pack, b"orphan").unwrap();
    let old = fs::File::options().write(true).open(&pack).unwrap();
    let month = std::time::Duration::from_hours(24 * 30);
    old.set_modified(std::time::SystemTime::now() - month)
        .unwrap();

    let before = world.objects();
    let dry = json(&prune(&world, &["--dry-run", "--json"]));
    assert_eq!(dry[0]["marked"]["objects"], 1, "{dry}");
    assert_eq!(world.objects(), before, "a dry run changes nothing");

    let first = json(&prune(&world, &["--yes", "--json"]));
    assert_eq!(first[0]["marked"]["objects"], 1);
    let mark = world.object("/marks/");
    let mark = fs::File::options().write(true).open(mark).unwrap();
    mark.set_modified(std::time::SystemTime::now() - month)
        .unwrap();
    let second = json(&prune(&world, &["--yes", "--json"]));
    assert_eq!(second[0]["deleted"]["objects"], 1);
    assert_eq!(second[0]["snapshots"][1]["kept-by"][0], "newest");
    assert!(!pack.exists());
    json(&prune(&world, &["--yes", "--json"]));
    assert!(world.objects().iter().all(|object| before.contains(object)));
    assert_same(&world.restored(None).await, &nodes(&world.state()));
}

#[test]
fn nothing_is_deleted_before_somebody_said_yes() {
    let world = World::new();
    let asked = prune(&world, &[]);
    assert_eq!(asked.status.code(), Some(2));
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(
        said.contains("give --yes, or look first with --dry-run"),
        "{said}"
    );
}
