//! Writer and collector with crashes, in any order of their steps: what was acknowledged and is to be kept is
//! there and restores, and no garbage outlives the grace period for long.

use std::fs;
use std::sync::Arc;

use proptest::prelude::*;
use tenantd::backup::Clock as _;
use tenantd::backup::collect::collect;
use tenantd::backup::retention::{Known, judge};
use tenantd::object_store::Collector;

use super::collect::{GRACE_HOURS, Yard};
use super::shelf::Handle;
use super::world::noise;

#[derive(Debug, Clone, Copy)]
enum Actor {
    Writer,
    Collector,
}

/// One actor runs up to a call; others run meanwhile; then it goes on, or it was killed there.
#[derive(Debug, Clone)]
struct Round {
    change: (u8, u64),
    wait: i64,
    actor: Actor,
    stop_at: usize,
    after: bool,
    meanwhile: Vec<(i64, Actor)>,
    crash: bool,
}

fn actor() -> impl Strategy<Value = Actor> {
    prop_oneof![Just(Actor::Writer), Just(Actor::Collector)]
}

/// Minutes, hours, a day, more than the grace period.
fn wait() -> impl Strategy<Value = i64> {
    prop_oneof![1 => Just(0), 1 => 1_i64..5, 1 => 20_i64..30, 2 => GRACE_HOURS..2 * GRACE_HOURS]
}

fn round() -> impl Strategy<Value = Round> {
    let meanwhile = proptest::collection::vec((wait(), actor()), 0..3);
    (
        (0_u8..5, 0_u64..4),
        wait(),
        actor(),
        // A backup is pack, tree, commit; a collection is as many calls as there are commits.
        prop_oneof![3 => 0_usize..4, 1 => 0_usize..24],
        any::<bool>(),
        meanwhile,
        any::<bool>(),
    )
        .prop_map(
            |(change, wait, actor, stop_at, after, meanwhile, crash)| Round {
                change,
                wait,
                actor,
                stop_at,
                after,
                meanwhile,
                crash,
            },
        )
}

async fn run_collector(yard: &Yard, handle: Arc<Handle>) {
    if yard.shelf.names().is_empty() {
        return;
    }
    let store: Arc<dyn Collector> = handle;
    let _ = collect(&store, yard.prefix(), &yard.trust(), &yard.request()).await;
}

async fn run(yard: &mut Yard, actor: Actor, handle: Arc<Handle>) {
    match actor {
        // An error is what a crash or too long a pause looks like: not acknowledged.
        Actor::Writer => drop(yard.back_up(handle).await),
        Actor::Collector => run_collector(yard, handle).await,
    }
}

async fn play(yard: &mut Yard, round: &Round) {
    let (name, seed) = round.change;
    let file = yard.world.state().join(format!("f{name}"));
    fs::write(file, noise(seed, 3000 + usize::from(name) * 1000)).unwrap();
    yard.shelf.wait(round.wait);
    let handle = yard.shelf.handle(Some((round.stop_at, round.after)));
    let shelf = Arc::clone(&yard.shelf);
    match round.actor {
        Actor::Writer => {
            // Only collectors meanwhile: a second writer is kept out by the lock.
            let (prefix, trust) = (
                yard.shelf.names().first().map(|_| yard.prefix()),
                yard.trust(),
            );
            let request = yard.request();
            let others = async {
                handle.reached().await;
                for (wait, _) in &round.meanwhile {
                    shelf.wait(*wait);
                    let store: Arc<dyn Collector> = shelf.handle(None);
                    if let Some(prefix) = prefix {
                        drop(collect(&store, prefix, &trust, &request).await);
                    }
                }
                if round.crash {
                    handle.kill();
                } else {
                    handle.go_on();
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                _ = yard.back_up(Arc::clone(&handle)) => {}
                () = others => {}
            }
        }
        Actor::Collector => {
            if yard.shelf.names().is_empty() {
                return;
            }
            let store: Arc<dyn Collector> = Arc::clone(&handle) as Arc<dyn Collector>;
            let (prefix, trust, request) = (yard.prefix(), yard.trust(), yard.request());
            let mut collecting = std::pin::pin!(collect(&store, prefix, &trust, &request));
            let is_at_its_call = tokio::select! {
                () = handle.reached() => true,
                _ = &mut collecting => false,
            };
            if is_at_its_call {
                for (wait, actor) in &round.meanwhile {
                    yard.shelf.wait(*wait);
                    run(yard, *actor, shelf.handle(None)).await;
                }
                if round.crash {
                    handle.kill();
                } else {
                    handle.go_on();
                }
                drop(collecting.await);
            }
        }
    }
}

/// Of all that was ever seen in the store, what was acknowledged.
fn known(yard: &Yard, seen: &[Known]) -> Vec<Known> {
    seen.iter()
        .filter(|known| yard.acknowledged.contains_key(&known.name.digest))
        .cloned()
        .collect()
}

/// Notes commits that are in the store and were not seen before.
async fn look(yard: &Yard, seen: &mut Vec<Known>) {
    if yard
        .shelf
        .names()
        .iter()
        .all(|name| !name.ends_with("repository.json"))
    {
        return;
    }
    for commit in yard.world.snapshots().await.commits {
        let object = format!("{}/commits/{}", yard.prefix(), commit.name);
        let stored = yard.shelf.stored(&object).unwrap();
        let is_new = seen.iter().all(|known| known.name != commit.name);
        if is_new {
            seen.push(Known {
                name: commit.name,
                repository: commit.commit.repository,
                writer: commit.node.to_string(),
                previous: commit.commit.previous,
                stored,
                touched: stored,
                signed: commit.commit.time,
            });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 60, ..ProptestConfig::default() })]
    #[test]
    fn what_is_acknowledged_and_kept_restores_and_garbage_goes(
        rounds in proptest::collection::vec(round(), 4..16),
        hourly in 0_u32..3, daily in 0_u32..4,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut yard = Yard::new(hourly, daily);
            let mut seen = Vec::new();
            for round in &rounds {
                play(&mut yard, round).await;
                look(&yard, &mut seen).await;
                // A commit that was stored and not acknowledged in time is a snapshot all the same, and
                // may take the place of the last one that was.
                let last_acknowledged = known(&yard, &seen).into_iter().max_by_key(|k| k.name);
                if let Some(last) = last_acknowledged {
                    let there = yard.world.snapshots().await.commits;
                    let is_there = there.iter().any(|commit| commit.name >= last.name);
                    assert!(is_there, "the newest is gone");
                }
            }
            // The last writer ends well, and everything is collected.
            yard.shelf.wait(1);
            yard.snapshot("the end").await;
            look(&yard, &mut seen).await;
            yard.shelf.wait(2 * GRACE_HOURS);
            yard.collect_all().await;
            let kept = judge(&yard.policy, yard.shelf.now(), &seen).unwrap();
            let acknowledged: Vec<_> = known(&yard, &seen).iter().map(|known| known.name).collect();
            let there: Vec<_> = yard.world.snapshots().await.commits.iter().map(|c| c.name).collect();
            for (name, reasons) in kept {
                let must_be_there = acknowledged.contains(&name) && !reasons.is_empty();
                assert!(!must_be_there || there.contains(&name), "{name} is gone: {reasons:?}");
            }
            assert_eq!(yard.garbage().await, Vec::<String>::new());
            yard.check().await;
        });
    }
}
