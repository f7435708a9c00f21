//! `[backup]` in `node.toml`: how often backups are made, and the timer's drop-in that says so to systemd.
//! It renders; writing the file and loading it is others' affair.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::tenant::Period;

/// How often backups are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct BackupSettings {
    /// The time from one backup to the next: it divides an hour (5min, 10min, 15min, 20min, 30min) or a day
    /// (1h, 2h, 3h, 4h, 6h, 8h, 12h, 1d).
    pub interval: Period,
}

const MINUTE: u32 = 60;
const HOUR: u32 = 60 * MINUTE;
const DAY: u32 = 24 * HOUR;

/// The least interval: a backup of many tenants should end before the next begins.
const LEAST: u32 = 5 * MINUTE;

/// What a backup may take, and the timer's own delay.
const SLACK: SignedDuration = SignedDuration::from_mins(30);

impl Default for BackupSettings {
    fn default() -> Self {
        Self {
            interval: Period::from_seconds(HOUR),
        }
    }
}

impl BackupSettings {
    /// What is wrong with it, if anything.
    pub fn fault(self) -> Option<&'static str> {
        self.calendar().is_none().then_some(
            "`interval` must divide an hour or a day evenly, and be 5min at least: 5min, 10min, \
             15min, 20min, 30min, 1h, 2h, 3h, 4h, 6h, 8h, 12h or 1d",
        )
    }

    /// The age from which on a last good backup is late: it missed its time at least once, and its second chance.
    pub fn late_after(self) -> SignedDuration {
        let interval = SignedDuration::from_secs(self.interval.seconds().into());
        interval * 2 + SLACK
    }

    /// The interval as systemd's calendar says it (systemd.time(7)).
    fn calendar(self) -> Option<String> {
        let seconds = self.interval.seconds();
        if seconds < LEAST || !DAY.is_multiple_of(seconds) {
            return None;
        }
        match seconds {
            DAY => Some("*-*-* 00:00:00".to_owned()),
            HOUR => Some("*-*-* *:00:00".to_owned()),
            _ if HOUR.is_multiple_of(seconds) && seconds.is_multiple_of(MINUTE) => {
                Some(format!("*-*-* *:00/{}:00", seconds / MINUTE))
            }
            _ if seconds.is_multiple_of(HOUR) => Some(format!("*-*-* 00/{}:00:00", seconds / HOUR)),
            _ => None,
        }
    }

    /// The drop-in of `tenantd-backup.timer`.
    ///
    /// # Panics
    /// Never with settings that were read: [`Self::fault`] refuses others.
    pub fn timer_drop_in(self) -> String {
        let calendar = self.calendar().unwrap_or_else(|| "hourly".to_owned());
        // Backups of one host are as regular as the interval; those of several spread over half of it.
        let spread = self.interval.seconds() / 2;
        format!(
            "# Written by tenantd: `interval` under [backup] in node.toml.\n\
             [Timer]\n\
             # The empty line takes the unit's own away.\n\
             OnCalendar=\n\
             OnCalendar={calendar}\n\
             RandomizedDelaySec={spread}s\n"
        )
    }

    /// The lines below `[backup]`.
    pub(super) fn to_toml(self) -> String {
        format!("interval = \"{}\"\n", self.interval)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn every(text: &str) -> BackupSettings {
        BackupSettings {
            interval: text.parse().unwrap(),
        }
    }

    #[rstest]
    #[case("5min", Some("*-*-* *:00/5:00"))]
    #[case("20min", Some("*-*-* *:00/20:00"))]
    #[case("60min", Some("*-*-* *:00:00"))]
    #[case("1h", Some("*-*-* *:00:00"))]
    #[case("6h", Some("*-*-* 00/6:00:00"))]
    #[case("1d", Some("*-*-* 00:00:00"))]
    #[case("24h", Some("*-*-* 00:00:00"))]
    #[case("1min", None)]
    #[case("7min", None)]
    #[case("90min", None)]
    #[case("5h", None)]
    #[case("2d", None)]
    #[case("0s", None)]
    fn an_interval_is_one_that_a_calendar_can_say(#[case] text: &str, #[case] said: Option<&str>) {
        assert_eq!(every(text).calendar().as_deref(), said);
        assert_eq!(every(text).fault().is_none(), said.is_some());
    }

    #[test]
    fn the_drop_in_replaces_what_the_unit_says() {
        insta::assert_snapshot!(every("5min").timer_drop_in(), @r"
        # Written by tenantd: `interval` under [backup] in node.toml.
        [Timer]
        # The empty line takes the unit's own away.
        OnCalendar=
        OnCalendar=*-*-* *:00/5:00
        RandomizedDelaySec=150s
        ");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let settings = every("15min");
        assert_eq!(toml::from_str(&settings.to_toml()), Ok(settings));
    }
}
