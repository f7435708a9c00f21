//! What nobody should have to see at home: a writer that never rests, crashes at every point, power that fails and a
//! bucket that lies. Each ends with: every acknowledged snapshot restores byte-identical.
//!
//! Here are the short runs that every change goes through, the same each time, and the long one of
//! `cargo xtask torture`, which draws new ones from its seed.

mod disk;
mod hammer;
mod oracle;
mod power;
mod storm;
mod trace;

use std::cell::RefCell;
use std::fmt;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use tokio::runtime::Runtime;

use self::hammer::Blows;
use crate::world::World;

/// How long, in minutes; at least one round is played to its end.
const MINUTES: &str = "TENANTD_TORTURE_MINUTES";
/// From what everything is drawn.
const SEED: &str = "TENANTD_TORTURE_SEED";

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Backups that were acknowledged.
    pub backups: usize,
    /// Snapshots that were restored and compared.
    pub restored: usize,
    /// Processes that were killed.
    pub crashes: usize,
    /// Moments at which the power failed.
    pub cuts: usize,
    /// Requests that a bucket spoiled.
    pub faults: usize,
    /// Objects that a collector deleted.
    pub pruned: usize,
    /// Rows of restored databases that were compared.
    pub rows: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.backups += other.backups;
        self.restored += other.restored;
        self.crashes += other.crashes;
        self.cuts += other.cuts;
        self.faults += other.faults;
        self.pruned += other.pruned;
        self.rows += other.rows;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} backups, {} restored and compared ({} rows), {} crashes, {} power cuts, \
             {} spoiled requests, {} objects pruned",
            self.backups,
            self.restored,
            self.rows,
            self.crashes,
            self.cuts,
            self.faults,
            self.pruned
        )
    }
}

#[tokio::test]
async fn two_hundred_backups_of_a_database_under_the_hammer_are_whole() {
    let blows = Blows {
        backups: 200,
        looked_into: 20,
    };
    let tally = hammer::run(World::new(), 1, blows).await;
    assert!(tally.rows > 0);
}

#[tokio::test]
async fn what_is_acknowledged_survives_any_loss_of_power() {
    assert_eq!(power::run(1, 12).await.cuts, 36);
}

#[tokio::test]
async fn what_is_acknowledged_survives_any_weather_of_a_bucket() {
    assert!(storm::run(1, 12).await.faults > 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 100, ..ProptestConfig::default() })]
    #[test]
    fn any_history_leaves_every_snapshot_as_the_oracle_knows_it(steps in oracle::steps()) {
        runtime().block_on(oracle::play(&steps));
    }
}

#[test]
#[ignore = "run by `cargo xtask torture`"]
fn as_long_as_it_was_asked_for() {
    let number = |name: &str| -> u64 {
        let given = std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        given.parse().unwrap()
    };
    let (limit, first) = (Duration::from_mins(number(MINUTES)), number(SEED));
    let begun = Instant::now();
    let mut total = Tally::default();
    let mut seed = first;
    loop {
        for (name, part) in PARTS {
            if seed != first && begun.elapsed() >= limit {
                println!("seeds {first} to {seed}: {total}");
                println!("every acknowledged snapshot restores byte-identical");
                return;
            }
            println!("{name}; again: cargo xtask torture --minutes 0 --seed {seed}");
            let tally = part(seed);
            println!("  {tally}");
            total += tally;
        }
        seed = seed.wrapping_add(1);
    }
}

type Part = fn(u64) -> Tally;

/// One round.
const PARTS: [(&str, Part); 4] = [
    ("histories", histories),
    ("power cuts", |seed| {
        runtime().block_on(power::run(seed, 40))
    }),
    ("storm", |seed| runtime().block_on(storm::run(seed, 40))),
    ("hammer", |seed| {
        let blows = Blows {
            backups: 200,
            looked_into: 1,
        };
        runtime().block_on(hammer::run(World::new(), seed, blows))
    }),
];

fn histories(seed: u64) -> Tally {
    let config = ProptestConfig {
        cases: 20,
        max_shrink_iters: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let bytes = *blake3::hash(&seed.to_le_bytes()).as_bytes();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let (runtime, tally) = (runtime(), RefCell::new(Tally::default()));
    let played = TestRunner::new_with_rng(config, rng).run(&oracle::steps(), |steps| {
        let one = runtime.block_on(oracle::play(&steps));
        *tally.borrow_mut() += one;
        Ok(())
    });
    if let Err(error) = played {
        panic!("{error}");
    }
    tally.into_inner()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
