//! `node.toml`: what the operator settles once for the host.
//! Parsing is pure; reading the file is the caller's business.

use std::fmt::Write;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::api_settings::ApiSettings;
use super::backup_settings::BackupSettings;
use super::capacity::CapacitySettings;
use super::failure_settings::FailureSettings;
use super::front_settings::FrontSettings;
use super::restore_settings::RestoreSettings;
use super::retention::RetentionSettings;
use super::secret_settings::SecretSettings;
use super::update_settings::UpdateSettings;
use crate::object_store::{EndpointError, RateError, S3Settings, StoreUrl, StoreUrlError, Uploads};

/// The settings of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NodeSettings {
    /// The node's name in snapshots and reports.
    pub name: String,
    /// Run tenants although the host cannot enforce some of their limits.
    #[serde(default)]
    pub allow_missing_controllers: bool,
    /// Seconds that a shutdown may spend on final backups, before the provider cuts the power.
    #[serde(default = "default_shutdown_budget")]
    pub shutdown_budget_seconds: u32,
    /// Where snapshots are kept.
    #[serde(default)]
    pub store: StoreSettings,
    /// Where the API is beside its Unix socket.
    #[serde(default)]
    pub api: ApiSettings,
    /// How often snapshots are made.
    #[serde(default)]
    pub backup: BackupSettings,
    /// What is done about agents that fail.
    #[serde(default)]
    pub failure: FailureSettings,
    /// How the public reaches tenants.
    #[serde(default)]
    pub front: FrontSettings,
    /// How new a snapshot must be to be restored without anybody naming it.
    #[serde(default)]
    pub restore: RestoreSettings,
    /// How far the plans of all tenants together may exceed the host.
    #[serde(default)]
    pub capacity: CapacitySettings,
    /// How long snapshots are kept.
    #[serde(default)]
    pub retention: RetentionSettings,
    /// Which references to secrets specs may use.
    #[serde(default)]
    pub secrets: SecretSettings,
    /// What is kept before an update, and when it counts as good.
    #[serde(default)]
    pub update: UpdateSettings,
    /// Whom the node trusts and for whom it encrypts.
    pub keys: KeySettings,
}

/// Leaves five of the 30 s after which clouds cut the power.
pub(super) const SHUTDOWN_BUDGET_SECONDS: u32 = 25;

fn default_shutdown_budget() -> u32 {
    SHUTDOWN_BUDGET_SECONDS
}

/// Where snapshots are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StoreSettings {
    /// `dir:/path` or `s3://bucket/prefix`.
    #[serde(default = "default_store_url")]
    pub url: String,
    /// S3 endpoint, for example `https://s3.eu-central-003.backblazeb2.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// S3 region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Put the bucket's name into the path instead of the host name.
    #[serde(default = "yes")]
    pub path_style: bool,
    /// A file with two lines, the access key's id and its secret, readable by root only.
    /// A systemd credential named `tenantd.s3` comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub credentials: Option<Utf8PathBuf>,
    /// The most that each backup may upload to a bucket per second, for example `20MiB/s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_limit: Option<String>,
    /// How many uploads to a bucket each backup may have under way at a time, 1 to 64; default 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: Option<usize>,
}

/// More uploads at a time than this are a mistake: each holds a pack of 16 MiB in memory.
const MOST_UPLOADS: usize = 64;

fn default_store_url() -> String {
    "dir:/var/lib/tenantd/backups".to_owned()
}

fn yes() -> bool {
    true
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            url: default_store_url(),
            endpoint: None,
            region: None,
            path_style: true,
            credentials: None,
            upload_limit: None,
            concurrency: None,
        }
    }
}

/// The store that settings mean, checked.
#[derive(Debug, Clone)]
pub enum StoreTarget {
    /// A directory of this host.
    Directory(Utf8PathBuf),
    /// A bucket.
    S3(S3Settings),
}

/// Why `[store]` means no store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreSettingsError {
    /// `url` is none.
    #[error(transparent)]
    Url(#[from] StoreUrlError),
    /// `endpoint` is none.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// An S3 store lacks a setting.
    #[error("an s3:// store needs `{0}` as well")]
    Missing(&'static str),
    /// `upload-limit` is none.
    #[error("upload-limit: {0}")]
    Rate(#[from] RateError),
    /// `concurrency` is out of range.
    #[error("concurrency = {0} is not possible; give 1 to {MOST_UPLOADS}")]
    Concurrency(usize),
    /// The credentials file is named from a directory that nobody knows later.
    #[error("{0} is not an absolute path")]
    Relative(Utf8PathBuf),
    /// The units that make backups have neither people's homes nor the host's temporary files.
    #[error(
        "{0} is hidden from the units that make backups (ProtectHome=, PrivateTmp=); choose \
         another place, for example below /srv, or /etc/tenantd for credentials"
    )]
    Hidden(Utf8PathBuf),
}

/// Directories that are hidden from the units of `systemd/`.
const HIDDEN: [&str; 5] = ["/root", "/home", "/run/user", "/tmp", "/var/tmp"];

impl StoreSettings {
    /// Whether the units that make backups see the store and its credentials.
    pub fn check_for_units(&self) -> Result<(), StoreSettingsError> {
        let visible = |path: &Utf8PathBuf| {
            if HIDDEN.iter().any(|hidden| path.starts_with(hidden)) {
                Err(StoreSettingsError::Hidden(path.clone()))
            } else {
                Ok(())
            }
        };
        match (self.url.parse()?, &self.credentials) {
            (StoreUrl::Directory(path), _) => visible(&path),
            (StoreUrl::S3 { .. }, Some(path)) if path.is_absolute() => visible(path),
            (StoreUrl::S3 { .. }, Some(path)) => Err(StoreSettingsError::Relative(path.clone())),
            (StoreUrl::S3 { .. }, None) => Ok(()),
        }
    }

    /// What the settings mean.
    pub fn target(&self) -> Result<StoreTarget, StoreSettingsError> {
        let (bucket, prefix) = match self.url.parse()? {
            StoreUrl::Directory(path) => return Ok(StoreTarget::Directory(path)),
            StoreUrl::S3 { bucket, prefix } => (bucket, prefix),
        };
        let endpoint = self.endpoint.as_deref();
        let region = self.region.as_deref();
        Ok(StoreTarget::S3(S3Settings {
            bucket,
            prefix,
            endpoint: endpoint
                .ok_or(StoreSettingsError::Missing("endpoint"))?
                .parse()?,
            region: region
                .ok_or(StoreSettingsError::Missing("region"))?
                .to_owned(),
            path_style: self.path_style,
            uploads: self.uploads()?,
            answer_within: S3Settings::ANSWER_WITHIN,
        }))
    }

    fn uploads(&self) -> Result<Uploads, StoreSettingsError> {
        let mut uploads = Uploads::default();
        if let Some(limit) = &self.upload_limit {
            uploads.limit = Some(limit.parse()?);
        }
        match self.concurrency {
            Some(at_once) if !(1..=MOST_UPLOADS).contains(&at_once) => {
                return Err(StoreSettingsError::Concurrency(at_once));
            }
            Some(at_once) => uploads.at_once = at_once,
            None => {}
        }
        Ok(uploads)
    }
}

/// Whom the node trusts and for whom it encrypts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KeySettings {
    /// The operator's root key (`ssh-ed25519 …`): it certifies nodes, and with them snapshots.
    pub root: String,
    /// Those who can read backups (`age1…`): the operator's, and an escrow's.
    pub recipients: Vec<String>,
}

/// Why a `node.toml` is refused.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It is no TOML, or has unknown or missing keys; the text shows line and column.
    #[error("{path} is not valid:\n{message}")]
    Parse {
        /// The file.
        path: Utf8PathBuf,
        /// The parser's report, with the line it is about.
        message: String,
    },
    /// Its `[store]` means no store.
    #[error("{path}: [store] cannot be used")]
    Store {
        /// The file.
        path: Utf8PathBuf,
        /// Why not.
        #[source]
        source: StoreSettingsError,
    },
    /// It would lose snapshots.
    #[error("{path}: [retention] cannot be used: {fault}")]
    Retention {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        fault: &'static str,
    },
    /// What it says of updates cannot be.
    #[error("{path}: [update] cannot be used: {fault}")]
    Update {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        fault: &'static str,
    },
    /// The API could not be served so.
    #[error("{path}: [api] cannot be used: {fault}")]
    Api {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        fault: &'static str,
    },
    /// systemd could not keep such an interval.
    #[error("{path}: [backup] cannot be used: {fault}")]
    Backup {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        fault: &'static str,
    },
    /// It would try again without a pause, or never.
    #[error("{path}: [failure] cannot be used: {fault}")]
    Failure {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        fault: &'static str,
    },
    /// The front could not serve so.
    #[error("{path}: [front] cannot be used: {fault}")]
    Front {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        fault: &'static str,
    },
    /// It names nobody who could read the backups.
    #[error("{path}: keys.recipients is empty, so nobody could ever read a backup")]
    NoRecipient {
        /// The file.
        path: Utf8PathBuf,
    },
}

impl NodeSettings {
    /// Parses the text of `path`.
    pub fn parse(text: &str, path: &Utf8PathBuf) -> Result<Self, SettingsError> {
        let settings: Self = toml::from_str(text).map_err(|error| SettingsError::Parse {
            path: path.clone(),
            message: error.to_string(),
        })?;
        if settings.keys.recipients.is_empty() {
            return Err(SettingsError::NoRecipient { path: path.clone() });
        }
        if let Some(fault) = settings.api.fault() {
            let path = path.clone();
            return Err(SettingsError::Api { path, fault });
        }
        if let Some(fault) = settings.backup.fault() {
            let path = path.clone();
            return Err(SettingsError::Backup { path, fault });
        }
        if let Some(fault) = settings.failure.fault() {
            let path = path.clone();
            return Err(SettingsError::Failure { path, fault });
        }
        if let Some(fault) = settings.front.fault() {
            let path = path.clone();
            return Err(SettingsError::Front { path, fault });
        }
        if let Some(fault) = settings.retention.fault() {
            let path = path.clone();
            return Err(SettingsError::Retention { path, fault });
        }
        if let Some(fault) = settings.update.fault() {
            let path = path.clone();
            return Err(SettingsError::Update { path, fault });
        }
        let store = settings.store.check_for_units();
        match store.and_then(|()| settings.store.target()) {
            Ok(_) => Ok(settings),
            Err(source) => Err(SettingsError::Store {
                path: path.clone(),
                source,
            }),
        }
    }

    /// The text of a new, commented `node.toml` with these settings.
    pub fn to_commented_toml(&self) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let recipients: Vec<_> = self.keys.recipients.iter().map(|one| quoted(one)).collect();
        let mut store = format!("url = {}\n", quoted(&self.store.url));
        for (key, value) in [
            ("endpoint", &self.store.endpoint),
            ("region", &self.store.region),
        ] {
            if let Some(value) = value {
                let _ = writeln!(store, "{key} = {}", quoted(value));
            }
        }
        if !self.store.path_style {
            store.push_str("path-style = false\n");
        }
        if let Some(path) = &self.store.credentials {
            let _ = writeln!(store, "credentials = {}", quoted(path.as_str()));
        }
        if let Some(limit) = &self.store.upload_limit {
            let _ = writeln!(store, "upload-limit = {}", quoted(limit));
        }
        if let Some(concurrency) = self.store.concurrency {
            let _ = writeln!(store, "concurrency = {concurrency}");
        }
        format!(
            "# The settings of this node. `tenantd reload` makes the daemon read them again.\n\
             \n\
             # The node's name in snapshots and reports.\n\
             name = {name}\n\
             \n\
             # Run tenants although this host cannot enforce some of their limits.\n\
             allow-missing-controllers = {allow}\n\
             \n\
             # Seconds that a shutdown may spend on final backups.\n\
             shutdown-budget-seconds = {budget}\n\
             \n\
             # Where snapshots are kept: dir:/path or s3://bucket/prefix\n\
             # (with endpoint, region and a credentials file of two lines: key id, secret).\n\
             [store]\n\
             {store}\
             \n\
             # How often snapshots are made, from 5min to 1d; what has not changed is not stored again.\n\
             [backup]\n\
             {backup}\
             {api}\
             {restore}\
             {failure}\
             {front}\
             {update}\
             \n\
             # What `tenantd prune` keeps: all `within` this time before the newest, and the first of so\n\
             # many hours, days, weeks, months and years. Nothing goes sooner than `grace`.\n\
             [retention]\n\
             {retention}\
             {secrets}\
             \n\
             # How far the plans of all tenants together may exceed this host, and whether a spec that exceeds\n\
             # one of them is refused or only warned of.\n\
             [capacity]\n\
             {capacity}\
             \n\
             # Whom this node trusts, and who can read its backups.\n\
             [keys]\n\
             root = {root}\n\
             recipients = [{recipients}]\n",
            name = quoted(&self.name),
            allow = self.allow_missing_controllers,
            budget = self.shutdown_budget_seconds,
            backup = self.backup.to_toml(),
            capacity = self.capacity.to_toml(),
            api = self.api.to_toml(),
            restore = self.restore.to_toml(),
            failure = self.failure.to_toml(),
            front = self.front.to_toml(),
            update = self.update.to_toml(),
            retention = self.retention.to_toml(),
            secrets = self.secrets.to_toml(),
            root = quoted(&self.keys.root),
            recipients = recipients.join(", "),
        )
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn settings() -> NodeSettings {
        NodeSettings {
            name: "host-1".to_owned(),
            allow_missing_controllers: false,
            shutdown_budget_seconds: 25,
            secrets: SecretSettings {
                references: vec!["op://agents/".to_owned()],
            },
            store: StoreSettings {
                url: "s3://bucket/prefix".to_owned(),
                endpoint: Some("http://127.0.0.1:9000".to_owned()),
                region: Some("garage".to_owned()),
                path_style: false,
                credentials: Some("/etc/tenantd/s3".into()),
                upload_limit: Some("20MiB/s".to_owned()),
                concurrency: Some(8),
            },
            api: ApiSettings {
                listen: Some("192.0.2.1:7443".parse().unwrap()),
                tls: Some(super::super::TlsFiles {
                    cert: "/etc/tenantd/api.crt".into(),
                    key: "/etc/tenantd/api.key".into(),
                }),
            },
            backup: BackupSettings {
                interval: "15min".parse().unwrap(),
            },
            capacity: CapacitySettings {
                on_overcommit: crate::node::OnOvercommit::Refuse,
                ..CapacitySettings::default()
            },
            failure: FailureSettings {
                rollbacks: 5,
                ..FailureSettings::default()
            },
            front: FrontSettings {
                domain: Some("example.org".parse().unwrap()),
                ..FrontSettings::default()
            },
            restore: RestoreSettings {
                max_age: Some("3d".parse().unwrap()),
                ..RestoreSettings::default()
            },
            retention: RetentionSettings {
                daily: 30,
                ..RetentionSettings::default()
            },
            update: UpdateSettings {
                healthy_for: "5min".parse().unwrap(),
                ..UpdateSettings::default()
            },
            keys: KeySettings {
                root: "ssh-ed25519 AAAA".to_owned(),
                recipients: vec!["age1abc".to_owned(), "age1def".to_owned()],
            },
        }
    }

    #[test]
    fn the_commented_file_says_what_it_was_made_from() {
        let text = settings().to_commented_toml();
        assert_eq!(
            NodeSettings::parse(&text, &"node.toml".into()).unwrap(),
            settings()
        );
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let text = settings()
            .to_commented_toml()
            .replace("[keys]", "[keys]\nrot = 1");
        let error = NodeSettings::parse(&text, &"/etc/tenantd/node.toml".into()).unwrap_err();
        insta::assert_snapshot!(error);
    }

    #[test]
    fn a_node_whose_backups_nobody_could_read_is_refused() {
        let mut settings = settings();
        settings.keys.recipients.clear();
        let error =
            NodeSettings::parse(&settings.to_commented_toml(), &"node.toml".into()).unwrap_err();
        assert!(matches!(error, SettingsError::NoRecipient { .. }));
    }

    #[rstest]
    #[case(|store: &mut StoreSettings| store.url = "/backups".to_owned(), "begins with neither")]
    #[case(|store: &mut StoreSettings| store.endpoint = None, "needs `endpoint`")]
    #[case(|store: &mut StoreSettings| store.region = None, "needs `region`")]
    #[case(|store: &mut StoreSettings| store.endpoint = Some("127.0.0.1:9000".to_owned()), "give scheme and host")]
    #[case(|store: &mut StoreSettings| store.credentials = Some("s3".into()), "not an absolute path")]
    #[case(|store: &mut StoreSettings| store.credentials = Some("/root/s3".into()), "is hidden")]
    #[case(|store: &mut StoreSettings| store.url = "dir:/tmp/backups".to_owned(), "is hidden")]
    #[case(|store: &mut StoreSettings| store.upload_limit = Some("fast".to_owned()), "upload-limit: \"fast\" is not a rate")]
    #[case(|store: &mut StoreSettings| store.concurrency = Some(0), "give 1 to 64")]
    #[case(|store: &mut StoreSettings| store.concurrency = Some(65), "give 1 to 64")]
    fn a_store_that_could_not_be_used_is_refused(
        #[case] spoil: fn(&mut StoreSettings),
        #[case] why: &str,
    ) {
        let mut settings = settings();
        spoil(&mut settings.store);
        let error =
            NodeSettings::parse(&settings.to_commented_toml(), &"node.toml".into()).unwrap_err();
        let SettingsError::Store { source, .. } = error else {
            panic!("{error}");
        };
        assert!(source.to_string().contains(why), "{source}");
    }
}
