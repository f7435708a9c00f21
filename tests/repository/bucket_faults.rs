//! Everything that can go wrong between a writer, a reader and a bucket, in whole backups and restores.
//! Each ends with: every acknowledged snapshot restores byte-identical.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rstest::rstest;
use tenantd::backup::{Digest, Share, SnapshotError, SnapshotOutcome};
use tenantd::object_store::{ObjectStore, RetryBudget, Retrying};

use super::bucket::{Bucket, Counts, Fault, Kind, Rule};
use super::world::{Node, World, assert_same, nodes, noise, verified};

/// A tenant whose backups go to the bucket, and what its snapshots are to restore to.
pub struct Tenant {
    pub world: World,
    pub bucket: Bucket,
    acknowledged: BTreeMap<Digest, BTreeMap<Vec<u8>, Node>>,
}

impl Tenant {
    /// Without a snapshot.
    pub async fn new() -> Self {
        let bucket = Bucket::start().await;
        let mut world = World::new();
        world.store = Arc::new(bucket.store());
        Self {
            world,
            bucket,
            acknowledged: BTreeMap::new(),
        }
    }

    /// With two snapshots, and a change since.
    pub async fn with_past() -> Self {
        let mut tenant = Self::new().await;
        fs::create_dir(tenant.world.state().join("notes")).unwrap();
        for number in 0..2 {
            tenant.change(number);
            tenant.back_up().await.unwrap();
        }
        tenant.change(2);
        tenant
    }

    pub fn change(&self, number: u8) {
        let state = self.world.state();
        fs::write(state.join("ledger"), noise(u64::from(number), 60_000)).unwrap();
        fs::write(state.join(format!("notes/{number}")), [number; 100]).unwrap();
    }

    /// Backs up, and remembers what was acknowledged.
    pub async fn back_up(&mut self) -> Result<(), SnapshotError> {
        let state = nodes(&self.world.state());
        let mut repository = self
            .world
            .try_repository()
            .await
            .map_err(SnapshotError::Repository)?;
        if let SnapshotOutcome::Committed(record) =
            repository.snapshot(self.world.request()).await?
        {
            self.acknowledged.insert(record.commit, state);
        }
        Ok(())
    }

    /// How many snapshots were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Every acknowledged snapshot is there and restores to what it was.
    pub async fn check(&self) {
        let snapshots = self.world.snapshots().await;
        assert!(snapshots.refused.is_empty(), "{snapshots:?}");
        assert!(snapshots.chain().is_ok());
        for (digest, expected) in &self.acknowledged {
            let restored = self.world.restored(Some(&digest.to_string())).await;
            assert_same(&restored, expected);
        }
    }

    /// The requests of one backup and one restore of what comes next, all being well.
    async fn usual() -> (Counts, Counts) {
        let mut tenant = Self::with_past().await;
        tenant.bucket.counted();
        tenant.back_up().await.unwrap();
        let backup = tenant.bucket.counted();
        tenant.world.restored(None).await;
        (backup, tenant.bucket.counted())
    }
}

#[rstest]
#[case::server_error(Fault::Refuse(500, None))]
#[case::slow_down(Fault::Refuse(503, None))]
#[case::slow_down_for_now(Fault::Refuse(503, Some("0")))]
#[case::until_a_moment_that_passed(Fault::Refuse(503, Some("Sat, 21 Nov 2020 10:00:00 GMT")))]
#[case::cut_while_sending(Fault::CutUpload)]
#[case::cut_before_it_was_stored(Fault::CutBefore)]
#[case::cut_after_it_was_stored(Fault::CutAfter)]
#[case::silent_before_it_was_stored(Fault::SilentBefore)]
#[case::silent_after_it_was_stored(Fault::SilentAfter)]
#[case::delivered_twice(Fault::Twice)]
#[tokio::test]
async fn a_put_that_fails_for_now_costs_time_and_nothing_else(#[case] fault: Fault) {
    let (usual, _) = Tenant::usual().await;
    assert!(usual.put >= 3, "{usual:?}");
    for number in 0..usual.put {
        let mut tenant = Tenant::with_past().await;
        tenant.bucket.fail([Rule::at(number, Kind::Put, fault)]);
        tenant.back_up().await.unwrap();
        assert_eq!(tenant.bucket.mend(), 1, "{fault:?} at {number}");
        assert_eq!(tenant.acknowledged.len(), 3);
        tenant.check().await;
    }
}

#[tokio::test]
async fn a_key_that_is_revoked_midway_fails_the_backup_and_keeps_all_before() {
    let (usual, _) = Tenant::usual().await;
    for number in 0..usual.put {
        let mut tenant = Tenant::with_past().await;
        let revoked = Rule::from(number, Kind::Put, Fault::Refuse(403, None));
        tenant.bucket.fail([revoked]);
        let error = tenant.back_up().await.unwrap_err();
        let told = format!("{:#}", anyhow::Error::from(error));
        assert!(told.contains("access denied"), "{told}");
        tenant.bucket.mend();
        tenant.check().await;
        tenant.change(3);
        tenant.back_up().await.unwrap();
        assert_eq!(tenant.acknowledged.len(), 3);
        tenant.check().await;
    }
}

#[tokio::test]
async fn a_backup_that_dies_after_any_put_is_made_up_for_by_the_next() {
    let (usual, _) = Tenant::usual().await;
    for number in 0..usual.put {
        let mut tenant = Tenant::with_past().await;
        // What was stored last took effect, and nobody was told.
        tenant.world.store = Arc::new(tenant.bucket.impatient());
        let lost = Rule::from(number, Kind::Put, Fault::CutAfter);
        tenant.bucket.fail([lost]);
        tenant.back_up().await.unwrap_err();
        tenant.bucket.mend();
        tenant.world.store = Arc::new(tenant.bucket.store());
        // What was stored as a commit is taken up as such, the rest is sent again.
        tenant.change(3);
        tenant.back_up().await.unwrap();
        tenant.check().await;
    }
}

#[rstest]
#[case::server_error(Fault::Refuse(500, None))]
#[case::slow_down(Fault::Refuse(503, Some("0")))]
#[case::cut_before(Fault::CutBefore)]
#[case::cut_in_the_body(Fault::CutDownload)]
#[case::silent(Fault::SilentBefore)]
#[case::one_bit_flipped(Fault::Flip)]
#[tokio::test]
async fn a_get_that_fails_for_now_costs_a_restore_nothing(#[case] fault: Fault) {
    let mut tenant = Tenant::with_past().await;
    tenant.back_up().await.unwrap();
    tenant.bucket.counted();
    tenant.world.restored(None).await;
    let usual = tenant.bucket.counted();
    assert!(usual.get >= 5, "{usual:?}");
    for number in 0..usual.get {
        tenant.bucket.fail([Rule::at(number, Kind::Get, fault)]);
        let restored = tenant.world.restored(None).await;
        assert_eq!(tenant.bucket.mend(), 1, "{fault:?} at {number}");
        assert_same(&restored, &nodes(&tenant.world.state()));
    }
    tenant.check().await;
}

#[rstest]
#[case::slow_down(Fault::Refuse(503, Some("0")))]
#[case::cut_before(Fault::CutBefore)]
#[case::cut_in_the_body(Fault::CutDownload)]
#[tokio::test]
async fn a_listing_that_fails_for_now_costs_a_restore_nothing(#[case] fault: Fault) {
    let mut tenant = Tenant::with_past().await;
    tenant.back_up().await.unwrap();
    tenant.bucket.counted();
    tenant.world.restored(None).await;
    let usual = tenant.bucket.counted();
    for number in 0..usual.list {
        tenant.bucket.fail([Rule::at(number, Kind::List, fault)]);
        let restored = tenant.world.restored(None).await;
        assert_eq!(tenant.bucket.mend(), 1, "{fault:?} at {number}");
        assert_same(&restored, &nodes(&tenant.world.state()));
    }
}

#[tokio::test]
async fn a_stale_listing_gives_an_older_snapshot_whole_or_an_error() {
    let mut tenant = Tenant::with_past().await;
    tenant.back_up().await.unwrap();
    let versions = tenant.bucket.objects.versions();
    let mut given = 0;
    for missing in 0..=versions {
        tenant
            .bucket
            .fail([Rule::every(Kind::List, Fault::Stale(missing))]);
        if tenant.world.is_reachable().await
            && let Ok(snapshots) = tenant.world.remote().await.snapshots().await
            && let Ok(newest) = snapshots.newest()
        {
            let expected = &tenant.acknowledged[&newest.name.digest];
            assert_same(&tenant.world.restored(None).await, expected);
            given += 1;
        }
        assert!(tenant.bucket.mend() > 0);
    }
    assert!((1..=versions).contains(&given), "{given} of {versions}");
    tenant.check().await;
}

#[tokio::test]
async fn an_unchanged_tenant_costs_no_request_and_a_changed_one_only_puts() {
    let mut tenant = Tenant::new().await;
    fs::create_dir(tenant.world.state().join("notes")).unwrap();
    tenant.change(0);
    tenant.back_up().await.unwrap();
    // What it is, how to restore it without us (two), its keys, a pack, a part of the tree, the commit; nothing is read.
    let expected = Counts {
        put: 7,
        ..Counts::default()
    };
    assert_eq!(tenant.bucket.counted(), expected);
    for _ in 0..3 {
        tenant.back_up().await.unwrap();
        assert_eq!(tenant.bucket.counted(), Counts::default());
    }
    for number in 1..4 {
        tenant.change(number);
        tenant.back_up().await.unwrap();
        let expected = Counts {
            put: 3,
            ..Counts::default()
        };
        assert_eq!(tenant.bucket.counted(), expected);
    }
    assert_eq!(tenant.acknowledged.len(), 4);
}

#[tokio::test]
async fn a_store_that_stays_away_is_given_up_with_how_often_it_was_tried() {
    let bucket = Bucket::start().await;
    bucket.fail([Rule::every(Kind::Put, Fault::Refuse(503, None))]);
    let wait = Duration::from_millis(500);
    let budget = RetryBudget {
        first: wait,
        longest: wait,
        total: 8 * wait,
    };
    let store = Retrying::new(bucket.impatient(), budget);
    let error = store.put("x", Bytes::new()).await.unwrap_err();
    let told = format!("{:#}", anyhow::Error::from(error));
    let tried = bucket.counted().put;
    assert!(tried > 1);
    let times = format!("gave up after {tried} attempts in ");
    assert!(told.contains(&times), "{told}");
    assert!(told.contains("the store answered 503"), "{told}");
    // It asks for more time than there is: then there is no second attempt.
    bucket.mend();
    bucket.fail([Rule::every(Kind::Put, Fault::Refuse(503, Some("3600")))]);
    store.put("x", Bytes::new()).await.unwrap_err();
    assert_eq!(bucket.counted().put, 1);
}

#[tokio::test]
async fn a_bucket_without_a_listing_of_versions_is_used_as_it_is() {
    let mut tenant = Tenant::with_past().await;
    tenant.bucket.objects.list_no_versions();
    tenant.back_up().await.unwrap();
    tenant.check().await;
    let report = verified(&tenant.world.remote().await, Share::Everything).await;
    assert!(report.is_good());
}
