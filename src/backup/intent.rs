//! The promise to store one commit: which, and until when it may still be kept.
//! Pure text; the repository writes and reads it.

use std::time::Duration;

use jiff::Timestamp;

use super::names::CommitName;

/// No commit is stored later than this after its snapshot began: a collector waits at least twice as long
/// before it takes packs that no commit names for garbage.
pub const LONGEST_SNAPSHOT: Duration = Duration::from_hours(24);

/// A clock may be set back by this much without anything being doubted.
const SET_BACK: Duration = Duration::from_hours(1);

/// A commit that is to be the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intent {
    /// Which.
    pub name: CommitName,
    /// When its snapshot began, by this host's clock.
    pub began: Timestamp,
}

impl Intent {
    /// The text of its file.
    pub fn to_text(self) -> String {
        format!("{} {}\n", self.name, self.began)
    }

    /// Reads the text of its file.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (name, began) = text.trim().split_once(' ')?;
        Some(Self {
            name: CommitName::parse(name)?,
            began: began.parse().ok()?,
        })
    }

    /// Whether what the commit names is certain to be in the store still.
    pub fn holds(&self, now: Timestamp) -> bool {
        is_in_time(self.began, now)
    }
}

/// Whether a snapshot that began then may be committed now.
pub fn is_in_time(began: Timestamp, now: Timestamp) -> bool {
    now >= began - SET_BACK && now <= began + LONGEST_SNAPSHOT
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::backup::id::Digest;

    fn intent() -> Intent {
        let name = CommitName {
            epoch: 1,
            sequence: 2,
            digest: Digest::of(b"x"),
        };
        let began = "2026-05-04T12:00:00Z".parse().unwrap();
        Intent { name, began }
    }

    #[test]
    fn it_is_read_back() {
        let text = intent().to_text();
        assert_eq!(Intent::parse(text.as_bytes()), Some(intent()));
        assert_eq!(Intent::parse(b"half"), None);
    }

    #[rstest]
    #[case::at_once("2026-05-04T12:00:00Z", true)]
    #[case::clock_corrected("2026-05-04T11:30:00Z", true)]
    #[case::next_day("2026-05-05T11:00:00Z", true)]
    #[case::too_late("2026-05-05T12:00:01Z", false)]
    #[case::clock_lost("2026-01-01T00:00:00Z", false)]
    fn it_holds_for_a_day(#[case] now: &str, #[case] holds: bool) {
        assert_eq!(intent().holds(now.parse().unwrap()), holds);
    }
}
