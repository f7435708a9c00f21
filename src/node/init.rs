//! `tenantd init`: settings and keys of a new node. Made once, printed once.

use camino::Utf8PathBuf;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::backup_settings::BackupSettings;
use super::failure_settings::FailureSettings;
use super::fitness::Unfit;
use super::keys::{KeyFiles, NodeKeyError};
use super::restore_settings::RestoreSettings;
use super::retention::RetentionSettings;
use super::secret_settings::SecretSettings;
use super::settings::{KeySettings, NodeSettings, StoreSettings, StoreSettingsError, StoreTarget};
use super::update_settings::UpdateSettings;
use crate::backup::{
    Identity, KeyError, NodeCertificate, NodeKey, NodeStatement, PublicKey, Recipient, RootKey,
    SealError, Trust,
};
use crate::host::dirs;
use crate::host::files::{self, FileError};
use crate::layout::Layout;
use crate::object_store::S3Keys;

/// Longest credentials file.
const CREDENTIALS_LIMIT: u64 = 4096;

/// What the operator asks for.
#[derive(Debug, Clone)]
pub struct InitRequest {
    /// The node's name.
    pub name: String,
    /// The operator's root key; made here when none is given.
    pub root_key: Option<GivenRootKey>,
    /// Who can read backups; made here when none is given.
    pub recipients: Vec<String>,
    /// Where snapshots are kept.
    pub store: StoreSettings,
    /// Run tenants without limits that the host cannot enforce.
    pub allow_missing_controllers: bool,
}

/// The half of the operator's root key that is at hand.
#[derive(Debug, Clone)]
pub enum GivenRootKey {
    /// The public one, `ssh-ed25519 …`: the node waits for its certificate.
    Public(String),
    /// The private one, in OpenSSH's format: certifies the node, and is not kept.
    Private(SecretString),
}

/// What was made, and what only this once can be shown.
#[derive(Debug)]
pub struct InitReport {
    /// The settings that were written.
    pub settings: NodeSettings,
    /// Where they were written.
    pub path: Utf8PathBuf,
    /// The node's public key.
    pub node_key: PublicKey,
    /// The root key that was made here, in OpenSSH's format.
    pub root_key: Option<SecretString>,
    /// The identity that was made here.
    pub identity: Option<SecretString>,
    /// The statement that the root key must sign elsewhere.
    pub unsigned: Option<Utf8PathBuf>,
}

/// Why a node cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// It is already.
    #[error("this node is set up already: {0} is there; edit it, or remove it to begin anew")]
    Done(Utf8PathBuf),
    /// No tenant could run here.
    #[error("this host cannot run tenants; nothing was changed")]
    Unfit(#[from] Unfit),
    /// A given key is none.
    #[error("the root key given cannot be used")]
    RootKey(#[source] KeyError),
    /// A given recipient is none.
    #[error("the recipient given cannot be used")]
    Recipient(#[source] SealError),
    /// The store given is none.
    #[error("the store given cannot be used")]
    Store(#[source] StoreSettingsError),
    /// The credentials file given cannot be read.
    #[error("the credentials given cannot be read")]
    Credentials(#[source] FileError),
    /// The credentials file given is not one.
    #[error("{0} does not hold two lines: key id, secret")]
    NoKeys(Utf8PathBuf),
    /// The credentials file given is open to others.
    #[error("others than its owner may read {0}; `chmod 600 {0}`, and think of a new key")]
    OpenToOthers(Utf8PathBuf),
    /// A certificate does not fit this node and root.
    #[error("the certificate does not certify this node's key by the root key in {settings}")]
    Certificate {
        /// The settings with the root key.
        settings: Utf8PathBuf,
        /// Why not.
        #[source]
        source: KeyError,
    },
    /// A certificate is for another key.
    #[error("the certificate is for another node's key; sign {0} of this node")]
    OtherNode(Utf8PathBuf),
    /// A key cannot be made.
    #[error("a new key cannot be made")]
    Key(#[source] KeyError),
    /// A key file cannot be used.
    #[error("the node's keys cannot be used")]
    NodeKey(#[from] NodeKeyError),
    /// A file cannot be written.
    #[error("the node's files cannot be written; are you root?")]
    File(#[from] FileError),
}

/// Makes settings and keys. `node.toml` is written last: it says that all the rest is there.
pub fn init(
    layout: &Layout,
    request: &InitRequest,
    now: Timestamp,
) -> Result<InitReport, InitError> {
    let path = layout.node_toml();
    if path.exists() {
        return Err(InitError::Done(path));
    }
    let keys = KeyFiles::new(layout);
    for recipient in &request.recipients {
        recipient
            .parse::<Recipient>()
            .map_err(InitError::Recipient)?;
    }
    check_store(&request.store)?;
    let root = RootOfNode::of(request.root_key.as_ref())?;

    dirs::make(&layout.config_dir(), 0o755)?;
    dirs::make(&layout.data_dir(), 0o700)?;
    dirs::make(&layout.keys_dir(), 0o700)?;
    let node = NodeKey::generate().map_err(InitError::Key)?;
    write_secret(
        &keys.node_key(),
        &node.to_openssh().map_err(InitError::Key)?,
    )?;
    // Seconds since 1970: a node that is made later has a higher epoch without asking anybody.
    let epoch = u32::try_from(now.as_second()).unwrap_or(1);
    let statement = NodeStatement::new(node.public(), epoch);
    files::write(&keys.statement(), statement.to_line().as_bytes(), 0o644)?;

    let (root, root_text, unsigned) = match root {
        RootOfNode::Elsewhere(root) => (root, None, Some(keys.statement())),
        RootOfNode::Here { root, is_new } => {
            let certificate = root
                .certify(&node.public(), epoch)
                .map_err(InitError::Key)?;
            files::write(&keys.certificate(), certificate.to_text().as_bytes(), 0o644)?;
            let text = is_new
                .then(|| root.to_openssh())
                .transpose()
                .map_err(InitError::Key)?;
            if let Some(text) = &text {
                write_secret(&keys.root_key(), text)?;
            }
            (root.public(), text, None)
        }
    };
    let (recipients, identity) = if request.recipients.is_empty() {
        let identity = Identity::generate();
        let text = identity.to_text();
        write_secret(&keys.identity(), &text)?;
        (vec![identity.recipient().to_string()], Some(text))
    } else {
        (request.recipients.clone(), None)
    };
    let settings = NodeSettings {
        name: request.name.clone(),
        allow_missing_controllers: request.allow_missing_controllers,
        shutdown_budget_seconds: super::settings::SHUTDOWN_BUDGET_SECONDS,
        store: request.store.clone(),
        api: super::ApiSettings::default(),
        backup: BackupSettings::default(),
        restore: RestoreSettings::default(),
        capacity: super::CapacitySettings::default(),
        failure: FailureSettings::default(),
        front: super::FrontSettings::default(),
        retention: RetentionSettings::default(),
        secrets: SecretSettings::default(),
        update: UpdateSettings::default(),
        keys: KeySettings {
            root: root.to_string(),
            recipients,
        },
    };
    files::write(&path, settings.to_commented_toml().as_bytes(), 0o644)?;
    Ok(InitReport {
        settings,
        path,
        node_key: node.public(),
        root_key: root_text,
        identity,
        unsigned,
    })
}

/// Where the root key's private half is while the node is made.
enum RootOfNode {
    Elsewhere(PublicKey),
    Here { root: RootKey, is_new: bool },
}

impl RootOfNode {
    fn of(given: Option<&GivenRootKey>) -> Result<Self, InitError> {
        let here = |root, is_new| Self::Here { root, is_new };
        match given {
            None => Ok(here(RootKey::generate().map_err(InitError::Key)?, true)),
            Some(GivenRootKey::Public(text)) => text
                .parse()
                .map(Self::Elsewhere)
                .map_err(InitError::RootKey),
            Some(GivenRootKey::Private(text)) => {
                let root = RootKey::from_openssh(text).map_err(InitError::RootKey)?;
                Ok(here(root, false))
            }
        }
    }
}

/// Makes sure that the store is one and its credentials, where given, are some; asks nobody.
fn check_store(store: &StoreSettings) -> Result<(), InitError> {
    store.check_for_units().map_err(InitError::Store)?;
    match (
        store.target().map_err(InitError::Store)?,
        &store.credentials,
    ) {
        (StoreTarget::S3(_), Some(path)) => check_credentials(path),
        _ => Ok(()),
    }
}

fn check_credentials(path: &Utf8PathBuf) -> Result<(), InitError> {
    let bytes = files::read(path, CREDENTIALS_LIMIT).map_err(InitError::Credentials)?;
    if S3Keys::parse(&String::from_utf8_lossy(&bytes)).is_none() {
        return Err(InitError::NoKeys(path.clone()));
    }
    if !files::is_private(path).map_err(InitError::Credentials)? {
        return Err(InitError::OpenToOthers(path.clone()));
    }
    Ok(())
}

/// Takes in the root key's signature over this node's statement, or the whole certificate.
pub fn install_certificate(
    layout: &Layout,
    settings: &NodeSettings,
    text: &str,
) -> Result<(), InitError> {
    let keys = KeyFiles::new(layout);
    let refused = |source| InitError::Certificate {
        settings: layout.node_toml(),
        source,
    };
    let statement = files::read(&keys.statement(), 16 * 1024)?;
    let statement = String::from_utf8_lossy(&statement).into_owned();
    let certificate = if text.starts_with("-----BEGIN") {
        NodeCertificate::new(&statement, text)
    } else {
        NodeCertificate::from_text(text)
    }
    .map_err(refused)?;
    let root: PublicKey = settings.keys.root.parse().map_err(InitError::RootKey)?;
    let certified = Trust::root(root)
        .certified(&certificate)
        .map_err(refused)?
        .clone();
    let node = files::read(&keys.node_key(), 16 * 1024)?;
    let node = SecretString::from(String::from_utf8_lossy(&node).into_owned());
    let node = NodeKey::from_openssh(&node).map_err(InitError::Key)?;
    if certified.key != node.public() {
        return Err(InitError::OtherNode(keys.statement()));
    }
    files::write(&keys.certificate(), certificate.to_text().as_bytes(), 0o644)?;
    Ok(())
}

fn write_secret(path: &Utf8PathBuf, text: &SecretString) -> Result<(), FileError> {
    files::write(path, text.expose_secret().as_bytes(), 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let guard = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
        (guard, Layout::rooted(root))
    }

    fn request() -> InitRequest {
        InitRequest {
            name: "host-1".to_owned(),
            root_key: None,
            recipients: Vec::new(),
            store: StoreSettings::default(),
            allow_missing_controllers: false,
        }
    }

    fn now() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_node_without_given_keys_makes_them_and_says_so() {
        let (_guard, layout) = layout();
        let report = init(&layout, &request(), now()).unwrap();
        assert!(report.root_key.is_some() && report.identity.is_some());
        let keys = KeyFiles::new(&layout);
        assert_eq!(keys.operators().len(), 2);
        let signer = keys.signer().unwrap();
        let root: PublicKey = report.settings.keys.root.parse().unwrap();
        assert!(Trust::root(root).certified(&signer.certificate).is_ok());
        assert!(matches!(
            init(&layout, &request(), now()),
            Err(InitError::Done(_))
        ));
    }

    #[test]
    fn a_node_with_given_keys_waits_for_its_certificate() {
        let (_guard, layout) = layout();
        let root = RootKey::generate().unwrap();
        let request = InitRequest {
            root_key: Some(GivenRootKey::Public(root.public().to_string())),
            recipients: vec![Identity::generate().recipient().to_string()],
            ..request()
        };
        let report = init(&layout, &request, now()).unwrap();
        let keys = KeyFiles::new(&layout);
        assert!(keys.operators().is_empty());
        assert!(matches!(
            keys.signer(),
            Err(NodeKeyError::NotCertified { .. })
        ));

        let epoch = 1;
        let foreign = RootKey::generate().unwrap();
        let bad = foreign.certify(&report.node_key, epoch).unwrap();
        assert!(install_certificate(&layout, &report.settings, &bad.to_text()).is_err());
        let other = NodeKey::generate().unwrap().public();
        let bad = root.certify(&other, epoch).unwrap();
        assert!(install_certificate(&layout, &report.settings, &bad.to_text()).is_err());
        let good = root.certify(&report.node_key, epoch).unwrap();
        install_certificate(&layout, &report.settings, &good.to_text()).unwrap();
        assert!(keys.signer().is_ok());
    }

    #[test]
    fn a_root_key_that_is_lent_certifies_the_node_and_is_not_kept() {
        let (_guard, layout) = layout();
        let root = RootKey::generate().unwrap();
        let request = InitRequest {
            root_key: Some(GivenRootKey::Private(root.to_openssh().unwrap())),
            recipients: vec![Identity::generate().recipient().to_string()],
            ..request()
        };
        let report = init(&layout, &request, now()).unwrap();
        assert!(report.root_key.is_none() && report.unsigned.is_none());
        assert_eq!(report.settings.keys.root, root.public().to_string());
        let keys = KeyFiles::new(&layout);
        assert!(keys.operators().is_empty());
        let certificate = keys.signer().unwrap().certificate;
        assert!(Trust::root(root.public()).certified(&certificate).is_ok());
    }

    #[test]
    fn a_wrong_key_is_refused_before_anything_is_written() {
        let (_guard, layout) = layout();
        let request = InitRequest {
            recipients: vec!["age1nonsense".to_owned()],
            ..request()
        };
        assert!(matches!(
            init(&layout, &request, now()),
            Err(InitError::Recipient(_))
        ));
        assert!(!layout.keys_dir().exists());
    }

    #[test]
    fn a_store_that_could_not_be_used_is_refused_before_anything_is_written() {
        let (guard, layout) = layout();
        let credentials = Utf8PathBuf::from_path_buf(guard.path().join("s3")).unwrap();
        for (content, mode, why) in [
            ("id\n", 0o600, "does not hold two lines"),
            ("id\nsecret\n", 0o644, "others than its owner"),
        ] {
            files::write(&credentials, content.as_bytes(), mode).unwrap();
            let error = check_credentials(&credentials).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        files::write(&credentials, b"id\nsecret\n", 0o600).unwrap();
        check_credentials(&credentials).unwrap();
        let request = InitRequest {
            store: StoreSettings {
                url: "nonsense".to_owned(),
                ..StoreSettings::default()
            },
            ..request()
        };
        assert!(matches!(
            init(&layout, &request, now()),
            Err(InitError::Store(_))
        ));
        assert!(!layout.keys_dir().exists());
    }
}
