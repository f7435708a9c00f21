//! Amounts of bytes as people write them.
//! It converts text and numbers; it knows no limit.

use std::fmt;
use std::str::FromStr;

use super::text::text_value;

/// A number of bytes, written as `512MiB`, `2GiB` or `25GB`.
///
/// Binary units (`KiB` to `TiB`) are powers of 1024, decimal ones (`kB` to `TB`) powers of 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

/// Every unit with its bytes, in the order in which `Display` tries them.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

impl Size {
    /// A size of `bytes`.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A size of `count` MiB.
    pub const fn from_mib(count: u32) -> Self {
        Self((count as u64) << 20)
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The sum, or the largest size there is.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Size {
    /// The largest unit that gives a whole number, binary units first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bytes) = UNITS
            .into_iter()
            .find(|(_, bytes)| self.0 != 0 && self.0.is_multiple_of(*bytes))
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let refuse = || SizeError(text.to_owned());
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (count, unit) = text.split_at(digits);
        let bytes = UNITS
            .into_iter()
            .find_map(|(name, bytes)| (name == unit).then_some(bytes))
            .ok_or_else(refuse)?;
        let count: u64 = count.parse().map_err(|_| refuse())?;
        count.checked_mul(bytes).map(Self).ok_or_else(refuse)
    }
}

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size: write a whole number and a unit, such as `512MiB`, `2GiB` or `25GB`")]
pub struct SizeError(String);

text_value!(
    Size,
    "a size such as \"2GiB\"",
    "^[0-9]+(B|kB|KiB|MB|MiB|GB|GiB|TB|TiB)$",
    "A number of bytes with its unit, such as 512MiB, 2GiB or 25GB."
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    proptest! {
        #[test]
        fn reads_what_it_prints(bytes in any::<u64>(), shift in 0u32..50) {
            let size = Size(bytes >> shift << shift);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn never_panics(text in ".*") {
            let _ = text.parse::<Size>();
        }
    }

    #[rstest]
    #[case("0B", 0, "0B")]
    #[case("2GiB", 2 << 30, "2GiB")]
    #[case("1024MiB", 1 << 30, "1GiB")]
    #[case("25GB", 25_000_000_000, "25GB")]
    fn reads(#[case] text: &str, #[case] bytes: u64, #[case] shown: &str) {
        let size: Size = text.parse().unwrap();
        assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, shown));
    }

    #[rstest]
    #[case("")]
    #[case("2")]
    #[case("GiB")]
    #[case("-1GiB")]
    #[case("1.5GiB")]
    #[case("2 GiB")]
    #[case("99999999999999TiB")]
    fn refuses(#[case] text: &str) {
        assert!(text.parse::<Size>().is_err(), "{text:?}");
    }
}
