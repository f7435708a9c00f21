//! Random states, changed at random, snapshotted each time: every snapshot restores to what was there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};

use proptest::prelude::*;
use tenantd::backup::SnapshotOutcome;

use super::world::{Node, World, assert_same, nodes, noise};

/// One change; names are numbers so that changes meet each other.
#[derive(Debug, Clone)]
pub enum Change {
    Write { name: u8, seed: u64, length: usize },
    Patch { name: u8, at: u64, seed: u64 },
    Sparse { name: u8, at: u64 },
    Directory { name: u8 },
    Symlink { name: u8, target: u8 },
    Hardlink { name: u8, from: u8 },
    Mode { name: u8, mode: u32 },
    Attribute { name: u8, seed: u64 },
    Remove { name: u8 },
    Rename { name: u8, to: u8 },
}

pub fn change() -> impl Strategy<Value = Change> {
    let name = 0_u8..12;
    let length = prop_oneof![
        Just(0),
        1_usize..2000,
        60_000_usize..70_000,
        100_000_usize..900_000
    ];
    prop_oneof![
        4 => (name.clone(), 0_u64..6, length).prop_map(|(name, seed, length)| Change::Write { name, seed, length }),
        2 => (name.clone(), 0_u64..500_000, any::<u64>()).prop_map(|(name, at, seed)| Change::Patch { name, at, seed }),
        1 => (name.clone(), 0_u64..4_000_000).prop_map(|(name, at)| Change::Sparse { name, at }),
        2 => name.clone().prop_map(|name| Change::Directory { name }),
        1 => (name.clone(), name.clone()).prop_map(|(name, target)| Change::Symlink { name, target }),
        1 => (name.clone(), name.clone()).prop_map(|(name, from)| Change::Hardlink { name, from }),
        1 => (name.clone(), 0_u32..0o2000).prop_map(|(name, mode)| Change::Mode { name, mode }),
        1 => (name.clone(), any::<u64>()).prop_map(|(name, seed)| Change::Attribute { name, seed }),
        2 => name.clone().prop_map(|name| Change::Remove { name }),
        1 => (name.clone(), name).prop_map(|(name, to)| Change::Rename { name, to }),
    ]
}

/// Names 8 to 11 are inside directories 0 to 3, where those are directories.
fn path(world: &World, name: u8) -> camino::Utf8PathBuf {
    match name {
        8.. => world.state().join(format!("n{}/inner {name}", name - 8)),
        _ => world.state().join(format!("n{name}")),
    }
}

/// Does what is possible; what is not (a file in a file) is no change.
pub fn apply(world: &World, change: &Change) {
    let at = |name: &u8| path(world, *name);
    let is_file = |name: &u8| fs::symlink_metadata(at(name)).is_ok_and(|found| found.is_file());
    let exists = |name: &u8| fs::symlink_metadata(at(name)).is_ok();
    match change {
        Change::Write { name, seed, length } if is_file(name) || !exists(name) => {
            let _ = fs::write(at(name), noise(*seed, *length));
        }
        Change::Patch {
            name,
            at: offset,
            seed,
        } if is_file(name) => {
            let file = fs::OpenOptions::new().write(true).open(at(name)).unwrap();
            file.write_all_at(&noise(*seed, 100), *offset).unwrap();
        }
        Change::Sparse { name, at: offset } if is_file(name) => {
            let file = fs::OpenOptions::new().write(true).open(at(name)).unwrap();
            file.set_len(*offset).unwrap();
        }
        Change::Directory { name } => drop(fs::create_dir(at(name))),
        Change::Symlink { name, target } => drop(symlink(format!("n{target}"), at(name))),
        Change::Hardlink { name, from } if is_file(from) => drop(fs::hard_link(at(from), at(name))),
        Change::Mode { name, mode } if exists(name) && !at(name).is_symlink() => {
            fs::set_permissions(at(name), fs::Permissions::from_mode(*mode)).unwrap();
        }
        Change::Attribute { name, seed } if exists(name) && !at(name).is_symlink() => {
            let value = noise(*seed, 100);
            let (path, flags) = (at(name), rustix::fs::XattrFlags::empty());
            rustix::fs::lsetxattr(path.as_std_path(), "user.note", &value, flags).unwrap();
        }
        Change::Remove { name } => {
            let _ = fs::remove_file(at(name));
            let _ = fs::remove_dir_all(at(name));
        }
        Change::Rename { name, to } => drop(fs::rename(at(name), at(to))),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 60, ..ProptestConfig::default() })]
    #[test]
    fn every_snapshot_of_a_sequence_restores(
        rounds in proptest::collection::vec(proptest::collection::vec(change(), 1..12), 1..5),
        lose_index in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let mut expected: Vec<(String, BTreeMap<Vec<u8>, Node>)> = Vec::new();
            for changes in &rounds {
                for change in changes {
                    apply(&world, change);
                }
                let state = nodes(&world.state());
                match world.outcome().await {
                    SnapshotOutcome::Committed(record) => {
                        expected.push((record.commit.to_string(), state));
                    }
                    SnapshotOutcome::Unchanged(_) => {
                        assert_same(&expected.last().unwrap().1, &state);
                    }
                }
                if lose_index {
                    let _ = fs::remove_file(world.local().join("index"));
                }
            }
            for (name, state) in &expected {
                assert_same(&world.restored(Some(name)).await, state);
            }
        });
    }
}
