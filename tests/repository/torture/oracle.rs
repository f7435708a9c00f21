//! Everything that may happen to a tenant's state and to its repository, in any order, beside an oracle in memory that
//! knows what each snapshot must hold.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use tenantd::backup::collect::{CollectRequest, Fate, collect};
use tenantd::backup::retention::{KeepRules, Policy};
use tenantd::backup::{CommitName, Digest, Share, SnapshotOutcome, Trust};
use tenantd::object_store::{Collector, DirectoryStore};

use super::Tally;
use crate::crash;
use crate::sequence::{Change, apply, change};
use crate::world::{Nodes, World, assert_same, nodes, verified};

/// Longer than twice the longest snapshot, as a collector must wait.
const GRACE_HOURS: i64 = 72;

/// One thing that happens.
#[derive(Debug, Clone)]
pub enum Step {
    Change(Vec<Change>),
    BackUp,
    /// A backup by a process that is killed at a point, if it comes there.
    Crash(prop::sample::Index),
    /// A snapshot takes the place of the state.
    RestoreInPlace(prop::sample::Index),
    /// A snapshot is restored beside the state and compared.
    Look(prop::sample::Index),
    LoseIndex,
    DamageIndex(prop::sample::Index),
    Prune {
        hourly: u32,
        daily: u32,
    },
    /// Hours go by.
    Wait(i64),
}

/// Any history.
pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        6 => vec(change(), 1..10).prop_map(Step::Change),
        5 => Just(Step::BackUp),
        3 => index().prop_map(Step::Crash),
        1 => index().prop_map(Step::RestoreInPlace),
        1 => index().prop_map(Step::Look),
        1 => Just(Step::LoseIndex),
        1 => index().prop_map(Step::DamageIndex),
        2 => (0_u32..3, 0_u32..3).prop_map(|(hourly, daily)| Step::Prune { hourly, daily }),
        2 => prop_oneof![1_i64..5, 20_i64..30, GRACE_HOURS..2 * GRACE_HOURS].prop_map(Step::Wait),
    ];
    vec(step, 6..30)
}

/// A tenant, and what the oracle knows of it.
struct Story {
    world: World,
    /// What each snapshot must hold that was acknowledged, or may be stored.
    expected: BTreeMap<Digest, Nodes>,
    acknowledged: Vec<CommitName>,
    tally: Tally,
}

/// Plays a history to its end, and checks every snapshot that is left.
pub async fn play(steps: &[Step]) -> Tally {
    let mut story = Story {
        world: World::new(),
        expected: BTreeMap::new(),
        acknowledged: Vec::new(),
        tally: Tally::default(),
    };
    for step in steps {
        let before = nodes(&story.world.state());
        story.play(step).await;
        if !matches!(step, Step::Change(_) | Step::RestoreInPlace(_)) {
            // Nobody but the tenant writes to its state.
            assert_same(&nodes(&story.world.state()), &before);
        }
    }
    story.back_up().await;
    story.check_all().await;
    story.tally
}

impl Story {
    async fn play(&mut self, step: &Step) {
        let index = self.world.local().join("index");
        match step {
            Step::Change(changes) => changes.iter().for_each(|one| apply(&self.world, one)),
            Step::BackUp => self.back_up().await,
            Step::Crash(point) => {
                let points = crash::points("backup.");
                self.crash(points[point.index(points.len())]);
            }
            Step::RestoreInPlace(which) => {
                let (world, Some(name)) = (&self.world, self.pick(which).await) else {
                    return;
                };
                world
                    .try_restore(Some(&name.digest.to_string()), "next")
                    .await
                    .unwrap();
                fs::remove_dir_all(world.state()).unwrap();
                fs::rename(world.path.join("next"), world.state()).unwrap();
                assert_same(&nodes(&world.state()), &self.expected[&name.digest]);
                self.tally.restored += 1;
            }
            Step::Look(which) => {
                if let Some(name) = self.pick(which).await {
                    self.look(name).await;
                }
            }
            Step::LoseIndex => drop(fs::remove_file(index)),
            Step::DamageIndex(at) => {
                if let Ok(mut bytes) = fs::read(&index) {
                    let at = at.index(bytes.len());
                    bytes[at] ^= 1;
                    fs::write(index, bytes).unwrap();
                }
            }
            Step::Prune { hourly, daily } => self.prune(*hourly, *daily).await,
            Step::Wait(hours) => self.wait(*hours),
        }
    }

    async fn back_up(&mut self) {
        let state = nodes(&self.world.state());
        match self.world.outcome().await {
            SnapshotOutcome::Committed(record) => {
                self.acknowledged.push(record.name());
                self.expected.insert(record.commit, state);
            }
            SnapshotOutcome::Unchanged(_) => {
                let head = self.world.repository().await.head().unwrap();
                assert_same(&state, &self.expected[&head.digest]);
            }
        }
        self.tally.backups += 1;
    }

    fn crash(&mut self, point: &str) {
        let state = nodes(&self.world.state());
        let child = "child_backs_up_what_changed";
        let output = crash::child(&self.world, child, point).output().unwrap();
        let was_killed = output.status.signal() == Some(9);
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(was_killed || output.status.success(), "{point}: {log}");
        self.tally.crashes += usize::from(was_killed);
        // What it wrote down before it stored a commit; later nobody can tell what that held.
        let local = self.world.local();
        let named = match fs::read_to_string(local.join("intent")) {
            Ok(intent) => Some(intent.split(' ').next().unwrap().to_owned()),
            Err(_) => fs::read_dir(local.join("snapshots"))
                .ok()
                .and_then(|found| {
                    let names =
                        found.map(|entry| entry.unwrap().file_name().into_string().unwrap());
                    names.filter(|name| !name.ends_with(".json")).max()
                }),
        };
        if let Some(name) = named.and_then(|name| CommitName::parse(&name)) {
            self.expected.entry(name.digest).or_insert(state);
            if !was_killed && !self.acknowledged.contains(&name) {
                self.acknowledged.push(name);
            }
        }
    }

    /// A snapshot that is in the store.
    async fn pick(&self, which: &prop::sample::Index) -> Option<CommitName> {
        if self.acknowledged.is_empty() {
            return None;
        }
        let there = self.world.snapshots().await.commits;
        Some(which.get(&there).name)
    }

    async fn look(&mut self, name: CommitName) {
        let restored = self.world.restored(Some(&name.digest.to_string())).await;
        let expected = self.expected.get(&name.digest);
        assert_same(&restored, expected.expect("a snapshot that nobody made"));
        self.tally.restored += 1;
    }

    /// Marks, and deletes what was marked long enough ago.
    async fn prune(&mut self, hourly: u32, daily: u32) {
        let Some(newest) = self.acknowledged.last().copied() else {
            return;
        };
        let remote = self.world.remote().await;
        let store: Arc<dyn Collector> =
            Arc::new(DirectoryStore::new(self.world.path.join("store")));
        let rules = KeepRules {
            within: SignedDuration::ZERO,
            hourly,
            daily,
            weekly: 0,
            monthly: 0,
            yearly: 0,
        };
        let request = CollectRequest {
            policy: Policy {
                rules,
                grace: SignedDuration::from_hours(GRACE_HOURS),
            },
            dry_run: false,
            drop_refused: false,
            now: Timestamp::now(),
        };
        let trust = Trust::root(self.world.root.public());
        let prefix = tenantd::backup::read_local_spec(&self.world.local());
        let prefix = prefix.unwrap().unwrap().prefix;
        let report = collect(&store, prefix, &trust, &request).await.unwrap();
        assert_eq!(report.blocked, None);
        let there = remote.snapshots().await.unwrap().commits;
        for snapshot in report.snapshots {
            let is_there = there
                .iter()
                .any(|commit| commit.name.digest == snapshot.commit);
            assert_eq!(is_there, snapshot.fate != Fate::Deleted, "{snapshot:?}");
            assert_eq!(snapshot.fate == Fate::Kept, !snapshot.kept_by.is_empty());
        }
        assert!(
            there.iter().any(|commit| commit.name >= newest),
            "the newest is gone"
        );
        self.tally.pruned += usize::try_from(report.deleted.objects).unwrap();
    }

    /// Everything in the store, and what the writer means to do, is as much older.
    fn wait(&self, hours: i64) {
        let earlier = Duration::from_hours(hours.unsigned_abs());
        if self.world.path.join("store").exists() {
            for object in self.world.objects() {
                let file = fs::File::options().write(true).open(&object).unwrap();
                let modified = file.metadata().unwrap().modified().unwrap();
                file.set_modified(modified - earlier).unwrap();
            }
        }
        let intent = self.world.local().join("intent");
        if let Ok(text) = fs::read_to_string(&intent) {
            let (name, began) = text.trim().split_once(' ').unwrap();
            let began: Timestamp = began.parse().unwrap();
            let began = began - SignedDuration::from_hours(hours);
            fs::write(intent, format!("{name} {began}\n")).unwrap();
        }
    }

    async fn check_all(&mut self) {
        let snapshots = self.world.snapshots().await;
        assert!(snapshots.refused.is_empty(), "{snapshots:?}");
        assert_eq!(snapshots.chain().unwrap().forks, []);
        for commit in &snapshots.commits {
            self.look(commit.name).await;
        }
        let report = verified(&self.world.remote().await, Share::Everything).await;
        assert!(report.is_good(), "{report:?}");
    }
}
