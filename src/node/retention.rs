//! `[retention]` in `node.toml`: how long snapshots are kept.
//! The rules are `backup::retention`'s; here are their names, defaults and bounds.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::backup::LONGEST_SNAPSHOT;
use crate::backup::retention::{KeepRules, Policy};
use crate::tenant::Period;

/// How long snapshots are kept. A snapshot stays as long as any of these wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RetentionSettings {
    /// All of this long before the newest.
    pub within: Period,
    /// The first of each of this many hours that have one.
    pub hourly: u32,
    /// The first of each of this many days.
    pub daily: u32,
    /// The first of each of this many weeks.
    pub weekly: u32,
    /// The first of each of this many months.
    pub monthly: u32,
    /// The first of each of this many years.
    pub yearly: u32,
    /// Nothing younger is deleted, and nothing sooner after it was marked; two days at least.
    pub grace: Period,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self {
            within: Period::from_seconds(86_400),
            hourly: 48,
            daily: 14,
            weekly: 8,
            monthly: 12,
            yearly: 3,
            grace: Period::from_seconds(7 * 86_400),
        }
    }
}

impl RetentionSettings {
    /// What is wrong with it, if anything.
    pub fn fault(&self) -> Option<&'static str> {
        let counts = [
            self.hourly,
            self.daily,
            self.weekly,
            self.monthly,
            self.yearly,
        ];
        if self.within.seconds() == 0 && counts.iter().all(|count| *count == 0) {
            return Some("it keeps nothing but the newest; give at least one rule a number");
        }
        // A writer that is still at work must not lose what it stored first.
        if u64::from(self.grace.seconds()) < 2 * LONGEST_SNAPSHOT.as_secs() {
            return Some("`grace` must be 2d or more: a snapshot may take a day");
        }
        None
    }

    /// The settings as the rules take them.
    pub fn policy(&self) -> Policy {
        let length = |period: Period| SignedDuration::from_secs(period.seconds().into());
        Policy {
            rules: KeepRules {
                within: length(self.within),
                hourly: self.hourly,
                daily: self.daily,
                weekly: self.weekly,
                monthly: self.monthly,
                yearly: self.yearly,
            },
            grace: length(self.grace),
        }
    }

    /// The lines below `[retention]`.
    pub(super) fn to_toml(self) -> String {
        let Self {
            within,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            grace,
        } = self;
        format!(
            "within = \"{within}\"\nhourly = {hourly}\ndaily = {daily}\nweekly = {weekly}\n\
             monthly = {monthly}\nyearly = {yearly}\ngrace = \"{grace}\"\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", true)]
    #[case("hourly = 0", true)]
    #[case(
        "within = '0s'\nhourly = 0\ndaily = 0\nweekly = 0\nmonthly = 0\nyearly = 0",
        false
    )]
    #[case("grace = '47h'", false)]
    #[case("grace = '2d'", true)]
    fn a_retention_that_would_lose_snapshots_is_refused(#[case] text: &str, #[case] is_good: bool) {
        let settings: RetentionSettings = toml::from_str(text).unwrap();
        assert_eq!(settings.fault().is_none(), is_good);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let settings = RetentionSettings {
            within: Period::from_seconds(3600),
            yearly: 0,
            ..RetentionSettings::default()
        };
        assert_eq!(
            toml::from_str::<RetentionSettings>(&settings.to_toml()),
            Ok(settings)
        );
    }
}
