//! `[restore]` in `node.toml`: how new a snapshot must be to be restored without anybody naming it.
//! The judgement is `backup::freshness`'s; here are its names and forms.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::backup::freshness::Demands;
use crate::tenant::Period;

/// How new a snapshot must be to be restored without anybody naming it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RestoreSettings {
    /// It must have been the newest at this time or later: `2026-11-21`, or `2026-11-21T10:00:00Z`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub not_before: Option<Moment>,
    /// It must have been the newest so long ago at most, such as `3d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Period>,
    /// Restore what is older too, for a first boot that nobody watches. Take it away afterwards.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_old: bool,
}

impl RestoreSettings {
    /// The settings as the judgement takes them.
    pub fn demands(&self) -> Demands {
        let length = |period: Period| SignedDuration::from_secs(period.seconds().into());
        Demands {
            not_before: self.not_before.map(|moment| moment.0),
            max_age: self.max_age.map(length),
        }
    }

    /// The table, where anything is set.
    pub(super) fn to_toml(self) -> String {
        if self == Self::default() {
            return String::new();
        }
        // Texts and truths always have a TOML form.
        let lines = toml::to_string(&self).unwrap_or_default();
        format!(
            "\n# How new a snapshot must be to be restored without anybody naming it.\n[restore]\n{lines}"
        )
    }
}

/// A moment, or the beginning of a day in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment(pub Timestamp);

/// Not a moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a day such as 2026-11-21 nor a moment such as 2026-11-21T10:00:00Z")]
pub struct MomentError(String);

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        let day = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok();
        let moment = text.parse().ok();
        moment
            .or_else(|| Some(day()?.timestamp()))
            .map(Self)
            .ok_or_else(|| MomentError(text.to_owned()))
    }
}

impl TryFrom<String> for Moment {
    type Error = MomentError;

    fn try_from(text: String) -> Result<Self, MomentError> {
        text.parse()
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        moment.to_string()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("2026-11-21", Some("2026-11-21T00:00:00Z"))]
    #[case("2026-11-21T10:00:00Z", Some("2026-11-21T10:00:00Z"))]
    #[case("2026-11-21T10:00:00+02:00", Some("2026-11-21T08:00:00Z"))]
    #[case("yesterday", None)]
    #[case("2026-02-30", None)]
    #[case("", None)]
    fn a_moment_is_a_day_or_a_time(#[case] text: &str, #[case] read: Option<&str>) {
        let moment = text.parse::<Moment>().ok().map(|moment| moment.to_string());
        assert_eq!(moment.as_deref(), read);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let settings = RestoreSettings {
            not_before: Some("2026-11-21".parse().unwrap()),
            max_age: Some("3d".parse().unwrap()),
            allow_old: true,
        };
        let text = settings.to_toml();
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["restore"].clone().try_into(), Ok(settings));
        assert_eq!(RestoreSettings::default().to_toml(), "");
    }
}
