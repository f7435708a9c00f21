//! `bootstrap.toml`: what a fresh host becomes at its first boot, where nobody runs `tenantd init`. An Ignition config
//! places it, with secrets beside it; the first boot follows it and removes both. Pure: reading and doing are the caller's.

use serde::{Deserialize, Serialize};

use super::settings::StoreSettings;

/// What a fresh host is to become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bootstrap {
    /// The node's name.
    pub name: String,
    /// The operator's public root key. Without it, the private half lies beside this file and certifies the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_key: Option<String>,
    /// Who can read backups: `age1…`.
    pub recipients: Vec<String>,
    /// Bring back what the store has of this node, before any tenant starts.
    #[serde(default)]
    pub restore: bool,
    /// What becomes of the identity that was given for that.
    #[serde(default)]
    pub identity: AfterRestore,
    /// Run tenants although the host cannot enforce some of their limits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_missing_controllers: bool,
    /// Where snapshots are kept.
    #[serde(default)]
    pub store: StoreSettings,
}

/// What becomes of the identity when the restore is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterRestore {
    /// It is removed from the host, which then can write backups and not read them.
    #[default]
    Erase,
    /// It stays, for drills and for restores that nobody watches.
    Keep,
}

impl Bootstrap {
    /// Where the secrets are, by what they are: the root key's private half.
    pub const ROOT_KEY: &str = "root.key";
    /// The identity that reads the backups.
    pub const IDENTITY: &str = "identity.txt";

    /// The file's text.
    pub fn to_toml(&self) -> String {
        // Texts, truths and tables always have a TOML form.
        toml::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let bootstrap = Bootstrap {
            name: "host-1".to_owned(),
            root_key: Some("ssh-ed25519 AAAA".to_owned()),
            recipients: vec!["age1example".to_owned()],
            restore: true,
            identity: AfterRestore::Keep,
            allow_missing_controllers: true,
            store: StoreSettings {
                url: "s3://backups/host-1".to_owned(),
                endpoint: Some("https://s3.example.com".to_owned()),
                region: Some("eu-1".to_owned()),
                credentials: Some("/etc/tenantd/s3.key".into()),
                ..StoreSettings::default()
            },
        };
        let text = bootstrap.to_toml();
        assert_eq!(toml::from_str::<Bootstrap>(&text).as_ref(), Ok(&bootstrap));
        insta::assert_snapshot!(text);
    }
}
