//! When a tenant's agent runs, and how soon it sleeps: values of plan and spec, and what they resolve to.
//! Whether an agent is idle is not decided here.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tables::Sleep;
use super::{Period, Problem};

/// Idle for so long, an agent is frozen.
const AFTER: Period = Period::from_seconds(600);
/// Frozen for so long, it is stopped.
const STOP_AFTER: Period = Period::from_seconds(12 * 3600);
/// From the end of one scheduled waking to the next.
const EVERY: Period = Period::from_seconds(1800);
/// A shorter pace would start agents more often than they can do anything.
const EVERY_AT_LEAST: Period = Period::from_seconds(60);

/// When a tenant's agent runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WakeMode {
    /// From boot until it is held.
    #[default]
    AlwaysOn,
    /// When somebody comes, until it is idle.
    OnDemand,
    /// As on demand, and at regular times by itself: for agents that poll.
    Scheduled,
}

impl WakeMode {
    /// The mode's name in specs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AlwaysOn => "always-on",
            Self::OnDemand => "on-demand",
            Self::Scheduled => "scheduled",
        }
    }

    /// Whether an agent of this mode sleeps when it is idle.
    pub const fn sleeps(self) -> bool {
        !matches!(self, Self::AlwaysOn)
    }
}

impl fmt::Display for WakeMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How an agent sleeps, with nothing left open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SleepTimes {
    /// Idle for so long, it is frozen.
    pub after: Period,
    /// Frozen for so long, it is stopped.
    pub stop_after: Period,
    /// A scheduled agent is woken so long after it was last.
    pub every: Period,
}

impl Default for SleepTimes {
    fn default() -> Self {
        Self::of(&Sleep::default())
    }
}

impl SleepTimes {
    /// The table's times, with the defaults.
    pub fn of(table: &Sleep) -> Self {
        Self {
            after: table.after.unwrap_or(AFTER),
            stop_after: table.stop_after.unwrap_or(STOP_AFTER),
            every: table.every.unwrap_or(EVERY),
        }
    }
}

/// What is wrong with a `[sleep]` table.
pub fn check(table: &Sleep) -> Vec<Problem> {
    let mut findings = Vec::new();
    if table.after.is_some_and(|after| after.seconds() == 0) {
        findings.push(Problem::at(["sleep", "after"], "must be at least 1s"));
    }
    if table.every.is_some_and(|every| every < EVERY_AT_LEAST) {
        findings.push(Problem::at(
            ["sleep", "every"],
            format!("must be at least {EVERY_AT_LEAST}; an agent that is needed more often is `wake = \"always-on\"`"),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::{Catalog, Source};

    fn resolved(more: &str) -> Result<crate::tenant::ResolvedSpec, String> {
        let spec = format!(
            "id = \"acme\"\nimage = \"localhost/a:1\"\ningress.port = 8080\nprobes.start.path = \"/h\"\n{more}"
        );
        let catalog = Catalog::builtin();
        let resolved = catalog.resolve(&Source::new("test.toml", spec));
        resolved
            .map(|(_, spec)| spec)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_spec_says_when_its_agent_sleeps_and_the_rest_has_defaults() {
        let spec = resolved("wake = \"on-demand\"\nsleep.after = \"90s\"").unwrap();
        assert_eq!(spec.wake, WakeMode::OnDemand);
        let expected = SleepTimes {
            after: Period::from_seconds(90),
            ..SleepTimes::default()
        };
        assert_eq!(spec.sleep, expected);
        assert_eq!(resolved("").unwrap().wake, WakeMode::AlwaysOn);
    }

    #[test]
    fn a_pace_that_is_no_pace_is_refused_where_it_stands() {
        let refused = resolved("wake = \"scheduled\"\nsleep.every = \"5s\"").unwrap_err();
        assert!(refused.contains("at least 1min"), "{refused}");
        let refused = resolved("sleep.after = \"0s\"").unwrap_err();
        assert!(refused.contains("at least 1s"), "{refused}");
    }
}
