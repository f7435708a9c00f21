//! The power fails at any moment of a backup, for the host's own files alone or for a store on the same disk too; what is
//! left is any of what the disk may have kept. The next backup is right, and nothing that was acknowledged is lost.

use std::fs;

use camino::Utf8PathBuf;
use tenantd::backup::{Digest, Share, read_local_spec};

use super::Tally;
use super::disk::Disk;
use super::trace::{Effect, record};
use crate::crash;
use crate::world::{Nodes, World, assert_same, nodes, noise, verified};

/// Backups of a tenant, one after another.
const BACKUPS: u64 = 3;

/// Cuts the power `cuts` times in each of a few backups.
pub async fn run(seed: u64, cuts: usize) -> Tally {
    let mut dice = fastrand::Rng::with_seed(seed);
    let world = World::new();
    let store = world.path.join("store");
    fs::create_dir(&store).unwrap();
    let mut disk = Disk::new(&world.path);
    for effect in [
        Effect::MakeDirectory(store.clone()),
        Effect::Sync(world.path.clone()),
    ] {
        disk.apply(&effect, None);
    }
    // With a bucket, what was sent is there; a store on the same disk suffers with it.
    let mut disks = [Some(store), None].map(|safe| (safe, disk.clone()));
    let mut acknowledged: Vec<(Digest, Nodes)> = Vec::new();
    let mut tally = Tally::default();
    for number in 0..BACKUPS {
        change(&world, number, &mut dice);
        let child = crash::child(&world, "child_backs_up", "none");
        let effects = record(&child, &world.path);
        let newest = (
            world.snapshots().await.newest().unwrap().name.digest,
            nodes(&world.state()),
        );
        for cut in 0..cuts {
            let moment = dice.usize(..=effects.len());
            let (safe, disk) = &disks[dice.usize(..disks.len())];
            let disk = after(disk, &effects[..moment], safe.as_ref());
            let is_over = moment == effects.len();
            let promised: Vec<_> = acknowledged
                .iter()
                .chain(is_over.then_some(&newest))
                .collect();
            println!(
                "seed {seed}, backup {number}, cut {cut} at {moment} of {}",
                effects.len()
            );
            tally += next_backup_is_right(&world, &disk, &promised, &mut dice).await;
        }
        for (safe, disk) in &mut disks {
            *disk = after(disk, &effects, safe.as_ref());
        }
        acknowledged.push(newest);
        tally.backups += 1;
    }
    tally
}

fn after(disk: &Disk, effects: &[Effect], safe: Option<&Utf8PathBuf>) -> Disk {
    let mut disk = disk.clone();
    let safe = safe.map(Utf8PathBuf::as_path);
    for effect in effects {
        disk.apply(effect, safe);
    }
    disk
}

fn change(world: &World, number: u64, dice: &mut fastrand::Rng) {
    let at = |name: &str| world.state().join(name);
    if number == 0 {
        fs::create_dir(at("notes")).unwrap();
        fs::write(at("constant"), noise(7, 150_000)).unwrap();
    }
    fs::write(at("ledger"), noise(dice.u64(..), dice.usize(..90_000))).unwrap();
    fs::write(at(&format!("notes/{number}")), [b'x'; 100]).unwrap();
}

/// Starts again with what the disk kept, and looks at everything.
async fn next_backup_is_right(
    world: &World,
    disk: &Disk,
    promised: &[&(Digest, Nodes)],
    dice: &mut fastrand::Rng,
) -> Tally {
    let place = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(place.path().to_owned()).unwrap();
    disk.lose_power(dice).lay_out(&world.path, &path);
    let again = World::at(&path, world.operator.clone());
    // The very same files: what is remembered of them holds.
    fs::rename(world.state(), again.state()).unwrap();
    let since = again.state().join("since");
    if dice.bool() {
        fs::write(&since, noise(dice.u64(..), 1000)).unwrap();
    }
    let state = nodes(&again.state());
    again.outcome().await;
    forget_other_repositories(&again, promised);

    let snapshots = again.snapshots().await;
    assert!(snapshots.refused.is_empty(), "{snapshots:?}");
    let chain = snapshots.chain().unwrap();
    assert!(
        chain.forks.is_empty() && chain.missing.is_empty(),
        "{chain:?}"
    );
    assert_same(&again.restored(None).await, &state);
    for (digest, expected) in promised {
        assert_same(&again.restored(Some(&digest.to_string())).await, expected);
    }
    // No pack is named that the disk has lost.
    let report = verified(&again.remote().await, Share::Everything).await;
    assert!(report.is_good(), "{report:?}");

    let _ = fs::remove_file(since);
    fs::rename(again.state(), world.state()).unwrap();
    Tally {
        cuts: 1,
        restored: promised.len() + 1,
        ..Tally::default()
    }
}

/// A host that lost a repository before anything was promised has made another one.
fn forget_other_repositories(world: &World, promised: &[&(Digest, Nodes)]) {
    let own = read_local_spec(&world.local())
        .unwrap()
        .unwrap()
        .prefix
        .to_string();
    for entry in world.path.join("store").read_dir_utf8().unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != own {
            assert!(promised.is_empty(), "the host forgot its repository");
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}
