//! `[secrets]` in `node.toml`: which references the specs of this node may use.

use serde::{Deserialize, Serialize};

/// Which references the specs of this node may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SecretSettings {
    /// References, or how they begin: `op://agents/`, `sops:/etc/tenantd/secrets.yaml`, `exec:/usr/local/bin/fetch`.
    /// What is not here is not asked: a spec could otherwise read whatever the daemon can, or have it run a program.
    pub references: Vec<String>,
}

impl SecretSettings {
    /// The table, where anything is set.
    pub(super) fn to_toml(&self) -> String {
        if *self == Self::default() {
            return String::new();
        }
        // Texts always have a TOML form.
        let lines = toml::to_string(self).unwrap_or_default();
        format!(
            "\n# Which references to secrets specs may use, or how they begin.\n[secrets]\n{lines}"
        )
    }
}
