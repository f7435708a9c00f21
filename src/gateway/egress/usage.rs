//! A month's figures on disk: written whole every few seconds, so that a crash costs no more than those.
//! Counting is the meter's business, billing the reader's.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::meter::{Destinations, Figures};
use crate::failpoint;
use crate::host::files::{self, FileError};

/// Largest file: as many destinations as the meter tells apart, with long names.
const LIMIT: u64 = 1024 * 1024;

/// A month of the calendar in UTC, such as `2026-11`: the period that volumes are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Month {
    year: i16,
    month: i8,
}

/// The text is no month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a month is written as `2026-11`")]
pub struct MonthError;

impl Month {
    /// The month of a time.
    pub fn of(time: Timestamp) -> Self {
        Self::of_day(time.to_zoned(TimeZone::UTC).date())
    }

    /// The month of a day.
    pub fn of_day(date: Date) -> Self {
        Self {
            year: date.year(),
            month: date.month(),
        }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl FromStr for Month {
    type Err = MonthError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let date: Date = format!("{text}-01").parse().map_err(|_| MonthError)?;
        let month = Self {
            year: date.year(),
            month: date.month(),
        };
        // Dates have other spellings.
        (month.to_string() == text)
            .then_some(month)
            .ok_or(MonthError)
    }
}

impl TryFrom<String> for Month {
    type Error = MonthError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Month> for String {
    fn from(month: Month) -> Self {
        month.to_string()
    }
}

/// What a tenant's door counted in a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Usage {
    /// The month.
    pub month: Month,
    /// The figures of each destination, `name:port`; those of one name too many are `(others)`.
    pub destinations: Destinations<Figures>,
}

impl Usage {
    /// Nothing, in this month.
    pub fn nothing(month: Month) -> Self {
        Self {
            month,
            destinations: BTreeMap::new(),
        }
    }

    /// All destinations together.
    pub fn total(&self) -> Figures {
        let mut total = Figures::default();
        for figures in self.destinations.values() {
            total.sent = total.sent.saturating_add(figures.sent);
            total.received = total.received.saturating_add(figures.received);
            total.connections = total.connections.saturating_add(figures.connections);
            total.refused = total.refused.saturating_add(figures.refused);
        }
        total
    }

    /// Reads a month below a door's directory of state; nothing where none was counted.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(state: &Utf8Path, month: Month) -> Result<Self, FileError> {
        let path = path(state, month);
        let bytes = match files::read(&path, LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.is_absent() => return Ok(Self::nothing(month)),
            Err(error) => return Err(error),
        };
        serde_json::from_slice(&bytes).map_err(|error| FileError::Io {
            verb: "understand",
            path,
            source: error.into(),
        })
    }

    /// What counting a month begins with: as [`Self::read`], and nothing where that fails. A file that does not read is
    /// set aside, as `.broken`, for whoever can mend it.
    pub fn begin(state: &Utf8Path, month: Month) -> Self {
        Self::read(state, month).unwrap_or_else(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "sets the figures aside and begins to count anew"
            );
            let path = path(state, month);
            let aside = Utf8PathBuf::from(format!("{path}.broken"));
            if let Err(error) = files::move_to(&path, &aside) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the figures are not set aside"
                );
            }
            Self::nothing(month)
        })
    }

    /// Writes the month.
    ///
    /// # Errors
    /// It cannot be written; what was written before is there still.
    pub fn write(&self, state: &Utf8Path) -> Result<(), FileError> {
        let path = path(state, self.month);
        // Texts and numbers always serialise.
        let json = serde_json::to_vec(self).unwrap_or_default();
        files::write(&path, &json, 0o600)?;
        failpoint::hit("egress.counted");
        Ok(())
    }
}

fn path(state: &Utf8Path, month: Month) -> Utf8PathBuf {
    state.join(format!("usage-{month}.json"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("2026-11", true)]
    #[case("2026-13", false)]
    #[case("2026-1", false)]
    #[case("2026-11-01", false)]
    #[case("../../x", false)]
    #[case("", false)]
    fn months(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(text.parse::<Month>().is_ok(), expected);
    }

    #[test]
    fn a_month_begins_in_utc() {
        let of = |text: &str| Month::of(text.parse().unwrap()).to_string();
        assert_eq!(of("2026-11-30T23:59:59Z"), "2026-11");
        assert_eq!(of("2026-11-30T23:59:59-02:00"), "2026-12");
    }

    #[test]
    fn what_was_written_is_read_and_another_month_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(dir.path()).unwrap();
        let figures = Figures {
            sent: 1,
            received: 2,
            connections: 3,
            refused: 4,
        };
        let usage = Usage {
            month: "2026-11".parse().unwrap(),
            destinations: [("a.example:443", figures), ("b.example:443", figures)]
                .map(|(name, figures)| (name.to_owned(), figures))
                .into(),
        };
        usage.write(state).unwrap();
        assert_eq!(Usage::read(state, usage.month).unwrap(), usage);
        assert_eq!(usage.total().received, 4);
        let next = "2026-12".parse().unwrap();
        assert_eq!(Usage::read(state, next).unwrap(), Usage::nothing(next));
        std::fs::write(path(state, next), "{").unwrap();
        Usage::read(state, next).unwrap_err();
    }

    #[test]
    fn figures_that_do_not_read_are_set_aside_before_counting_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(dir.path()).unwrap();
        let month = "2026-11".parse().unwrap();
        std::fs::write(path(state, month), "{").unwrap();
        let begun = Usage::begin(state, month);
        assert_eq!(begun, Usage::nothing(month));
        begun.write(state).unwrap();
        let aside = std::fs::read(state.join("usage-2026-11.json.broken")).unwrap();
        assert_eq!(aside, b"{");
    }
}
