//! What went out and came in, by destination, while it happens.
//! It counts and says when the volume is used up; who cuts connections and who keeps the figures, others decide.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// Destinations that are told apart; what comes after goes together, so that a million names are no million counters.
const DESTINATIONS: usize = 1024;

/// Destinations up to which a refusal has figures of its own: refusals cost nothing, and must leave room for the rest.
const REFUSED: usize = 256;

/// What the rest is called. No host has this name.
pub const OTHERS: &str = "(others)";

/// The figures of one destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Figures {
    /// Bytes that left.
    pub sent: u64,
    /// Bytes that came back.
    pub received: u64,
    /// Connections that were made.
    pub connections: u64,
    /// What was refused.
    pub refused: u64,
}

impl Figures {
    /// Bytes of both directions.
    pub const fn bytes(self) -> u64 {
        self.sent.saturating_add(self.received)
    }
}

/// Counters of one destination.
#[derive(Debug, Default)]
pub struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    connections: AtomicU64,
    refused: AtomicU64,
}

impl From<Figures> for Counters {
    fn from(figures: Figures) -> Self {
        Self {
            sent: figures.sent.into(),
            received: figures.received.into(),
            connections: figures.connections.into(),
            refused: figures.refused.into(),
        }
    }
}

impl Counters {
    fn figures(&self) -> Figures {
        Figures {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn add(&self, figures: Figures) {
        self.sent.fetch_add(figures.sent, Ordering::Relaxed);
        self.received.fetch_add(figures.received, Ordering::Relaxed);
        let connections = figures.connections;
        self.connections.fetch_add(connections, Ordering::Relaxed);
        self.refused.fetch_add(figures.refused, Ordering::Relaxed);
    }

    /// As `figures`, and begins again at nothing; what is counted meanwhile is lost on neither side.
    fn take(&self) -> Figures {
        Figures {
            sent: self.sent.swap(0, Ordering::Relaxed),
            received: self.received.swap(0, Ordering::Relaxed),
            connections: self.connections.swap(0, Ordering::Relaxed),
            refused: self.refused.swap(0, Ordering::Relaxed),
        }
    }
}

/// The meter of one tenant's door.
#[derive(Debug)]
pub struct Meter {
    destinations: Mutex<Destinations>,
    /// Bytes of both directions in this month.
    passed: AtomicU64,
    /// Bytes of both directions that a month has.
    volume: AtomicU64,
    used_up: Mutex<CancellationToken>,
}

/// The figures of each destination.
pub type Destinations<T = Arc<Counters>> = BTreeMap<String, T>;

/// Which way bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the tenant.
    Out,
    /// To the tenant.
    In,
}

impl Meter {
    /// A meter that lets `volume` bytes through in a month, of which `so_far` have passed.
    pub fn new(volume: u64, so_far: Destinations<Figures>) -> Self {
        let passed = so_far.values().copied().map(Figures::bytes).sum();
        let counters = |(name, figures): (String, Figures)| (name, Arc::new(figures.into()));
        let meter = Self {
            destinations: Mutex::new(so_far.into_iter().map(counters).collect()),
            passed: AtomicU64::new(passed),
            volume: AtomicU64::new(volume),
            used_up: Mutex::default(),
        };
        meter.judge();
        meter
    }

    /// Ends when the volume is used up.
    pub fn used_up(&self) -> CancellationToken {
        self.token().clone()
    }

    /// Bytes of both directions in this month, and those that it has.
    pub fn of_volume(&self) -> (u64, u64) {
        let passed = self.passed.load(Ordering::Relaxed);
        (passed, self.volume.load(Ordering::Relaxed))
    }

    /// Lets another volume through in a month from now on.
    pub fn set_volume(&self, volume: u64) {
        self.volume.store(volume, Ordering::Relaxed);
        self.judge();
    }

    /// Begins a new month, of which `so_far` is counted already, and gives what was counted in the one that is over.
    /// Open connections go on counting.
    pub fn next_month(&self, so_far: Destinations<Figures>) -> Destinations<Figures> {
        let mut destinations = self.lock();
        let taken = destinations
            .iter()
            .map(|(name, counters)| (name.clone(), counters.take()))
            .collect();
        destinations.retain(|_, counters| Arc::strong_count(counters) > 1);
        let passed = so_far.values().copied().map(Figures::bytes).sum();
        for (name, figures) in so_far {
            destinations.entry(name).or_default().add(figures);
        }
        drop(destinations);
        self.passed.store(passed, Ordering::Relaxed);
        self.judge();
        taken
    }

    /// Cuts or lets through, by what has passed.
    fn judge(&self) {
        let (passed, volume) = self.of_volume();
        let mut used_up = self.token();
        match (passed >= volume, used_up.is_cancelled()) {
            (true, false) => used_up.cancel(),
            (false, true) => *used_up = CancellationToken::new(),
            _ => {}
        }
    }

    fn token(&self) -> std::sync::MutexGuard<'_, CancellationToken> {
        self.used_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Destinations> {
        let locked = self.destinations.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection, and then what it carries.
    pub fn connection(self: &Arc<Self>, destination: &str) -> Flow {
        let counters = self.counters(destination, DESTINATIONS);
        counters.connections.fetch_add(1, Ordering::Relaxed);
        Flow {
            meter: Arc::clone(self),
            counters,
        }
    }

    /// Counts a refusal.
    pub fn refusal(&self, destination: &str) {
        let counters = self.counters(destination, REFUSED);
        counters.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// All figures of this month.
    pub fn figures(&self) -> Destinations<Figures> {
        let read = |(name, counters): (&String, &Arc<Counters>)| (name.clone(), counters.figures());
        self.lock().iter().map(read).collect()
    }

    /// Those of a destination, which has its own if it has them already or fewer than `most` have.
    fn counters(&self, destination: &str, most: usize) -> Arc<Counters> {
        let mut destinations = self.lock();
        if let Some(counters) = destinations.get(destination) {
            return Arc::clone(counters);
        }
        let name = if destinations.len() < most {
            destination
        } else {
            OTHERS
        };
        Arc::clone(destinations.entry(name.to_owned()).or_default())
    }

    fn count(&self, bytes: u64) {
        let before = self.passed.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) >= self.volume.load(Ordering::Relaxed) {
            self.judge();
        }
    }
}

/// One connection's share of the meter.
#[derive(Debug, Clone)]
pub struct Flow {
    meter: Arc<Meter>,
    counters: Arc<Counters>,
}

impl Flow {
    /// Counts bytes that have passed.
    pub fn count(&self, way: Way, bytes: usize) {
        let bytes = bytes as u64;
        let counter = match way {
            Way::Out => &self.counters.sent,
            Way::In => &self.counters.received,
        };
        counter.fetch_add(bytes, Ordering::Relaxed);
        self.meter.count(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_are_counted_by_destination() {
        let meter = Arc::new(Meter::new(u64::MAX, BTreeMap::new()));
        let flow = meter.connection("api.example.org:443");
        flow.count(Way::Out, 10);
        flow.count(Way::In, 200);
        meter.refusal("evil.example:443");
        let figures = meter.figures();
        let expected = Figures {
            sent: 10,
            received: 200,
            connections: 1,
            refused: 0,
        };
        assert_eq!(figures["api.example.org:443"], expected);
        assert_eq!(figures["evil.example:443"].refused, 1);
    }

    #[test]
    fn the_volume_ends_with_its_last_byte() {
        let meter = Arc::new(Meter::new(100, BTreeMap::new()));
        let flow = meter.connection("a.example:443");
        flow.count(Way::Out, 99);
        assert!(!meter.used_up().is_cancelled());
        flow.count(Way::In, 1);
        assert!(meter.used_up().is_cancelled());
        assert!(Meter::new(0, BTreeMap::new()).used_up().is_cancelled());
    }

    #[test]
    fn what_passed_before_the_doors_start_counts() {
        let meter = Arc::new(Meter::new(100, BTreeMap::new()));
        meter.connection("a.example:443").count(Way::Out, 60);
        let meter = Arc::new(Meter::new(100, meter.figures()));
        assert_eq!(meter.of_volume(), (60, 100));
        meter.connection("a.example:443").count(Way::In, 40);
        assert!(meter.used_up().is_cancelled());
        assert_eq!(meter.figures()["a.example:443"].connections, 2);
    }

    #[test]
    fn a_larger_volume_and_a_new_month_open_again() {
        let meter = Arc::new(Meter::new(100, BTreeMap::new()));
        let flow = meter.connection("a.example:443");
        flow.count(Way::Out, 100);
        let cut = meter.used_up();
        meter.set_volume(200);
        assert!(cut.is_cancelled() && !meter.used_up().is_cancelled());
        flow.count(Way::Out, 150);
        assert!(meter.used_up().is_cancelled());
        assert_eq!(
            meter.next_month(Destinations::new())["a.example:443"].sent,
            250
        );
        assert!(!meter.used_up().is_cancelled());
        flow.count(Way::Out, 1);
        assert_eq!(meter.figures()["a.example:443"].sent, 1);
    }

    #[test]
    fn a_million_names_are_no_million_counters() {
        let meter = Arc::new(Meter::new(u64::MAX, BTreeMap::new()));
        for number in 0..10_000 {
            meter.connection(&format!("n{number}.example:443"));
        }
        let figures = meter.figures();
        assert_eq!(figures.len(), DESTINATIONS + 1);
        let made: u64 = figures.values().map(|figures| figures.connections).sum();
        assert_eq!(made, 10_000);
    }

    #[test]
    fn a_flood_of_refusals_leaves_figures_for_what_is_let_through() {
        let meter = Arc::new(Meter::new(u64::MAX, BTreeMap::new()));
        for number in 0..10_000 {
            meter.refusal(&format!("n{number}.example:443"));
        }
        meter.connection("a.example:443").count(Way::Out, 5);
        let figures = meter.figures();
        assert_eq!(figures.len(), REFUSED + 2);
        assert_eq!(figures["a.example:443"].sent, 5);
        assert_eq!(figures[OTHERS].refused, 10_000 - REFUSED as u64);
    }
}
