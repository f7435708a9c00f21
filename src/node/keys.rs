//! The node's key files: its own signing key and certificate, and, where the operator has not
//! taken them away yet, the operator's.

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::{ExposeSecret, SecretString};

use crate::backup::{Identity, KeyError, NodeCertificate, NodeKey, SealError, Signer};
use crate::host::files::{self, FileError};
use crate::layout::Layout;

/// Longest key file that is read.
const LIMIT: u64 = 16 * 1024;

/// Where the keys are.
#[derive(Debug, Clone)]
pub struct KeyFiles {
    directory: Utf8PathBuf,
}

/// Why a key of the node cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NodeKeyError {
    /// A key file cannot be read or written.
    #[error("the node's keys cannot be read or written")]
    File(#[from] FileError),
    /// The node has no key.
    #[error("this node has no key; run `tenantd init`")]
    NoKey,
    /// The root key has not certified the node's key.
    #[error(
        "this node's key is not certified, so its backups would be trusted by nobody; sign \
         {statement} with the root key (`ssh-keygen -Y sign -f ROOT -n tenantd-node@v1 \
         {statement}`) and give the result to `tenantd init --certificate`"
    )]
    NotCertified {
        /// The file that is to be signed.
        statement: Utf8PathBuf,
    },
    /// A key file is broken.
    #[error("{path} is not the key it should be")]
    Key {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
    /// An identity file is broken.
    #[error("{path} is not an age identity")]
    Identity {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong with it.
        #[source]
        source: SealError,
    },
}

impl KeyFiles {
    /// The key files of a host.
    pub fn new(layout: &Layout) -> Self {
        Self {
            directory: layout.keys_dir(),
        }
    }

    /// The node's private key, in OpenSSH's format.
    pub fn node_key(&self) -> Utf8PathBuf {
        self.directory.join("node.key")
    }

    /// The statement about the node's key that the root key signs.
    pub fn statement(&self) -> Utf8PathBuf {
        self.directory.join("node.json")
    }

    /// The statement with the root key's signature.
    pub fn certificate(&self) -> Utf8PathBuf {
        self.directory.join("node.certificate")
    }

    /// The operator's root key, until it is taken away.
    pub fn root_key(&self) -> Utf8PathBuf {
        self.directory.join("root.key")
    }

    /// The operator's age identity, until it is taken away.
    pub fn identity(&self) -> Utf8PathBuf {
        self.directory.join("identity.txt")
    }

    /// The operator's keys that are on this host.
    pub fn operators(&self) -> Vec<Utf8PathBuf> {
        let all = [self.root_key(), self.identity()];
        all.into_iter().filter(|path| path.exists()).collect()
    }

    /// What signs this node's commits.
    pub fn signer(&self) -> Result<Signer, NodeKeyError> {
        let path = self.node_key();
        let key = self.read(&path)?.ok_or(NodeKeyError::NoKey)?;
        let broken = |path: &Utf8Path| {
            let path = path.to_owned();
            move |source| NodeKeyError::Key { path, source }
        };
        let key = NodeKey::from_openssh(&key).map_err(broken(&path))?;
        let path = self.certificate();
        let Some(certificate) = self.read(&path)? else {
            return Err(NodeKeyError::NotCertified {
                statement: self.statement(),
            });
        };
        let certificate =
            NodeCertificate::from_text(certificate.expose_secret()).map_err(broken(&path))?;
        Ok(Signer { key, certificate })
    }

    /// The operator's identity, if it is on this host.
    ///
    /// A systemd credential `tenantd.identity` comes first: a Butane file can bring it for the
    /// first boot, and it is gone afterwards.
    pub fn operator_identity(
        &self,
        credentials: Option<&Utf8Path>,
    ) -> Result<Option<Identity>, NodeKeyError> {
        let credential = credentials.map(|directory| directory.join("tenantd.identity"));
        for path in credential.into_iter().chain([self.identity()]) {
            if let Some(text) = self.read(&path)? {
                let identity = Identity::from_text(&text)
                    .map_err(|source| NodeKeyError::Identity { path, source })?;
                return Ok(Some(identity));
            }
        }
        Ok(None)
    }

    /// Leaves the operator's identity on this host.
    pub fn keep_identity(&self, identity: &SecretString) -> Result<(), FileError> {
        files::write(&self.identity(), identity.expose_secret().as_bytes(), 0o600)
    }

    #[expect(
        clippy::unused_self,
        reason = "all reading of key files is in one place"
    )]
    fn read(&self, path: &Utf8Path) -> Result<Option<SecretString>, NodeKeyError> {
        match files::read(path, LIMIT) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned().into())),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
