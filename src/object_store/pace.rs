//! How fast and how many: a cap on uploaded bytes per second and on uploads under way at a time.
//! The arithmetic is a pure function; it paces the pieces of a body, not only the starts of requests.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Piece of a body that is waited for as one.
const PIECE: usize = 64 * 1024;
/// What may go out at once after a pause, as time at the full rate.
const BURST: Duration = Duration::from_millis(250);
/// Uploads at a time unless `node.toml` says otherwise.
const UPLOADS: usize = 4;
/// The slowest cap: at less a pack of 16 MiB takes more than four minutes.
const SLOWEST: u64 = 64 * 1024;

/// Bytes per second, written as `20MiB/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(NonZeroU64);

/// Why a text is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a rate of at least 64KiB/s: give a whole number and KB/s, KiB/s, MB/s, MiB/s, \
     GB/s or GiB/s (for example `20MiB/s`)"
)]
pub struct RateError(String);

impl Rate {
    /// Bytes per second.
    pub fn bytes_per_second(self) -> u64 {
        self.0.get()
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        const UNITS: [(&str, u64); 6] = [
            ("KB/s", 1_000),
            ("KiB/s", 1 << 10),
            ("MB/s", 1_000_000),
            ("MiB/s", 1 << 20),
            ("GB/s", 1_000_000_000),
            ("GiB/s", 1 << 30),
        ];
        let read = || {
            let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
            let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
            let bytes = digits.parse::<u64>().ok()?.checked_mul(*unit)?;
            NonZeroU64::new(bytes).filter(|bytes| bytes.get() >= SLOWEST)
        };
        read().map(Self).ok_or_else(|| RateError(text.to_owned()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes_per_second();
        for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB")] {
            if bytes.is_multiple_of(unit) {
                return write!(f, "{}{name}/s", bytes / unit);
            }
        }
        write!(f, "{}KiB/s", bytes / 1024)
    }
}

/// What one process may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uploads {
    /// Bytes per second, all uploads together; none for as fast as the line is.
    pub limit: Option<Rate>,
    /// Uploads under way at a time.
    pub at_once: usize,
}

impl Default for Uploads {
    fn default() -> Self {
        Self {
            limit: None,
            at_once: UPLOADS,
        }
    }
}

/// When the next bytes may go, as a moment that every piece moves on: the virtual scheduling
/// of the generic cell rate algorithm (ITU-T I.371), a token bucket without a ticking clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Schedule {
    /// Moment from which on nothing is owed.
    even: Duration,
}

impl Schedule {
    /// Counts `bytes` at `now`; returns how long to wait before they may go.
    fn take(&mut self, now: Duration, bytes: u64, rate: Rate) -> Duration {
        let start = self.even.max(now.saturating_sub(BURST));
        self.even = start + time_for(bytes, rate);
        start.saturating_sub(now)
    }
}

fn time_for(bytes: u64, rate: Rate) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.bytes_per_second());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Holds uploads to [`Uploads`]; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    uploads: Uploads,
    begun: Instant,
    schedule: Arc<Mutex<Schedule>>,
    turns: Arc<Semaphore>,
}

impl Pace {
    pub(super) fn new(uploads: Uploads) -> Self {
        Self {
            uploads,
            begun: Instant::now(),
            schedule: Arc::new(Mutex::new(Schedule {
                even: Duration::ZERO,
            })),
            turns: Arc::new(Semaphore::new(uploads.at_once.max(1))),
        }
    }

    /// Waits for a turn to upload; it ends when the result is dropped.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.turns.acquire().await.ok()
    }

    /// The longest that `bytes` may be held back while the other turns are taken too.
    pub(super) fn time_for(&self, bytes: u64) -> Duration {
        let turns = u64::try_from(self.uploads.at_once.max(1)).unwrap_or(u64::MAX);
        let together = bytes.saturating_mul(turns);
        self.uploads
            .limit
            .map_or(Duration::ZERO, |rate| time_for(together, rate))
    }

    /// A body that is sent no faster than allowed.
    pub(super) fn body(&self, bytes: Bytes) -> reqwest::Body {
        let Some(rate) = self.uploads.limit else {
            return bytes.into();
        };
        let pieces = stream::unfold((self.clone(), bytes), move |(pace, mut rest)| async move {
            if rest.is_empty() {
                return None;
            }
            let piece = rest.split_to(rest.len().min(PIECE));
            pace.wait(piece.len() as u64, rate).await;
            Some((Ok::<_, std::io::Error>(piece), (pace, rest)))
        });
        reqwest::Body::wrap_stream(pieces)
    }

    async fn wait(&self, bytes: u64, rate: Rate) {
        let now = self.begun.elapsed();
        let wait = match self.schedule.lock() {
            Ok(mut schedule) => schedule.take(now, bytes, rate),
            // A panic elsewhere with the lock held leaves a moment, which is never wrong.
            Err(poisoned) => poisoned.into_inner().take(now, bytes, rate),
        };
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("20MiB/s", 20 << 20)]
    #[case("64KiB/s", 64 << 10)]
    #[case("1 GB/s", 1_000_000_000)]
    #[case("500 KB/s", 500_000)]
    fn a_rate_is_a_number_with_a_unit(#[case] text: &str, #[case] bytes: u64) {
        assert_eq!(text.parse::<Rate>().unwrap().bytes_per_second(), bytes);
    }

    #[rstest]
    #[case("")]
    #[case("20")]
    #[case("MiB/s")]
    #[case("20MiB")]
    #[case("20 mb/s")]
    #[case("-1MiB/s")]
    #[case("1.5MiB/s")]
    #[case("63KiB/s")]
    #[case("0GB/s")]
    #[case("99999999999999999999MiB/s")]
    #[case("18446744073709551615GiB/s")]
    fn other_texts_are_refused_with_an_example(#[case] text: &str) {
        let told = text.parse::<Rate>().unwrap_err().to_string();
        assert!(told.contains("`20MiB/s`"), "{told}");
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_the_rate_and_a_burst(
            steps in prop::collection::vec((0_u64..400, 1_u64..200_000), 1..60),
        ) {
            let rate: Rate = "1MB/s".parse().unwrap();
            let mut schedule = Schedule { even: Duration::ZERO };
            let (mut now, mut sent) = (Duration::ZERO, Vec::new());
            for (pause, bytes) in steps {
                now += Duration::from_millis(pause);
                now += schedule.take(now, bytes, rate);
                sent.push((now, bytes));
            }
            for first in 0..sent.len() {
                let mut total = 0;
                for &(at, bytes) in &sent[first..] {
                    // The last piece of a window goes whole; it is paid for afterwards.
                    let window = at.saturating_sub(sent[first].0) + BURST;
                    prop_assert!(time_for(total, rate) <= window + Duration::from_micros(60));
                    total += bytes;
                }
            }
        }
    }

    #[test]
    fn a_long_upload_takes_its_size_divided_by_the_rate() {
        let rate: Rate = "1MiB/s".parse().unwrap();
        let mut schedule = Schedule {
            even: Duration::ZERO,
        };
        let mut now = Duration::from_secs(100);
        for _ in 0..32 {
            now += schedule.take(now, PIECE as u64, rate);
        }
        // 2 MiB but for the burst at the beginning and the last piece, which is paid for afterwards.
        let unpaid = BURST + time_for(PIECE as u64, rate);
        assert_eq!(now + unpaid, Duration::from_secs(102));
    }

    #[tokio::test]
    async fn a_paced_body_is_the_same_bytes_in_pieces() {
        use http_body_util::BodyExt as _;

        let bytes: Bytes = (0..3 * PIECE + 5).map(|n| n.to_le_bytes()[0]).collect();
        let limit = Some("4GiB/s".parse().unwrap());
        let pace = Pace::new(Uploads { limit, at_once: 2 });
        let body = pace.body(bytes.clone()).collect().await.unwrap();
        assert!(body.to_bytes() == bytes);
        assert_eq!(pace.time_for(1 << 30), Duration::from_millis(500));
    }

    #[tokio::test]
    async fn no_more_uploads_than_allowed_have_their_turn() {
        let pace = Pace::new(Uploads {
            limit: None,
            at_once: 2,
        });
        let (first, second) = (pace.turn().await, pace.turn().await);
        assert!(pace.turns.try_acquire().is_err());
        drop((first, second));
        assert!(pace.turn().await.is_some());
    }
}
