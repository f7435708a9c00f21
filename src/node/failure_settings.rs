//! `[failure]` in `node.toml`: what tenantd does by itself about agents that fail.
//! The decisions are `reconcile::policy`'s; here are their names, defaults and bounds.

use serde::{Deserialize, Serialize};

use crate::tenant::Period;

/// What is done about agents that fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct FailureSettings {
    /// The first pause before an agent is started again that systemd has given up; it doubles.
    pub retry_after: Period,
    /// The longest such pause.
    pub retry_at_most: Period,
    /// So many rollbacks of a tenant within `rollback-window` open its breaker.
    #[schemars(range(min = 1))]
    pub rollbacks: u32,
    /// See `rollbacks`.
    pub rollback_window: Period,
    /// So many live probes in a row fail before an agent is restarted.
    #[schemars(range(min = 1))]
    pub unhealthy_after: u32,
}

impl Default for FailureSettings {
    fn default() -> Self {
        Self {
            retry_after: Period::from_seconds(60),
            retry_at_most: Period::from_seconds(3600),
            rollbacks: 3,
            rollback_window: Period::from_seconds(86_400),
            unhealthy_after: 3,
        }
    }
}

impl FailureSettings {
    /// What is wrong with it, if anything.
    pub fn fault(&self) -> Option<&'static str> {
        if self.retry_after.seconds() == 0 || self.retry_at_most < self.retry_after {
            return Some("`retry-after` must be 1s or more, and `retry-at-most` no less than it");
        }
        if self.rollbacks == 0 || self.unhealthy_after == 0 {
            return Some("`rollbacks` and `unhealthy-after` must be 1 or more");
        }
        None
    }

    /// The table, where anything differs from the defaults.
    pub(super) fn to_toml(self) -> String {
        if self == Self::default() {
            return String::new();
        }
        // Periods and numbers always have a TOML form.
        let lines = toml::to_string(&self).unwrap_or_default();
        format!(
            "\n# When agents that fail are started again, and when nothing is tried any more.\n[failure]\n{lines}"
        )
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", true)]
    #[case("retry-after = \"2s\"\nretry-at-most = \"2s\"", true)]
    #[case("retry-after = \"2h\"", false)]
    #[case("retry-after = \"0s\"", false)]
    #[case("rollbacks = 0", false)]
    #[case("unhealthy-after = 0", false)]
    fn what_could_never_work_is_refused(#[case] text: &str, #[case] good: bool) {
        let settings: FailureSettings = toml::from_str(text).unwrap();
        assert_eq!(settings.fault().is_none(), good);
    }
}
