//! Amounts of money as people write them.
//! It converts text and whole millionths; it knows no currency and converts none.

use std::fmt;
use std::str::FromStr;

use super::text::text_value;

/// An amount in the currency of the operator's price tables, written as `20`, `2.50` or `0.000125`.
///
/// Whole millionths, so that sums are exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(u64);

/// Millionths in one unit of the currency.
const ONE: u64 = 1_000_000;

/// Digits after the point.
const DIGITS: usize = 6;

impl Money {
    /// An amount of millionths.
    pub const fn from_millionths(millionths: u64) -> Self {
        Self(millionths)
    }

    /// The amount in millionths.
    pub const fn millionths(self) -> u64 {
        self.0
    }

    /// The sum, or the largest amount there is.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Money {
    /// At least two digits after the point, and as many as the amount has.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:0DIGITS$}", self.0 % ONE);
        let kept = digits.trim_end_matches('0').len().max(2);
        write!(f, "{}.{}", self.0 / ONE, &digits[..kept])
    }
}

/// A text that is no amount of money.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no amount of money: write it like \"20\" or \"2.50\", with at most six digits after the point"
)]
pub struct MoneyError(String);

impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let refuse = || MoneyError(text.to_owned());
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !are_digits(whole) || !are_digits(part) || part.len() > DIGITS {
            return Err(refuse());
        }
        let millionths: u64 = format!("{part:0<DIGITS$}").parse().map_err(|_| refuse())?;
        let whole: u64 = whole.parse().map_err(|_| refuse())?;
        let amount = whole
            .checked_mul(ONE)
            .and_then(|all| all.checked_add(millionths));
        amount.map(Self).ok_or_else(refuse)
    }
}

text_value!(
    Money,
    "an amount of money such as \"20\" or \"2.50\"",
    r"^[0-9]+(\.[0-9]{1,6})?$",
    "An amount in the currency of the price tables, such as 20 or 2.50."
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("20", 20_000_000, "20.00")]
    #[case("2.5", 2_500_000, "2.50")]
    #[case("0.000125", 125, "0.000125")]
    #[case("0.10", 100_000, "0.10")]
    fn amounts(#[case] text: &str, #[case] millionths: u64, #[case] shown: &str) {
        let amount: Money = text.parse().unwrap();
        assert_eq!(amount.millionths(), millionths);
        assert_eq!(amount.to_string(), shown);
    }

    #[rstest]
    #[case("")]
    #[case(".5")]
    #[case("5.")]
    #[case("-1")]
    #[case("1,5")]
    #[case("0.0000001")]
    #[case("99999999999999999999")]
    fn no_amounts(#[case] text: &str) {
        text.parse::<Money>().unwrap_err();
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(millionths in any::<u64>()) {
            let amount = Money::from_millionths(millionths);
            prop_assert_eq!(amount.to_string().parse(), Ok(amount));
        }
    }
}
