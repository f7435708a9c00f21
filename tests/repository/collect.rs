//! What the collector deletes and what nobody can make it delete, with the real writer and a clock to turn.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use jiff::SignedDuration;
use tenantd::backup::collect::{
    Blocked, CollectReport, CollectRequest, Fate, collect, find_repositories,
};
use tenantd::backup::retention::{KeepRules, Policy};
use tenantd::backup::{
    BucketPrefix, Clock, CommitName, Digest, Repository, SnapshotError, SnapshotOutcome,
    SnapshotRequest, Trust,
};
use tenantd::object_store::{Collector, ObjectStore};

use super::shelf::{Handle, Shelf};
use super::world::{Node, World, assert_same, nodes, noise};

pub const GRACE_HOURS: i64 = 72;

/// A world over a shelf, and what its snapshots should restore to.
pub struct Yard {
    pub world: World,
    pub shelf: Arc<Shelf>,
    pub policy: Policy,
    pub acknowledged: BTreeMap<Digest, BTreeMap<Vec<u8>, Node>>,
}

impl Yard {
    pub fn new(hourly: u32, daily: u32) -> Self {
        let shelf = Shelf::new();
        let mut world = World::new();
        world.store = shelf.handle(None);
        let rules = KeepRules {
            within: SignedDuration::ZERO,
            hourly,
            daily,
            weekly: 0,
            monthly: 0,
            yearly: 0,
        };
        let grace = SignedDuration::from_hours(GRACE_HOURS);
        Self {
            world,
            shelf,
            policy: Policy { rules, grace },
            acknowledged: BTreeMap::new(),
        }
    }

    /// Backs up by way of `handle`, and remembers what was acknowledged.
    pub async fn back_up(&mut self, handle: Arc<Handle>) -> Result<(), SnapshotError> {
        let store: Arc<dyn ObjectStore> = handle;
        let recipients = [self.world.operator.recipient()];
        let now = self.shelf.now();
        let mut repository = Repository::create(&self.world.local(), store, &recipients, now)
            .await
            .map_err(SnapshotError::Repository)?;
        let state = nodes(&self.world.state());
        let request = SnapshotRequest {
            clock: Arc::clone(&self.shelf) as Arc<dyn Clock>,
            ..self.world.request()
        };
        if let SnapshotOutcome::Committed(record) = repository.snapshot(request).await? {
            self.acknowledged.insert(record.commit, state);
        }
        Ok(())
    }

    pub async fn snapshot(&mut self, content: &str) {
        fs::write(self.world.state().join("file"), content).unwrap();
        self.back_up(self.shelf.handle(None)).await.unwrap();
    }

    pub fn request(&self) -> CollectRequest {
        CollectRequest {
            policy: self.policy,
            dry_run: false,
            drop_refused: false,
            now: self.shelf.now(),
        }
    }

    pub fn prefix(&self) -> BucketPrefix {
        let names = self.shelf.names();
        names[0].split('/').next().unwrap().parse().unwrap()
    }

    pub fn trust(&self) -> Trust {
        Trust::root(self.world.root.public())
    }

    pub async fn collect_with(&self, request: CollectRequest) -> CollectReport {
        let store: Arc<dyn Collector> = self.shelf.handle(None);
        collect(&store, self.prefix(), &self.trust(), &request)
            .await
            .unwrap()
    }

    pub async fn collect(&self) -> CollectReport {
        self.collect_with(self.request()).await
    }

    /// Marks, waits, deletes, and clears the marks away.
    pub async fn collect_all(&self) -> CollectReport {
        self.collect().await;
        self.shelf.wait(GRACE_HOURS);
        let report = self.collect().await;
        self.collect().await;
        report
    }

    /// The numbers of the snapshots in the store.
    pub async fn numbers(&self) -> Vec<u32> {
        let snapshots = self.world.snapshots().await;
        let mut numbers: Vec<u32> = snapshots.commits.iter().map(|c| c.name.sequence).collect();
        numbers.sort_unstable();
        numbers
    }

    pub fn commit_object(&self, number: u32) -> String {
        let part = format!("/commits/{:010}-{number:010}-", 1);
        let mut names = self.shelf.names();
        names.retain(|name| name.contains(&part));
        names.remove(0)
    }

    /// Every snapshot that is in the store and was acknowledged restores to what it was.
    pub async fn check(&self) {
        for commit in self.world.snapshots().await.commits {
            if let Some(expected) = self.acknowledged.get(&commit.name.digest) {
                let name = commit.name.digest.to_string();
                assert_same(&self.world.restored(Some(&name)).await, expected);
            }
        }
    }

    /// Names of packs, trees, lists and marks that no commit in the store needs.
    pub async fn garbage(&self) -> Vec<String> {
        let remote = self.world.remote().await;
        let mut needed = Vec::new();
        for commit in self.world.snapshots().await.commits {
            let packs = remote.packs(&commit).await.unwrap();
            let own = commit.commit.tree.iter().chain(&commit.commit.lists);
            needed.extend(own.chain(&packs).map(|object| object.sha256.to_string()));
        }
        let is_needed = |name: &String| {
            let last = name.rsplit('/').next().unwrap();
            needed.iter().any(|digest| digest == last)
                || [
                    "/commits/",
                    "/keys/",
                    "/repository.json",
                    "/RESTORE.md",
                    "/restore.sh",
                ]
                .iter()
                .any(|part| name.contains(part))
        };
        let mut names = self.shelf.names();
        names.retain(|name| !is_needed(name));
        names
    }
}

/// Ten snapshots, a day apart, each with a file of its own content.
async fn ten_days(hourly: u32, daily: u32) -> Yard {
    let mut yard = Yard::new(hourly, daily);
    fs::write(yard.world.state().join("constant"), noise(1, 100_000)).unwrap();
    for day in 0..10 {
        yard.snapshot(&format!("day {day}")).await;
        yard.shelf.wait(24);
    }
    yard
}

#[tokio::test]
async fn what_the_rules_drop_is_marked_then_deleted_and_the_rest_restores() {
    let yard = ten_days(0, 2).await;
    let first = yard.collect().await;
    assert_eq!(
        yard.numbers().await.len(),
        10,
        "the first run deletes nothing"
    );
    assert!(
        first.marked.objects > 0 && first.deleted.objects == 0,
        "{first:?}"
    );
    let marked = |report: &CollectReport, fate| {
        let snapshots = report.snapshots.iter().filter(|s| s.fate == fate);
        snapshots.map(|s| s.snapshot).collect::<Vec<_>>()
    };
    assert_eq!(marked(&first, Fate::Marked), [1, 2, 3, 4, 5, 6, 7]);
    let soon = yard.collect().await;
    assert_eq!((soon.marked.objects, soon.deleted.objects), (0, 0));
    assert_eq!(soon.waiting, first.marked);

    yard.shelf.wait(GRACE_HOURS);
    let second = yard.collect().await;
    assert_eq!(marked(&second, Fate::Deleted), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(yard.numbers().await, [8, 9, 10]);
    yard.check().await;
    // 8 left the grace period meanwhile.
    yard.collect_all().await;
    assert_eq!(yard.numbers().await, [9, 10]);
    assert_eq!(yard.garbage().await, Vec::<String>::new());
    yard.check().await;
}

#[tokio::test]
async fn a_dry_run_says_the_same_and_changes_nothing() {
    let yard = ten_days(0, 2).await;
    let before = yard.shelf.names();
    let dry = CollectRequest {
        dry_run: true,
        ..yard.request()
    };
    let dry = yard.collect_with(dry).await;
    assert_eq!(yard.shelf.names(), before);
    let done = yard.collect().await;
    assert_eq!((dry.marked, dry.kept), (done.marked, done.kept));
    assert_eq!(dry.snapshots, done.snapshots);
}

#[tokio::test]
async fn a_policy_that_changes_its_mind_in_the_grace_period_loses_nothing() {
    let mut yard = ten_days(0, 2).await;
    yard.collect().await;
    yard.policy.rules.daily = 30;
    yard.shelf.wait(GRACE_HOURS);
    yard.collect().await;
    assert_eq!(yard.numbers().await.len(), 10);
    yard.policy.rules.daily = 2;
    let again = yard.collect().await;
    assert_eq!(again.deleted.objects, 0, "the wait begins anew");
    yard.check().await;
}

#[tokio::test]
async fn the_writer_goes_on_after_its_old_packs_were_collected() {
    let mut yard = ten_days(0, 1).await;
    yard.shelf.wait(400);
    yard.collect_all().await;
    assert_eq!(yard.numbers().await, [10]);
    let before = yard.shelf.names().len();
    yard.snapshot("after the collection").await;
    assert!(
        yard.shelf.names().len() <= before + 3,
        "it reuses the packs of its own newest commit"
    );
    yard.check().await;
    assert_eq!(yard.numbers().await, [10, 11]);
}

#[tokio::test]
async fn a_commit_that_was_overwritten_stops_the_collection() {
    let yard = ten_days(0, 2).await;
    yard.shelf.overwrite(&yard.commit_object(9), b"garbage");
    let before = yard.shelf.names();
    yard.shelf.wait(1000);
    let report = yard.collect().await;
    assert!(
        matches!(report.blocked, Some(Blocked::Commit(_))),
        "{report:?}"
    );
    assert_eq!(yard.shelf.names(), before);
}

#[tokio::test]
async fn hiding_all_commits_deletes_nothing() {
    let yard = ten_days(0, 2).await;
    for number in 1..=10 {
        yard.shelf.remove(&yard.commit_object(number));
    }
    let before = yard.shelf.names();
    yard.shelf.wait(1000);
    let report = yard.collect().await;
    assert_eq!(report.blocked, Some(Blocked::NoCommit));
    assert_eq!(yard.shelf.names(), before);
}

#[tokio::test]
async fn another_repository_json_deletes_nothing() {
    let yard = ten_days(0, 2).await;
    let name = format!("{}/repository.json", yard.prefix());
    let other = br#"{"format":"tenantd-repository","version":3,"id":"00000000000000000000000000000000","created":"2026-11-21T10:00:00Z"}"#;
    yard.shelf.overwrite(&name, other);
    yard.collect_all().await;
    let commits = yard.shelf.names();
    let left = commits.iter().filter(|name| name.contains("/commits/"));
    assert_eq!(left.count(), 3, "as many as with the right one");
}

#[tokio::test]
async fn commits_by_somebody_else_keep_what_they_name_and_drop_nothing() {
    let yard = ten_days(0, 2).await;
    let store: Arc<dyn Collector> = yard.shelf.handle(None);
    let stranger = tenantd::backup::RootKey::from_seed(&[9; 32]).unwrap();
    let trust = Trust::root(stranger.public());
    for _ in 0..2 {
        let report = collect(&store, yard.prefix(), &trust, &yard.request())
            .await
            .unwrap();
        assert_eq!((report.refused.len(), report.deleted.objects), (10, 0));
        yard.shelf.wait(1000);
    }
    yard.check().await;
    assert_eq!(yard.numbers().await.len(), 10);
}

#[tokio::test]
async fn a_commit_of_a_later_version_stops_the_collection() {
    let mut yard = Yard::new(0, 1);
    yard.snapshot("one").await;
    yard.shelf.wait(1000);
    let claimed = format!(
        "{}/commits/{}",
        yard.prefix(),
        CommitName {
            epoch: 1,
            sequence: 7,
            digest: Digest::of(b"{\"format\":\"tenantd-commit\",\"version\":4}\n"),
        }
    );
    yard.shelf
        .overwrite(&claimed, b"{\"format\":\"tenantd-commit\",\"version\":4}\n");
    let report = yard.collect().await;
    assert!(
        matches!(report.blocked, Some(Blocked::Commit(_))),
        "a later version may name what this one does not know: {report:?}"
    );
}

#[tokio::test]
async fn a_snapshot_that_lost_a_pack_is_left_alone_and_takes_no_place() {
    let yard = ten_days(0, 2).await;
    let snapshots = yard.world.snapshots().await;
    let lost = snapshots.named("9").unwrap();
    let remote = yard.world.remote().await;
    let newest_packs = remote.packs(snapshots.newest().unwrap()).await.unwrap();
    let own = lost
        .commit
        .packs
        .iter()
        .find(|pack| !newest_packs.contains(pack));
    let pack = format!("{}/packs/{}", yard.prefix(), own.unwrap().sha256);
    yard.shelf.remove(&pack);
    yard.shelf.wait(1000);
    yard.collect_all().await;
    assert_eq!(
        yard.numbers().await,
        [8, 9, 10],
        "8 is the second day that there is"
    );
    let drop = CollectRequest {
        drop_refused: true,
        ..yard.request()
    };
    yard.collect_with(drop).await;
    yard.shelf.wait(GRACE_HOURS);
    yard.collect_with(drop).await;
    assert_eq!(yard.numbers().await, [8, 10]);
}

#[tokio::test]
async fn what_is_locked_stays_whole_and_is_reported() {
    let yard = ten_days(0, 2).await;
    let object = yard.commit_object(3);
    yard.shelf.locked.lock().unwrap().push(object.clone());
    yard.collect().await;
    yard.shelf.wait(GRACE_HOURS);
    let report = yard.collect().await;
    assert_eq!(report.locked.objects, 1);
    assert!(report.locked_until.is_some());
    assert!(yard.numbers().await.contains(&3));
    yard.check().await;
    yard.shelf.locked.lock().unwrap().clear();
    yard.collect().await;
    assert!(!yard.numbers().await.contains(&3));
}

#[tokio::test]
async fn repositories_are_found_by_their_commits_too() {
    let yard = ten_days(0, 2).await;
    yard.shelf
        .remove(&format!("{}/repository.json", yard.prefix()));
    let store: Arc<dyn Collector> = yard.shelf.handle(None);
    assert_eq!(find_repositories(&store).await.unwrap(), [yard.prefix()]);
}

#[tokio::test]
async fn a_commit_that_was_cut_short_for_too_long_is_given_up() {
    let mut yard = Yard::new(0, 3);
    yard.snapshot("first").await;
    yard.shelf.wait(1);
    fs::write(yard.world.state().join("file"), "second").unwrap();
    // It dies at the PUT of the commit: pack, tree, then this.
    let handle = yard.shelf.handle(Some((2, false)));
    {
        let killer = Arc::clone(&handle);
        let death = async move {
            killer.reached().await;
            killer.kill();
        };
        let (ended, ()) = tokio::join!(yard.back_up(handle), death);
        assert!(ended.is_err());
    }
    yard.shelf.wait(1000);
    yard.collect_all().await;
    assert_eq!(yard.garbage().await, Vec::<String>::new());
    // What the intent names is gone; the same content must be stored again.
    yard.back_up(yard.shelf.handle(None)).await.unwrap();
    assert_eq!(yard.numbers().await, [1, 3]);
    assert_eq!(yard.acknowledged.len(), 2);
    yard.check().await;
}
