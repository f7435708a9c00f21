//! The keep rules on one line of times: of each hour, day, week, month and year the first snapshot.
//! The first and not the last, so that nothing that comes later can take its place.

use std::collections::BTreeSet;
use std::fmt;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// How many snapshots to keep of which kind; a kind with 0 keeps none.
///
/// Hours, days, ISO weeks, months and years are those of UTC, and only those in which there is a
/// snapshot are counted: a tenant that rests for a month loses nothing by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepRules {
    /// All of this long before the newest.
    pub within: SignedDuration,
    /// The first of each hour.
    pub hourly: u32,
    /// The first of each day.
    pub daily: u32,
    /// The first of each week; weeks begin on Monday.
    pub weekly: u32,
    /// The first of each month.
    pub monthly: u32,
    /// The first of each year.
    pub yearly: u32,
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Nothing came after it on its line, or its writer wrote nothing later.
    Newest,
    /// It, or what came after it, is younger than the grace period.
    Grace,
    /// Something that it names is lost; it counts for no rule and is left alone.
    Incomplete,
    /// It is recent.
    Within,
    /// The first of its hour.
    Hourly,
    /// The first of its day.
    Daily,
    /// The first of its week.
    Weekly,
    /// The first of its month.
    Monthly,
    /// The first of its year.
    Yearly,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Newest => "newest",
            Self::Grace => "grace",
            Self::Incomplete => "incomplete",
            Self::Within => "within",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        })
    }
}

/// Numbers the periods of one length.
type Number = fn(Timestamp) -> i64;

impl KeepRules {
    /// For each of `times`, which go from the oldest to the newest, the rules that keep it.
    pub(super) fn kept(&self, times: &[Timestamp]) -> Vec<BTreeSet<Reason>> {
        let mut kept = vec![BTreeSet::new(); times.len()];
        if let Some(newest) = times.last() {
            for (time, reasons) in times.iter().zip(&mut kept) {
                if newest.duration_since(*time) < self.within {
                    reasons.insert(Reason::Within);
                }
            }
        }
        for (reason, count, period) in self.periods() {
            let firsts: Vec<usize> = (0..times.len())
                .filter(|at| *at == 0 || period(times[*at]) != period(times[at - 1]))
                .collect();
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            for at in firsts.iter().rev().take(count) {
                kept[*at].insert(reason);
            }
        }
        kept
    }

    fn periods(&self) -> [(Reason, u32, Number); 5] {
        [
            (Reason::Hourly, self.hourly, hour),
            (Reason::Daily, self.daily, day),
            (Reason::Weekly, self.weekly, week),
            (Reason::Monthly, self.monthly, month),
            (Reason::Yearly, self.yearly, year),
        ]
    }
}

fn hour(time: Timestamp) -> i64 {
    time.as_second().div_euclid(3600)
}

fn day(time: Timestamp) -> i64 {
    time.as_second().div_euclid(86_400)
}

/// 1970-01-01 was a Thursday, the fourth day of its week.
fn week(time: Timestamp) -> i64 {
    (day(time) + 3).div_euclid(7)
}

fn month(time: Timestamp) -> i64 {
    let date = date(time);
    i64::from(date.year()) * 12 + i64::from(date.month())
}

fn year(time: Timestamp) -> i64 {
    date(time).year().into()
}

fn date(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NONE: KeepRules = KeepRules {
        within: SignedDuration::ZERO,
        hourly: 0,
        daily: 0,
        weekly: 0,
        monthly: 0,
        yearly: 0,
    };

    /// The times that `rules` keep of `times`, both as `MM-DD HH:MM` of 2026.
    fn kept(rules: KeepRules, times: &[&str]) -> Vec<String> {
        let parsed: Vec<Timestamp> = times
            .iter()
            .map(|text| {
                format!("2026-{}:00Z", text.replace(' ', "T"))
                    .parse()
                    .unwrap()
            })
            .collect();
        let kept = rules.kept(&parsed);
        let shown = |reasons: &BTreeSet<Reason>| {
            let names: Vec<String> = reasons.iter().map(ToString::to_string).collect();
            names.join(",")
        };
        times
            .iter()
            .zip(&kept)
            .filter(|(_, reasons)| !reasons.is_empty())
            .map(|(time, reasons)| format!("{time} {}", shown(reasons)))
            .collect()
    }

    #[rstest]
    #[case::first_of_each_hour(KeepRules { hourly: 2, ..NONE },
        &["01-05 09:10", "01-05 10:00", "01-05 10:59", "01-05 11:30", "01-05 11:31"],
        &["01-05 10:00 hourly", "01-05 11:30 hourly"])]
    #[case::empty_hours_do_not_count(KeepRules { hourly: 2, ..NONE },
        &["01-05 09:10", "03-05 10:00", "11-05 10:59"],
        &["03-05 10:00 hourly", "11-05 10:59 hourly"])]
    #[case::days(KeepRules { daily: 1, ..NONE },
        &["01-05 23:59", "01-06 00:00", "01-06 09:00"], &["01-06 00:00 daily"])]
    #[case::weeks_begin_on_monday(KeepRules { weekly: 2, ..NONE },
        &["01-04 10:00", "01-05 10:00", "01-11 23:59", "01-12 00:00"],
        &["01-05 10:00 weekly", "01-12 00:00 weekly"])]
    #[case::months(KeepRules { monthly: 2, ..NONE },
        &["01-31 10:00", "02-01 10:00", "02-28 10:00", "03-01 00:00"],
        &["02-01 10:00 monthly", "03-01 00:00 monthly"])]
    #[case::years(KeepRules { yearly: 9, ..NONE },
        &["01-01 10:00", "12-31 10:00"], &["01-01 10:00 yearly"])]
    #[case::within_counts_from_the_newest(KeepRules { within: SignedDuration::from_hours(2), ..NONE },
        &["01-05 10:00", "01-05 10:01", "01-05 12:00"],
        &["01-05 10:01 within", "01-05 12:00 within"])]
    #[case::all_that_apply_are_named(KeepRules { hourly: 1, daily: 2, ..NONE },
        &["01-05 10:00", "01-06 00:00"],
        &["01-05 10:00 daily", "01-06 00:00 hourly,daily"])]
    #[case::nothing(KeepRules { hourly: 5, ..NONE }, &[], &[])]
    fn rules_keep(#[case] rules: KeepRules, #[case] times: &[&str], #[case] expected: &[&str]) {
        assert_eq!(kept(rules, times), expected);
    }

    #[test]
    fn times_before_1970_have_periods_too() {
        let time: Timestamp = "1969-12-29T00:00:00Z".parse().unwrap();
        let before = time - SignedDuration::from_secs(1);
        assert_ne!(week(time), week(before), "29 December 1969 was a Monday");
        assert_ne!(day(time), day(before));
    }
}
