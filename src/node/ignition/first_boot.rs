//! What a fresh machine has to be told to become a node: tenantd itself, what to do with it once, and the secrets for that.

use camino::Utf8PathBuf;
use secrecy::SecretString;

use super::config::{Config, Contents, Directory, File, Unit, User};
use super::{tailscale, ucore};
use crate::node::bootstrap::{AfterRestore, Bootstrap};
use crate::node::settings::{StoreSettings, StoreSettingsError, StoreTarget};
use crate::node::{host_files, subordinate_ids};

/// Where the S3 keys are, on hosts that were made by this.
const S3_KEYS: &str = "/etc/tenantd/s3.key";

/// The operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Os {
    /// Fedora CoreOS.
    FedoraCoreOs,
    /// Fedora CoreOS that becomes uCore.
    Ucore,
}

/// tenantd, as the machine gets it.
#[derive(Debug, Clone)]
pub enum Binary {
    /// It is fetched.
    Remote {
        /// Where.
        url: String,
        /// `sha512-` and 128 hexadecimal digits.
        hash: String,
    },
    /// It is in the config.
    Inline {
        /// Its bytes.
        bytes: Vec<u8>,
        /// Whether they are to be decompressed.
        gzip: bool,
    },
}

/// The half of the operator's root key that the node is given.
#[derive(Debug, Clone)]
pub enum RootKeyHalf {
    /// The public one: the node waits for its certificate.
    Public(String),
    /// The private one: the node certifies itself, once.
    Private(SecretString),
}

/// What nobody else should read.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// The root key.
    pub root_key: RootKeyHalf,
    /// The identity that reads the backups.
    pub identity: Option<SecretString>,
    /// The S3 keys: two lines.
    pub s3: Option<SecretString>,
    /// The tailnet's auth key.
    pub tailscale: Option<SecretString>,
}

/// A machine's first boot.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a question of its own"
)]
pub struct FirstBoot {
    /// The node's name, and the host's.
    pub name: String,
    /// The operating system.
    pub os: Os,
    /// tenantd.
    pub binary: Binary,
    /// Where snapshots are kept, without credentials.
    pub store: StoreSettings,
    /// Who can read backups.
    pub recipients: Vec<String>,
    /// Whether what the store has is brought back.
    pub restore: bool,
    /// What becomes of the identity then.
    pub after_restore: AfterRestore,
    /// What nobody else should read.
    pub secrets: Secrets,
    /// Specs, by the names of their files.
    pub tenants: Vec<(String, String)>,
    /// Who may log in as `core`.
    pub ssh_keys: Vec<String>,
    /// Whether tenants run although the host cannot enforce some of their limits.
    pub allow_missing_controllers: bool,
    /// Whether memory that is not used is compressed.
    pub zram: bool,
    /// Whether the firewall lets HTTP and HTTPS in.
    pub public_web: bool,
}

/// Why a machine could not become a node by this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FirstBootError {
    /// The name is no host name.
    #[error(
        "{0:?} is no host name; give up to 63 of a-z, 0-9 and dashes, with no dash at its ends"
    )]
    Name(String),
    /// The store is none.
    #[error("the store cannot be used")]
    Store(#[from] StoreSettingsError),
    /// A bucket without keys.
    #[error("an s3:// store needs --credentials, a file with two lines: key id, secret")]
    NoS3Keys,
    /// Nobody could read the backups.
    #[error("nobody could read the backups; give --recipient age1…, or --identity")]
    NoRecipient,
    /// A restore from what is gone with the machine.
    #[error(
        "a fresh machine has nothing in {0}; --restore needs a store that is elsewhere, such as s3://bucket/prefix"
    )]
    LocalRestore(String),
    /// A restore that would end in a node which cannot go on by itself.
    #[error(
        "--restore needs the private half of the root key: nobody is there to certify the new node, and without a \
         certificate it makes no backups"
    )]
    NotCertified,
    /// The hash is none.
    #[error(
        "{0:?} is not a hash of the binary; give sha512- and the 128 digits that sha512sum prints"
    )]
    Hash(String),
    /// The binary would come unprotected or from nowhere.
    #[error("{0:?} is no http or https URL")]
    Url(String),
}

impl FirstBoot {
    /// The config that makes it so.
    pub fn config(&self) -> Result<Config, FirstBootError> {
        self.check()?;
        let mut config = Config {
            about: self.about(),
            ..Config::default()
        };
        if !self.ssh_keys.is_empty() {
            config.users.push(User {
                name: "core".to_owned(),
                ssh_keys: self.ssh_keys.clone(),
            });
        }
        self.add_files(&mut config);
        self.add_secrets(&mut config);
        self.add_host(&mut config);
        if self.os == Os::Ucore {
            ucore::add(&mut config);
        }
        config.units.push(self.bootstrap_unit());
        if self.public_web {
            config.units.push(firewall_unit());
        }
        if let Some(key) = &self.secrets.tailscale {
            match self.os {
                Os::Ucore => tailscale::add_service(&mut config, key),
                Os::FedoraCoreOs => tailscale::add_container(&mut config, key),
            }
        }
        Ok(config)
    }

    fn check(&self) -> Result<(), FirstBootError> {
        if !is_host_name(&self.name) {
            return Err(FirstBootError::Name(self.name.clone()));
        }
        self.store.check_for_units()?;
        match self.store.target()? {
            StoreTarget::S3(_) if self.secrets.s3.is_none() => {
                return Err(FirstBootError::NoS3Keys);
            }
            StoreTarget::Directory(_) if self.restore => {
                return Err(FirstBootError::LocalRestore(self.store.url.clone()));
            }
            _ => {}
        }
        if self.recipients.is_empty() {
            return Err(FirstBootError::NoRecipient);
        }
        if self.restore && matches!(self.secrets.root_key, RootKeyHalf::Public(_)) {
            return Err(FirstBootError::NotCertified);
        }
        if let Binary::Remote { url, hash } = &self.binary {
            if !url.starts_with("https://") && !url.starts_with("http://") {
                return Err(FirstBootError::Url(url.clone()));
            }
            let digits = hash.strip_prefix("sha512-").unwrap_or_default();
            if digits.len() != 128 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(FirstBootError::Hash(hash.clone()));
            }
        }
        Ok(())
    }

    fn about(&self) -> Vec<String> {
        let mut about = vec![
            format!(
                "{}: a node of tenantd, from nothing. Made by `tenantd node butane`.",
                self.name
            ),
            "Turn it into what the machine is given: butane --strict --pretty < this > host.ign"
                .to_owned(),
        ];
        if !self.secrets.list().is_empty() {
            about.push(String::new());
            about.push(format!(
                "KEEP IT SECRET. In it are: {}.",
                self.secrets.list().join(", ")
            ));
            about.push(
                "The provider keeps what it is given as user data; have it removed there when the node is up.".to_owned(),
            );
        }
        about
    }

    fn add_files(&self, config: &mut Config) {
        let contents = match &self.binary {
            Binary::Remote { url, hash } => Contents::Remote {
                url: url.clone(),
                hash: hash.clone(),
                gzip: url.ends_with(".gz"),
            },
            Binary::Inline { bytes, gzip } => Contents::Bytes {
                bytes: bytes.clone(),
                gzip: *gzip,
            },
        };
        config.files.push(File {
            why: "tenantd. It brings its own units, which the first boot puts in place.".to_owned(),
            path: "/usr/local/bin/tenantd".to_owned(),
            mode: 0o755,
            contents,
            append: false,
        });
        config.directories.push(Directory {
            path: "/etc/tenantd/bootstrap".to_owned(),
            mode: 0o700,
        });
        let bootstrap = Bootstrap {
            name: self.name.clone(),
            root_key: match &self.secrets.root_key {
                RootKeyHalf::Public(key) => Some(key.clone()),
                RootKeyHalf::Private(_) => None,
            },
            recipients: self.recipients.clone(),
            restore: self.restore,
            identity: self.after_restore,
            allow_missing_controllers: self.allow_missing_controllers,
            store: StoreSettings {
                credentials: self.secrets.s3.as_ref().map(|_| Utf8PathBuf::from(S3_KEYS)),
                ..self.store.clone()
            },
        };
        config.files.push(text(
            "What the host becomes at its first boot; removed when that is done.",
            "/etc/tenantd/bootstrap.toml",
            bootstrap.to_toml(),
        ));
        for (number, (name, spec)) in self.tenants.iter().enumerate() {
            let why = if number == 0 {
                "Tenants that it begins with. A restore brings back its own files of the same names."
            } else {
                ""
            };
            config.files.push(text(
                why,
                &format!("/etc/tenantd/tenants.d/{name}"),
                spec.clone(),
            ));
        }
    }

    fn add_secrets(&self, config: &mut Config) {
        let mut secret = |why: &str, path: String, value: &SecretString| {
            config.files.push(File {
                why: why.to_owned(),
                path,
                mode: 0o600,
                contents: Contents::Secret(value.clone()),
                append: false,
            });
        };
        if let RootKeyHalf::Private(key) = &self.secrets.root_key {
            secret(
                "The operator's root key: certifies the node once, and is removed.",
                format!("/etc/tenantd/bootstrap/{}", Bootstrap::ROOT_KEY),
                key,
            );
        }
        if let Some(identity) = &self.secrets.identity {
            let why = match self.after_restore {
                AfterRestore::Erase => "Reads the backups once, and is removed.",
                AfterRestore::Keep => "Reads the backups; stays on the host for drills.",
            };
            secret(
                why,
                format!("/etc/tenantd/bootstrap/{}", Bootstrap::IDENTITY),
                identity,
            );
        }
        if let Some(keys) = &self.secrets.s3 {
            secret(
                "The bucket's key. It needs no right to delete.",
                S3_KEYS.to_owned(),
                keys,
            );
        }
    }

    fn add_host(&self, config: &mut Config) {
        config
            .files
            .push(text("", "/etc/hostname", format!("{}\n", self.name)));
        // From 0x70000000 up, 65 536 for each tenant; see the design's ranges of ids.
        for path in ["/etc/subuid", "/etc/subgid"] {
            config.files.push(File {
                why: "Ids that are the tenants': nothing else on this host may give them away."
                    .to_owned(),
                path: path.to_owned(),
                mode: 0o644,
                contents: Contents::Text(subordinate_ids::LINE.to_owned()),
                append: true,
            });
        }
        if self.zram {
            config.files.push(text(
                "What sleeping tenants do not need is compressed in memory; nothing of it reaches the disk.",
                "/etc/systemd/zram-generator.conf",
                "[zram0]\nzram-size = ram / 2\ncompression-algorithm = zstd\n".to_owned(),
            ));
            config.files.push(text(
                "Compressed memory is quicker than a disk: it may be used early, and page by page.",
                "/etc/sysctl.d/50-tenantd.conf",
                "vm.swappiness = 180\nvm.page-cluster = 0\n".to_owned(),
            ));
        }
    }

    fn bootstrap_unit(&self) -> Unit {
        let name = "tenantd-bootstrap.service";
        Unit {
            why: "Follows bootstrap.toml.".to_owned(),
            name: name.to_owned(),
            enabled: Some(true),
            contents: host_files::unit(name),
            drop_ins: match self.os {
                Os::Ucore => vec![ucore::when_final()],
                Os::FedoraCoreOs => Vec::new(),
            },
        }
    }
}

impl Secrets {
    /// What there is, in words.
    fn list(&self) -> Vec<&'static str> {
        let root = matches!(self.root_key, RootKeyHalf::Private(_));
        [
            (root, "the operator's root key"),
            (
                self.identity.is_some(),
                "the identity that reads all backups",
            ),
            (self.s3.is_some(), "the bucket's key"),
            (self.tailscale.is_some(), "the tailnet's auth key"),
        ]
        .into_iter()
        .filter_map(|(there, what)| there.then_some(what))
        .collect()
    }
}

/// Opens the firewall before it starts, where there is one; once.
fn firewall_unit() -> Unit {
    Unit {
        why: "HTTP and HTTPS, where there is a firewall (uCore).".to_owned(),
        name: "tenantd-firewall.service".to_owned(),
        enabled: Some(true),
        contents: Some(
            "[Unit]\n\
             Description=Let HTTP and HTTPS in\n\
             ConditionPathExists=/usr/bin/firewall-offline-cmd\n\
             ConditionPathExists=!/etc/firewalld/.tenantd\n\
             DefaultDependencies=no\n\
             After=local-fs.target\n\
             Before=firewalld.service\n\
             \n\
             [Service]\n\
             Type=oneshot\n\
             ExecStart=/usr/bin/firewall-offline-cmd --add-service=http --add-service=https\n\
             ExecStart=/usr/bin/touch /etc/firewalld/.tenantd\n\
             \n\
             [Install]\n\
             WantedBy=multi-user.target\n"
                .to_owned(),
        ),
        drop_ins: Vec::new(),
    }
}

fn text(why: &str, path: &str, contents: String) -> File {
    File {
        why: why.to_owned(),
        path: path.to_owned(),
        mode: 0o644,
        contents: Contents::Text(contents),
        append: false,
    }
}

/// A label of a host name (RFC 1123, section 2.1), in small letters.
fn is_host_name(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(is_good)
        && !name.starts_with('-')
        && !name.ends_with('-')
}
