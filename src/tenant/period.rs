//! Lengths of time as people write them.
//! It converts text and seconds; it knows no clock and no calendar.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::text::text_value;

/// A whole number of seconds, written as `30s`, `5min`, `12h` or `7d`.
///
/// A day is 24 hours: the values bound waits and retention, not calendar dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(u32);

/// Every unit with its seconds, in the order in which `Display` tries them.
const UNITS: [(&str, u32); 4] = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];

impl Period {
    /// A period of `seconds`.
    pub const fn from_seconds(seconds: u32) -> Self {
        Self(seconds)
    }

    /// The period in seconds.
    pub const fn seconds(self) -> u32 {
        self.0
    }

    /// The sum, or the longest period there is.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// `count` times the period, or the longest period there is.
    #[must_use]
    pub const fn times(self, count: u32) -> Self {
        Self(self.0.saturating_mul(count))
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        Self::from_secs(period.0.into())
    }
}

impl fmt::Display for Period {
    /// The largest unit that gives a whole number. systemd reads the same text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, seconds) = UNITS
            .into_iter()
            .find(|(_, seconds)| self.0 != 0 && self.0.is_multiple_of(*seconds))
            .unwrap_or(("s", 1));
        write!(f, "{}{unit}", self.0 / seconds)
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let refuse = || PeriodError(text.to_owned());
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (count, unit) = text.split_at(digits);
        let seconds = UNITS
            .into_iter()
            .find_map(|(name, seconds)| (name == unit).then_some(seconds))
            .ok_or_else(refuse)?;
        let count: u32 = count.parse().map_err(|_| refuse())?;
        count.checked_mul(seconds).map(Self).ok_or_else(refuse)
    }
}

/// A text that is no period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a length of time: write a whole number and `s`, `min`, `h` or `d`, such as `30s` or `7d`"
)]
pub struct PeriodError(String);

text_value!(
    Period,
    "a length of time such as \"30s\"",
    "^[0-9]+(s|min|h|d)$",
    "A length of time: a whole number with s, min, h or d, such as 30s or 7d."
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    proptest! {
        #[test]
        fn reads_what_it_prints(count in 0u32..40_000, unit in 0usize..4) {
            let period = Period(count * UNITS[unit].1);
            prop_assert_eq!(period.to_string().parse(), Ok(period));
        }

        #[test]
        fn never_panics(text in ".*") {
            let _ = text.parse::<Period>();
        }
    }

    #[rstest]
    #[case("0s", 0, "0s")]
    #[case("330s", 330, "330s")]
    #[case("120s", 120, "2min")]
    #[case("7d", 604_800, "7d")]
    fn reads(#[case] text: &str, #[case] seconds: u32, #[case] shown: &str) {
        let period: Period = text.parse().unwrap();
        assert_eq!(
            (period.seconds(), period.to_string().as_str()),
            (seconds, shown)
        );
    }

    #[rstest]
    #[case("")]
    #[case("7")]
    #[case("1m")]
    #[case("1.5h")]
    #[case("-1s")]
    #[case("99999d")]
    fn refuses(#[case] text: &str) {
        assert!(text.parse::<Period>().is_err(), "{text:?}");
    }
}
