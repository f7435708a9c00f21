//! What a tenant's endpoints have used: one month's figures, by day, endpoint and model, and sums of them.
//! Pure values; the ledger keeps them while requests go on, and the door writes them.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::gateway::egress::Month;
use crate::tenant::{Money, SpendingPeriod, Tokens};

/// Models of one endpoint and day that are told apart; what comes after goes together.
const MODELS: usize = 64;

/// What the rest is called. No model has this name.
const OTHERS: &str = "(others)";

/// What requests have used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Figures {
    /// Requests that were sent to the provider.
    pub requests: u64,
    /// Those of them whose answers broke off.
    pub broken: u64,
    /// Those of them whose tokens are in part a guess, because nobody counted them.
    pub estimated: u64,
    /// Tokens.
    pub tokens: Tokens,
    /// What they cost by the price table of their time.
    pub money: Money,
    /// Bytes of the requests' bodies.
    pub sent: u64,
    /// Bytes of the answers' bodies.
    pub received: u64,
}

impl Figures {
    /// The sums.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            broken: self.broken.saturating_add(other.broken),
            estimated: self.estimated.saturating_add(other.estimated),
            tokens: self.tokens.plus(other.tokens),
            money: self.money.plus(other.money),
            sent: self.sent.saturating_add(other.sent),
            received: self.received.saturating_add(other.received),
        }
    }
}

/// Figures by endpoint and model.
pub type ByModel = BTreeMap<String, BTreeMap<String, Figures>>;

/// The figures of one month, by day in UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Book {
    /// By day.
    pub days: BTreeMap<Date, ByModel>,
}

impl Book {
    /// Longest file: 31 days with 16 endpoints of 65 models would be more, and is no tenant.
    pub const LIMIT: u64 = 16 * 1024 * 1024;

    /// Adds figures.
    pub fn add(&mut self, date: Date, endpoint: &str, model: &str, figures: Figures) {
        let models = self.days.entry(date).or_default();
        let models = models.entry(endpoint.to_owned()).or_default();
        let is_apart = models.contains_key(model) || models.len() < MODELS;
        let name = if is_apart { model } else { OTHERS };
        let there = models.entry(name.to_owned()).or_default();
        *there = there.plus(figures);
    }

    /// The days of the period that `date` is in.
    fn period(&self, period: SpendingPeriod, date: Date) -> impl Iterator<Item = &ByModel> {
        let is_in = move |day: &Date| match period {
            SpendingPeriod::Day => *day == date,
            SpendingPeriod::Month => Month::of_day(*day) == Month::of_day(date),
        };
        let days = self.days.iter().filter(move |(day, _)| is_in(day));
        days.map(|(_, models)| models)
    }

    /// All figures of the period that `date` is in.
    pub fn total(&self, period: SpendingPeriod, date: Date) -> Figures {
        let days = self.period(period, date);
        let all = days.flat_map(|models| models.values().flat_map(BTreeMap::values));
        all.fold(Figures::default(), |sum, figures| sum.plus(*figures))
    }

    /// All figures by endpoint and model.
    pub fn by_model(&self) -> ByModel {
        let mut sums = ByModel::new();
        for (endpoint, models) in self.days.values().flatten() {
            for (model, figures) in models {
                let sum = sums.entry(endpoint.clone()).or_default();
                let sum = sum.entry(model.clone()).or_default();
                *sum = sum.plus(*figures);
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(tokens: u64) -> Figures {
        Figures {
            requests: 1,
            tokens: Tokens {
                input: tokens,
                ..Tokens::default()
            },
            ..Figures::default()
        }
    }

    #[test]
    fn a_day_and_a_month_are_summed_by_the_calendar() {
        let mut book = Book::default();
        let (first, second) = (Date::constant(2026, 11, 1), Date::constant(2026, 11, 2));
        book.add(first, "a", "m", one(1));
        book.add(second, "a", "m", one(10));
        book.add(second, "b", "m", one(100));
        assert_eq!(book.total(SpendingPeriod::Day, first).tokens.total(), 1);
        assert_eq!(book.total(SpendingPeriod::Day, second).tokens.total(), 110);
        assert_eq!(book.total(SpendingPeriod::Month, first).tokens.total(), 111);
        let next = Date::constant(2026, 12, 1);
        assert_eq!(book.total(SpendingPeriod::Month, next), Figures::default());
        assert_eq!(book.by_model()["a"]["m"].requests, 2);
    }

    #[test]
    fn a_book_is_read_as_it_was_written_and_not_in_part() {
        let mut book = Book::default();
        book.add(Date::constant(2026, 11, 1), "a", "m", one(7));
        let text = serde_json::to_string(&book).unwrap();
        assert_eq!(serde_json::from_str::<Book>(&text).unwrap(), book);
        serde_json::from_str::<Book>(r#"{"days":{},"more":1}"#).unwrap_err();
    }

    #[test]
    fn a_provider_that_makes_up_models_does_not_fill_the_memory() {
        let mut book = Book::default();
        let date = Date::constant(2026, 11, 1);
        for number in 0..1000 {
            book.add(date, "a", &format!("m{number}"), one(1));
        }
        assert_eq!(book.days[&date]["a"].len(), MODELS + 1);
        assert_eq!(book.total(SpendingPeriod::Day, date).requests, 1000);
    }
}
