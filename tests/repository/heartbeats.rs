//! What a node says of its repositories: what it costs, what a crash leaves, and what nobody can make of it.

use std::fs;
use std::sync::Arc;

use jiff::Timestamp;
use tenantd::backup::freshness::{Demands, Evidence, Stale, Word, judge};
use tenantd::backup::{
    CommitName, Head, HeartbeatName, NodeKey, Repository, RootKey, SignedHeartbeat, Signer,
    SnapshotOutcome, known_head,
};

use super::bucket::{Bucket, Counts};
use super::collect::{GRACE_HOURS, Yard};
use super::world::World;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Says what the world's own repository has for its head.
async fn beat(world: &World, now: Timestamp) -> SignedHeartbeat {
    let repository = world.repository().await;
    let id = repository.spec().id;
    let head = repository.head().map(|name| Head::new(id, name));
    let heads = head.into_iter().collect();
    repository.beat(heads, &world.signer(), now).await.unwrap()
}

/// What a restore of the world's repository would be judged by.
async fn evidence(world: &World) -> Evidence {
    let remote = world.remote().await;
    let snapshots = remote.snapshots().await.unwrap();
    let newest = snapshots.newest().unwrap();
    let beat = remote.heartbeat().await.unwrap();
    Evidence {
        head: newest.name,
        time: newest.commit.time,
        unreadable: snapshots.unreadable(),
        seen: None,
        word: beat.map(|beat| Word {
            time: beat.heartbeat.time,
            head: beat.heartbeat.head_of(remote.id()).map(|head| head.name()),
        }),
        now: Timestamp::now(),
    }
}

async fn write(world: &World, content: &str) -> CommitName {
    fs::write(world.state().join("file"), content).unwrap();
    world.snapshot().await.name()
}

#[tokio::test]
async fn an_interval_without_changes_costs_one_put_and_nothing_else() {
    let bucket = Bucket::start().await;
    let mut worlds: Vec<World> = (0..4).map(|_| World::new()).collect();
    for world in &mut worlds {
        world.store = Arc::new(bucket.store());
        write(world, "content").await;
    }
    bucket.counted();

    let mut heads = Vec::new();
    for world in &worlds {
        assert!(matches!(
            world.outcome().await,
            SnapshotOutcome::Unchanged(_)
        ));
        let head = known_head(&world.local()).unwrap();
        heads.extend(head.map(|(repository, name)| Head::new(repository, name)));
    }
    assert_eq!(heads.len(), 4);
    // The last is the node's own.
    let repository = worlds[3].repository().await;
    let signer = worlds[3].signer();
    let beat = repository.beat(heads, &signer, Timestamp::now()).await;
    assert_eq!(beat.unwrap().heartbeat.heads.len(), 4);

    let expected = Counts {
        put: 1,
        ..Counts::default()
    };
    assert_eq!(bucket.counted(), expected);
}

#[tokio::test]
async fn the_newest_heartbeat_that_a_trusted_node_signed_is_found_below_any_junk() {
    let world = World::new();
    write(&world, "one").await;
    assert!(world.remote().await.heartbeat().await.unwrap().is_none());
    beat(&world, at(1000)).await;
    let newest = beat(&world, at(2000)).await;

    let directory = world.object(&newest.name.to_string());
    let directory = directory.parent().unwrap();
    let above = |digest| HeartbeatName {
        epoch: 9,
        sequence: 1,
        digest,
    };
    let stranger = NodeKey::from_seed(&[77; 32]).unwrap();
    let root = RootKey::from_seed(&[78; 32]).unwrap();
    let certificate = root.certify(&stranger.public(), 9).unwrap();
    let signer = Signer {
        key: stranger,
        certificate,
    };
    let id = world.remote().await.id();
    let forged = SignedHeartbeat::sign(id, 1, at(9000), vec![], &signer).unwrap();
    fs::write(directory.join(forged.name.to_string()), &forged.bytes).unwrap();
    for junk in [&b"junk"[..], &newest.bytes, &vec![b'x'; 2 << 20]] {
        let name = above(tenantd::backup::Digest::of(junk));
        fs::write(directory.join(name.to_string()), junk).unwrap();
    }
    fs::write(directory.join("no-name"), "").unwrap();

    let found = world.remote().await.heartbeat().await.unwrap().unwrap();
    assert_eq!(found.name, newest.name);
}

#[tokio::test]
async fn heartbeats_of_another_node_say_nothing_here() {
    let (world, other) = (World::new(), World::new());
    write(&world, "one").await;
    write(&other, "two").await;
    let own = beat(&world, at(1000)).await;
    let foreign = beat(&other, at(2000)).await;
    let directory = world.object(&own.name.to_string());
    let directory = directory.parent().unwrap();
    // The same root key has certified both.
    fs::write(directory.join(foreign.name.to_string()), &foreign.bytes).unwrap();
    let found = world.remote().await.heartbeat().await.unwrap().unwrap();
    assert_eq!(found.name, own.name);
}

#[tokio::test]
async fn a_store_that_was_rolled_back_is_told_from_one_with_nothing_new() {
    let world = World::new();
    write(&world, "one").await;
    let second = write(&world, "two").await;
    beat(&world, Timestamp::now()).await;
    let nothing = Demands::default();
    judge(&nothing, &evidence(&world).await).unwrap();

    fs::remove_file(world.object(&second.digest.to_string())).unwrap();
    let stale = judge(&nothing, &evidence(&world).await).unwrap_err();
    assert!(
        matches!(stale, Stale::Named { found, named, .. } if found.sequence == 1 && named == second),
        "{stale}"
    );
}

#[tokio::test]
async fn a_replaced_node_that_comes_back_is_a_fork_and_its_word_counts_no_more() {
    let mut a = World::new();
    write(&a, "one").await;
    let shared = write(&a, "two").await;
    beat(&a, at(1000)).await;

    // B is rebuilt from what A stored, and certified later.
    let remote = a.remote().await;
    let snapshots = remote.snapshots().await.unwrap();
    let newest = snapshots.newest().unwrap();
    let identities = [a.operator.clone()];
    let keys = remote.unlock(newest, &identities).await.unwrap();
    let adopted = remote.adoption(&keys, Some(newest.name));
    let b_local = a.path.join("b");
    let store = Arc::clone(&a.store);
    let mut b = Repository::adopt(&b_local, store, adopted).await.unwrap();
    a.epoch = 2;
    let by_b = a.signer();
    fs::write(a.state().join("file"), "of b").unwrap();
    let SnapshotOutcome::Committed(of_b) = b.snapshot(a.request()).await.unwrap() else {
        panic!("b has something new");
    };
    let heads = vec![Head::new(b.spec().id, of_b.name())];
    b.beat(heads, &by_b, at(2000)).await.unwrap();

    // A is switched on again, knows nothing of it, and goes on with more of everything.
    a.epoch = 1;
    let mut forked = Vec::new();
    for content in ["three", "four", "five"] {
        forked.push(write(&a, content).await);
    }
    beat(&a, at(9000)).await;

    let snapshots = a.snapshots().await;
    let chain = snapshots.chain().unwrap();
    assert_eq!(chain.line[..2], [of_b.name(), shared]);
    assert_eq!(chain.forks, forked);
    let beat = a.remote().await.heartbeat().await.unwrap().unwrap();
    assert_eq!((beat.name.epoch, beat.node), (2, by_b.key.public()));
    judge(&Demands::default(), &evidence(&a).await).unwrap();
    assert_eq!(a.restored(None).await[&b"file"[..]].content, b"of b");
}

#[tokio::test]
async fn the_collector_keeps_the_newest_heartbeat_of_each_epoch_and_what_is_young() {
    let mut yard = Yard::new(0, 1);
    yard.snapshot("one").await;
    let mut said = Vec::new();
    for epoch in [1, 2] {
        yard.world.epoch = epoch;
        for hour in 0..3 {
            said.push(beat(&yard.world, at(3600 * hour)).await.name);
        }
    }
    let there = |yard: &Yard| {
        let mut names: Vec<_> = yard
            .shelf
            .names()
            .iter()
            .filter_map(|name| HeartbeatName::parse(name.split_once("/heartbeats/")?.1))
            .collect();
        names.sort_unstable();
        names
    };
    yard.collect().await;
    assert_eq!(there(&yard), said, "all are young");
    yard.shelf.wait(GRACE_HOURS);
    let young = beat(&yard.world, at(3600 * 50)).await.name;
    yard.collect().await;
    assert_eq!(there(&yard).len(), 7, "the others are marked first");
    yard.shelf.wait(GRACE_HOURS);
    let last = beat(&yard.world, at(3600 * 90)).await.name;
    yard.collect().await;
    // `young` is old enough to be marked by now.
    assert_eq!(there(&yard), [said[2], young, last]);
}

#[tokio::test]
async fn a_collected_repository_is_never_older_than_its_heartbeats_say() {
    let mut yard = Yard::new(0, 1);
    for day in 0..8 {
        yard.snapshot(&format!("day {day}")).await;
        // The node dies before it says so, every other day.
        if day % 2 == 0 {
            beat(&yard.world, at(day * 86_400)).await;
        }
        yard.shelf.wait(24);
        if day % 3 == 0 {
            yard.collect_all().await;
        }
        judge(&Demands::default(), &evidence(&yard.world).await).unwrap();
    }
    assert!(yard.numbers().await.len() < 8, "something was collected");
}
