//! Charges requests while they go on, and says when a tenant has used up what it may.
//! It holds the month's book; whoever serves writes it down when it has changed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _};
use tokio::sync::Notify;

use super::book::{Book, Figures};
use super::reading::Used;
use crate::gateway::egress::Month;
use crate::host::clock;
use crate::tenant::{ModelPrice, Spending, SpendingPeriod, Tokens, cost};

/// What a model is called that nobody named.
const UNKNOWN: &str = "(unknown)";

/// A limit that is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhausted {
    /// The limit, with its unit.
    pub limit: String,
    /// Of which period.
    pub period: SpendingPeriod,
    /// Seconds until the next period.
    pub seconds_left: u32,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this agent has used up its {} for the {}; it goes on in the next one, or when its operator raises the limit",
            self.limit, self.period
        )
    }
}

/// One tenant's account.
#[derive(Debug)]
pub struct Ledger {
    spending: Spending,
    inner: Mutex<Inner>,
    /// Told when a request has ended.
    pub changed: Notify,
    /// Whether the last write failed.
    failing: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    month: Month,
    book: Book,
    /// The month before, until it is written for the last time.
    closed: Option<(Month, Book)>,
    open: BTreeMap<u64, Entry>,
    next: u64,
    /// Counts changes, so that what was written is known to be the newest.
    version: u64,
    written: u64,
}

/// A request that goes on: what it would have used if it ended now.
#[derive(Debug, Clone)]
struct Entry {
    endpoint: String,
    model: Option<String>,
    figures: Figures,
}

impl Inner {
    fn settle(book: &mut Book, date: Date, entry: &Entry) {
        let model = entry.model.as_deref().unwrap_or(UNKNOWN);
        book.add(date, &entry.endpoint, model, entry.figures);
    }

    /// Begins a new book when a month has ended.
    fn turn(&mut self, date: Date) {
        let month = Month::of_day(date);
        if month > self.month {
            let book = std::mem::take(&mut self.book);
            self.closed = Some((self.month, book));
            self.month = month;
            self.version += 1;
        }
    }

    /// The book as if all that goes on had ended.
    fn as_of(&self, date: Date) -> Book {
        let mut book = self.book.clone();
        for entry in self.open.values() {
            Self::settle(&mut book, date, entry);
        }
        book
    }
}

/// A book that is to be written, and its version.
#[derive(Debug)]
pub struct ToWrite {
    /// The books.
    pub books: Vec<(Month, Book)>,
    version: u64,
}

impl Ledger {
    /// An account that goes on with the book of the month that `now` is in.
    pub fn new(spending: Spending, book: Book, now: Timestamp) -> Self {
        let inner = Inner {
            month: Month::of_day(date(now)),
            book,
            closed: None,
            open: BTreeMap::new(),
            next: 0,
            version: 0,
            written: 0,
        };
        Self {
            spending,
            inner: Mutex::new(inner),
            changed: Notify::new(),
            failing: AtomicBool::new(false),
        }
    }

    /// Opens a charge for a request, which counts as `guess` tokens until more is known: many requests at a time
    /// must not pass a limit together.
    ///
    /// # Errors
    /// A limit is reached.
    pub fn charge(
        self: &Arc<Self>,
        endpoint: &str,
        prices: &[ModelPrice],
        guess: u64,
        now: Timestamp,
    ) -> Result<Charge, Exhausted> {
        let date = date(now);
        let mut inner = self.lock();
        inner.turn(date);
        let total = inner
            .as_of(date)
            .total(self.spending.period.unwrap_or_default(), date);
        exhausted(&self.spending, total, now).map_or(Ok(()), Err)?;
        let id = inner.next;
        inner.next += 1;
        let entry = Entry {
            endpoint: endpoint.to_owned(),
            model: None,
            figures: Figures {
                requests: 1,
                broken: 1,
                ..Figures::default()
            },
        };
        inner.open.insert(id, entry);
        drop(inner);
        let charge = Charge {
            ledger: Arc::clone(self),
            id,
            prices: prices.to_vec(),
        };
        let tokens = Tokens {
            input: guess,
            ..Tokens::default()
        };
        charge.set(
            None,
            Used {
                tokens,
                is_estimate: guess > 0,
            },
            false,
            (0, 0),
        );
        Ok(charge)
    }

    /// Whether there is a limit.
    pub const fn is_limited(&self) -> bool {
        self.spending.tokens.is_some() || self.spending.money.is_some()
    }

    /// What is to be written, if anything has changed.
    pub fn to_write(&self, now: Timestamp) -> Option<ToWrite> {
        let date = date(now);
        let mut inner = self.lock();
        inner.turn(date);
        if inner.version == inner.written {
            return None;
        }
        let mut books: Vec<_> = inner.closed.iter().cloned().collect();
        books.push((inner.month, inner.as_of(date)));
        Some(ToWrite {
            books,
            version: inner.version,
        })
    }

    /// The last write failed.
    pub fn not_written(&self) {
        self.failing.store(true, Ordering::Relaxed);
    }

    /// Whether a request would be counted nowhere that lasts, though there is a limit.
    pub fn forgets(&self) -> bool {
        self.is_limited() && self.failing.load(Ordering::Relaxed)
    }

    /// Whether all that was counted is on the disk.
    pub fn is_written(&self) -> bool {
        let inner = self.lock();
        inner.version == inner.written
    }

    /// This is on the disk.
    pub fn written(&self, written: &ToWrite) {
        self.failing.store(false, Ordering::Relaxed);
        let mut inner = self.lock();
        inner.written = written.version;
        let is_last = |(month, _): &(Month, Book)| written.books.iter().any(|(of, _)| of == month);
        if inner.closed.as_ref().is_some_and(is_last) {
            inner.closed = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The day in UTC.
pub fn date(now: Timestamp) -> Date {
    now.to_zoned(TimeZone::UTC).date()
}

/// The limit that figures of a period have reached, if one is.
pub fn exhausted(spending: &Spending, total: Figures, now: Timestamp) -> Option<Exhausted> {
    let period = spending.period.unwrap_or_default();
    let tokens = spending
        .tokens
        .filter(|limit| total.tokens.total() >= *limit);
    let money = spending.money.filter(|limit| total.money >= *limit);
    let limit = match (tokens, money) {
        (Some(tokens), _) => format!("{tokens} tokens"),
        (None, Some(money)) => format!("spending limit of {money}"),
        (None, None) => return None,
    };
    Some(Exhausted {
        limit,
        period,
        seconds_left: seconds_left(period, now),
    })
}

/// Seconds until the next period begins.
fn seconds_left(period: SpendingPeriod, now: Timestamp) -> u32 {
    let today = date(now);
    let (begin, length): (Date, Span) = match period {
        SpendingPeriod::Day => (today, 1.day()),
        SpendingPeriod::Month => (today.first_of_month(), 1.month()),
    };
    let next = begin
        .checked_add(length)
        .and_then(|next| next.to_zoned(TimeZone::UTC));
    let left = next.map(|next| next.timestamp().duration_since(now).as_secs());
    left.ok()
        .and_then(|left| u32::try_from(left).ok())
        .unwrap_or(u32::MAX)
}

/// The charge of one request. Once dropped, it stands as it was set last.
#[derive(Debug)]
pub struct Charge {
    ledger: Arc<Ledger>,
    id: u64,
    prices: Vec<ModelPrice>,
}

impl Charge {
    /// Sets what the request has used so far. `is_whole` says that there is nothing more to come; `sent` and
    /// `received` are bytes.
    pub fn set(
        &self,
        model: Option<&str>,
        used: Used,
        is_whole: bool,
        (sent, received): (u64, u64),
    ) {
        let money = cost(&self.prices, model.unwrap_or(UNKNOWN), used.tokens);
        let mut inner = self.ledger.lock();
        inner.version += 1;
        if let Some(entry) = inner.open.get_mut(&self.id) {
            entry.model = model.map(str::to_owned);
            entry.figures = Figures {
                requests: 1,
                broken: u64::from(!is_whole),
                estimated: u64::from(used.is_estimate),
                tokens: used.tokens,
                money: money.unwrap_or_default(),
                sent,
                received,
            };
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let date = date(clock::now());
        let mut inner = self.ledger.lock();
        inner.turn(date);
        if let Some(entry) = inner.open.remove(&self.id) {
            Inner::settle(&mut inner.book, date, &entry);
            inner.version += 1;
        }
        drop(inner);
        self.ledger.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn ledger(spending: &str) -> Arc<Ledger> {
        let spending = toml::from_str(spending).unwrap();
        Arc::new(Ledger::new(spending, Book::default(), clock::now()))
    }

    fn used(tokens: u64) -> Used {
        let tokens = Tokens {
            output: tokens,
            ..Tokens::default()
        };
        Used {
            tokens,
            is_estimate: false,
        }
    }

    fn total(ledger: &Ledger) -> Figures {
        let now = clock::now();
        let inner = ledger.lock();
        inner
            .as_of(date(now))
            .total(SpendingPeriod::Month, date(now))
    }

    #[test]
    fn what_is_used_counts_against_the_limit_until_it_is_reached() {
        let ledger = ledger("tokens = 100");
        let charge = ledger.charge("a", &[], 10, clock::now()).unwrap();
        charge.set(Some("m"), used(99), true, (1, 2));
        drop(charge);
        let charge = ledger.charge("a", &[], 0, clock::now()).unwrap();
        charge.set(Some("m"), used(1), true, (1, 2));
        let exhausted = ledger.charge("a", &[], 0, clock::now()).unwrap_err();
        assert_eq!(exhausted.limit, "100 tokens");
        assert_eq!(total(&ledger).requests, 2);
    }

    #[test]
    fn requests_at_a_time_do_not_pass_a_limit_together() {
        let ledger = ledger("tokens = 100");
        let open: Vec<_> = (0..10)
            .map_while(|_| ledger.charge("a", &[], 30, clock::now()).ok())
            .collect();
        assert_eq!(open.len(), 4);
        drop(open);
        assert_eq!(total(&ledger).broken, 4);
        assert_eq!(total(&ledger).tokens.input, 120);
    }

    #[test]
    fn a_limit_in_money_is_reached_by_prices() {
        let ledger = ledger("money = \"0.01\"\nperiod = \"day\"");
        let price = ModelPrice {
            model: "m".to_owned(),
            input: "1".parse().unwrap(),
            output: "10".parse().unwrap(),
            cache_read: None,
            cache_write: None,
        };
        let charge = ledger
            .charge("a", std::slice::from_ref(&price), 0, clock::now())
            .unwrap();
        charge.set(Some("m"), used(1000), true, (0, 0));
        drop(charge);
        assert_eq!(total(&ledger).money.to_string(), "0.01");
        let exhausted = ledger.charge("a", &[price], 0, clock::now()).unwrap_err();
        assert_eq!(exhausted.limit, "spending limit of 0.01");
        assert!(exhausted.to_string().contains("for the day"));
    }

    #[test]
    fn what_goes_on_is_written_as_if_it_had_ended() {
        let ledger = ledger("");
        assert!(ledger.to_write(clock::now()).is_none());
        let charge = ledger.charge("a", &[], 0, clock::now()).unwrap();
        charge.set(Some("m"), used(7), false, (0, 0));
        let written = ledger.to_write(clock::now()).unwrap();
        let (_, book) = &written.books[0];
        let figures = book.total(SpendingPeriod::Month, date(clock::now()));
        assert_eq!((figures.tokens.output, figures.broken), (7, 1));
        ledger.written(&written);
        assert!(ledger.to_write(clock::now()).is_none());
        drop(charge);
        assert!(ledger.to_write(clock::now()).is_some());
    }

    #[test]
    fn a_new_month_begins_at_zero_and_the_old_one_is_written_once_more() {
        let mut book = Book::default();
        let november = at("2026-11-30T23:59:59Z");
        book.add(
            date(november),
            "a",
            "m",
            Figures {
                tokens: used(100).tokens,
                ..Figures::default()
            },
        );
        let spending: Spending = toml::from_str("tokens = 100").unwrap();
        let ledger = Arc::new(Ledger::new(spending, book, november));
        assert_eq!(
            ledger
                .charge("a", &[], 0, november)
                .unwrap_err()
                .seconds_left,
            1
        );
        let december = at("2026-12-01T00:00:00Z");
        std::mem::forget(ledger.charge("a", &[], 0, december).unwrap());
        let written = ledger.to_write(december).unwrap();
        let months: Vec<_> = written
            .books
            .iter()
            .map(|(month, _)| month.to_string())
            .collect();
        assert_eq!(months, ["2026-11", "2026-12"]);
        ledger.written(&written);
        assert!(ledger.to_write(december).is_none());
    }
}
