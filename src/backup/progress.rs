//! How far a backup or restore is; whoever shows it implements one trait, or gives [`Meter`] a place to tell it to.
//! Rates and times left are functions of what was counted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pause::Clock;

/// Told about progress, from several threads.
pub trait Progress: Send + Sync {
    /// What is being done now, and how much of it there is if that is known.
    fn stage(&self, stage: Stage, total_bytes: Option<u64>, total_files: Option<u64>);
    /// More bytes are done in this stage.
    fn bytes(&self, bytes: u64);
    /// More files are done in this stage.
    fn files(&self, files: u64);
}

/// The stages of a snapshot, a restore and their like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Looking at all files.
    Scan,
    /// Reading what changed, while the agent runs.
    Read,
    /// Cloning what changed since, while the agent is paused.
    Clone,
    /// Reading the clones.
    ReadClones,
    /// Storing the tree and the commit.
    Commit,
    /// Reading and checking commits and trees.
    Verify,
    /// Fetching and checking packs.
    Check,
    /// Fetching packs and writing files.
    Restore,
    /// Fetching packs and writing an archive.
    Export,
    /// Reading an archive and writing files.
    Import,
}

impl Stage {
    /// What is being done, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Scan => "looking at all files",
            Self::Read => "reading what changed",
            Self::Clone => "cloning what changed, paused",
            Self::ReadClones => "reading the clones",
            Self::Commit => "storing the commit",
            Self::Verify => "checking commits and trees",
            Self::Check => "checking packs",
            Self::Restore => "restoring",
            Self::Export => "exporting",
            Self::Import => "importing",
        }
    }
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _: Stage, _: Option<u64>, _: Option<u64>) {}
    fn bytes(&self, _: u64) {}
    fn files(&self, _: u64) {}
}

/// How far a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Measure {
    /// What is being done.
    pub stage: Stage,
    /// Bytes done.
    pub bytes: u64,
    /// Bytes there are, where that is known.
    pub total_bytes: Option<u64>,
    /// Files done.
    pub files: u64,
    /// Files there are, where that is known.
    pub total_files: Option<u64>,
    /// Milliseconds since the stage began.
    pub elapsed_ms: u64,
}

/// Before this a rate says nothing.
const SOONEST_MS: u64 = 1000;

impl Measure {
    /// Bytes per second since the stage began; none in its first second.
    pub fn rate(&self) -> Option<u64> {
        if self.elapsed_ms < SOONEST_MS {
            return None;
        }
        let rate = u128::from(self.bytes) * 1000 / u128::from(self.elapsed_ms);
        u64::try_from(rate).ok()
    }

    /// How long the rest of the stage takes at that rate.
    pub fn left(&self) -> Option<Duration> {
        let rest = self.total_bytes?.saturating_sub(self.bytes);
        let rate = self.rate().filter(|rate| *rate > 0)?;
        Some(Duration::from_secs(rest.div_ceil(rate)))
    }
}

/// Counts, and tells how far it is at every stage and at most so often in between.
pub struct Meter {
    clock: Arc<dyn Clock>,
    every: Duration,
    tell: Box<dyn Fn(&Measure) + Send + Sync>,
    counted: Mutex<Option<Counted>>,
}

struct Counted {
    measure: Measure,
    begun: Duration,
    told: Duration,
}

impl Meter {
    /// A meter that tells `tell`.
    pub fn new(
        clock: Arc<dyn Clock>,
        every: Duration,
        tell: impl Fn(&Measure) + Send + Sync + 'static,
    ) -> Self {
        Self {
            clock,
            every,
            tell: Box::new(tell),
            counted: Mutex::new(None),
        }
    }

    fn count(&self, add: impl FnOnce(&mut Measure)) {
        let now = self.clock.monotonic();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(counted) = counted.as_mut() else {
            return;
        };
        add(&mut counted.measure);
        if now.saturating_sub(counted.told) >= self.every {
            counted.told = now;
            let elapsed = now.saturating_sub(counted.begun).as_millis();
            counted.measure.elapsed_ms = u64::try_from(elapsed).unwrap_or(u64::MAX);
            (self.tell)(&counted.measure);
        }
    }
}

impl Progress for Meter {
    fn stage(&self, stage: Stage, total_bytes: Option<u64>, total_files: Option<u64>) {
        let now = self.clock.monotonic();
        let measure = Measure {
            stage,
            bytes: 0,
            total_bytes,
            files: 0,
            total_files,
            elapsed_ms: 0,
        };
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        *counted = Some(Counted {
            measure,
            begun: now,
            told: now,
        });
        (self.tell)(&measure);
    }

    fn bytes(&self, bytes: u64) {
        self.count(|measure| measure.bytes += bytes);
    }

    fn files(&self, files: u64) {
        self.count(|measure| measure.files += files);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use jiff::Timestamp;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, None, 0, None, None)]
    #[case(500, Some(1000), 999, None, None)]
    #[case(500, Some(1000), 1000, Some(500), Some(1))]
    #[case(1000, Some(10_000), 2000, Some(500), Some(18))]
    #[case(1000, None, 2000, Some(500), None)]
    #[case(0, Some(10), 5000, Some(0), None)]
    #[case(20, Some(10), 2000, Some(10), Some(0))]
    #[case(u64::MAX, Some(u64::MAX), u64::MAX, Some(1000), Some(0))]
    fn the_rate_is_that_of_the_stage(
        #[case] bytes: u64,
        #[case] total_bytes: Option<u64>,
        #[case] elapsed_ms: u64,
        #[case] rate: Option<u64>,
        #[case] left: Option<u64>,
    ) {
        let measure = Measure {
            stage: Stage::Restore,
            bytes,
            total_bytes,
            files: 0,
            total_files: None,
            elapsed_ms,
        };
        assert_eq!(measure.rate(), rate);
        assert_eq!(measure.left(), left.map(Duration::from_secs));
    }

    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::SeqCst))
        }
    }

    #[test]
    fn it_is_told_at_every_stage_and_not_too_often() {
        let clock = Arc::new(Hand(AtomicU64::new(100)));
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let meter = Meter::new(clock.clone(), Duration::from_secs(10), move |measure| {
            heard
                .lock()
                .unwrap()
                .push((measure.stage, measure.bytes, measure.elapsed_ms));
        });
        meter.bytes(1);
        meter.stage(Stage::Read, Some(100), None);
        meter.bytes(10);
        clock.0.store(110, Ordering::SeqCst);
        meter.bytes(10);
        meter.bytes(10);
        meter.stage(Stage::Commit, None, None);
        let expected = [
            (Stage::Read, 0, 0),
            (Stage::Read, 20, 10_000),
            (Stage::Commit, 0, 0),
        ];
        assert_eq!(*told.lock().unwrap(), expected);
    }
}
