//! `[update]` in `node.toml`: what is kept of a tenant's data before an update, and when an update counts as good.
//! Names and forms only; who acts on them is `reconcile`.

use serde::{Deserialize, Serialize};

use crate::tenant::Period;

/// What is kept before an update, and when it counts as good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct UpdateSettings {
    /// How long a new revision must be healthy until it is the last known good one; `0s` makes it so at once.
    pub healthy_for: Period,
    /// Whether a tenant's state is cloned before an update, for a rollback to bring back.
    pub clone: CloneMode,
    /// How many such clones of a tenant are kept: that of the last known good revision, and the newest others.
    #[schemars(range(min = 1, max = 100))]
    pub keep: usize,
}

impl Default for UpdateSettings {
    fn default() -> Self {
        Self {
            healthy_for: Period::from_seconds(60),
            clone: CloneMode::default(),
            keep: 2,
        }
    }
}

/// Whether a tenant's state is cloned before an update.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum CloneMode {
    /// Where that is instant (XFS, Btrfs), or up to 1 GiB has to be copied and there is room; else the update says
    /// that there is none.
    #[default]
    Auto,
    /// Always; an update whose clone does not fit on the disk is refused.
    Always,
    /// Never: a rollback keeps the data that it finds.
    Never,
}

impl UpdateSettings {
    /// What is wrong with them, if anything.
    pub(super) fn fault(self) -> Option<&'static str> {
        (!(1..=100).contains(&self.keep)).then_some("keep is from 1 to 100")
    }

    /// The table, where anything is set.
    pub(super) fn to_toml(self) -> String {
        if self == Self::default() {
            return String::new();
        }
        // Texts and numbers always have a TOML form.
        let lines = toml::to_string(&self).unwrap_or_default();
        format!(
            "\n# What is kept of a tenant's data before an update, and when an update counts as good.\n[update]\n{lines}"
        )
    }
}
