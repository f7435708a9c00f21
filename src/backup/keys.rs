//! The signing keys: the operator's root key, and the node's key of one epoch.
//! All are Ed25519 in OpenSSH's formats, so that `ssh-keygen` can make, use and check every one of them.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{Algorithm, HashAlg, LineEnding, SshSig};

use super::FORMAT_VERSION;
use super::id::random;

/// SSHSIG namespace of a signed commit.
pub const COMMIT_NAMESPACE: &str = "tenantd-commit@v1";
/// SSHSIG namespace of a node's heartbeat.
pub const HEARTBEAT_NAMESPACE: &str = "tenantd-heartbeat@v1";
/// SSHSIG namespace of a node's certificate.
pub const NODE_NAMESPACE: &str = "tenantd-node@v1";

/// Why a key, certificate or signature was not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No OpenSSH public key line of type `ssh-ed25519`.
    #[error("this is not an `ssh-ed25519 AAAA…` public key; `ssh-keygen -t ed25519` makes one")]
    PublicKey(#[source] Option<ssh_key::Error>),
    /// No unencrypted OpenSSH private key of type Ed25519.
    #[error(
        "this is not an Ed25519 private key in OpenSSH format without a passphrase; \
         `ssh-keygen -t ed25519 -N ''` makes one, `ssh-keygen -p -N ''` removes a passphrase"
    )]
    PrivateKey(#[source] Option<ssh_key::Error>),
    /// The kernel's random number generator failed.
    #[error("the kernel gave no random bytes for a new key")]
    Random(#[source] getrandom::Error),
    /// Signing or writing a key in OpenSSH's format failed.
    #[error("the key could not be encoded or used to sign")]
    Encode(#[source] ssh_key::Error),
    /// The text between the armour lines is not an SSHSIG.
    #[error("this is not an SSH signature as `ssh-keygen -Y sign` writes it")]
    Signature(#[source] ssh_key::Error),
    /// The signature is well formed but does not fit.
    #[error("the signature by {key} is not valid for namespace {namespace}")]
    Mismatch {
        /// The key that should have signed.
        key: Box<PublicKey>,
        /// The namespace that was asked for.
        namespace: &'static str,
        /// What the check found.
        #[source]
        source: ssh_key::Error,
    },
    /// The certificate's line is not a statement of this version.
    #[error("the node certificate is not a `tenantd-node` statement of version {FORMAT_VERSION}")]
    Statement(#[source] Option<serde_json::Error>),
    /// No trusted root key signed the certificate.
    #[error(
        "the certificate of node {node}, epoch {epoch}, is not signed by a trusted root key; \
         check `root-key`, or that this repository is yours"
    )]
    Untrusted {
        /// The fingerprint of the key that the certificate names.
        node: String,
        /// The epoch that the certificate names.
        epoch: u32,
    },
}

/// An Ed25519 public key; text form `ssh-ed25519 AAAA…` without a comment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(ssh_key::PublicKey);

impl PublicKey {
    /// Checks an armoured SSHSIG of `message`.
    ///
    /// # Errors
    /// The armour is broken, or this key did not sign this message in this namespace.
    pub fn verify(
        &self,
        namespace: &'static str,
        message: &[u8],
        armour: &str,
    ) -> Result<(), KeyError> {
        let signature = SshSig::from_pem(armour).map_err(KeyError::Signature)?;
        // One signature has one text: whoever cannot sign must not be able to make a second
        // object that says the same.
        let canonical = signature
            .to_pem(LineEnding::LF)
            .map_err(KeyError::Signature)?;
        if canonical.trim_end() != armour.trim_end() || !signature.reserved().is_empty() {
            return Err(KeyError::Signature(ssh_key::Error::FormatEncoding));
        }
        self.0
            .verify(namespace, message, &signature)
            .map_err(|source| KeyError::Mismatch {
                key: Box::new(self.clone()),
                namespace,
                source,
            })
    }
}

impl PublicKey {
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }
}

impl std::str::FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut key = ssh_key::PublicKey::from_openssh(text.trim())
            .map_err(|error| KeyError::PublicKey(Some(error)))?;
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(KeyError::PublicKey(None));
        }
        key.set_comment("");
        Ok(Self(key))
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An Ed25519 key without a comment always has a text form.
        f.write_str(self.0.to_openssh().unwrap_or_default().trim_end())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An Ed25519 private key; never printed.
#[derive(Clone)]
struct PrivateKey(ssh_key::PrivateKey);

impl PrivateKey {
    fn generate(comment: &str) -> Result<Self, KeyError> {
        let seed = random().map_err(KeyError::Random)?;
        Self::from_seed(&seed, comment)
    }

    fn from_seed(seed: &[u8; 32], comment: &str) -> Result<Self, KeyError> {
        let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(seed));
        let key = ssh_key::PrivateKey::new(pair, comment).map_err(KeyError::Encode)?;
        Ok(Self(key))
    }

    fn from_openssh(text: &SecretString) -> Result<Self, KeyError> {
        let key = ssh_key::PrivateKey::from_openssh(text.expose_secret())
            .map_err(|error| KeyError::PrivateKey(Some(error)))?;
        if key.is_encrypted() || key.algorithm() != Algorithm::Ed25519 {
            return Err(KeyError::PrivateKey(None));
        }
        Ok(Self(key))
    }

    fn to_openssh(&self) -> Result<SecretString, KeyError> {
        let text = self
            .0
            .to_openssh(LineEnding::LF)
            .map_err(KeyError::Encode)?;
        Ok(SecretString::from(text.as_str()))
    }

    fn public(&self) -> PublicKey {
        let mut key = self.0.public_key().clone();
        key.set_comment("");
        PublicKey(key)
    }

    fn sign(&self, namespace: &str, message: &[u8]) -> Result<String, KeyError> {
        let signature = self
            .0
            .sign(namespace, HashAlg::Sha512, message)
            .map_err(KeyError::Encode)?;
        let mut armour = signature.to_pem(LineEnding::LF).map_err(KeyError::Encode)?;
        if !armour.ends_with('\n') {
            armour.push('\n');
        }
        Ok(armour)
    }
}

macro_rules! private_key {
    ($(#[$doc:meta])* $name:ident, $comment:literal) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(PrivateKey);

        impl $name {
            /// A new key from the kernel's random numbers.
            ///
            /// # Errors
            /// The kernel gave none.
            pub fn generate() -> Result<Self, KeyError> {
                PrivateKey::generate($comment).map(Self)
            }

            /// The key with this Ed25519 seed (RFC 8032), for tests and golden vectors.
            ///
            /// # Errors
            /// Never in practice; the encoder's.
            pub fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
                PrivateKey::from_seed(seed, $comment).map(Self)
            }

            /// Reads an unencrypted OpenSSH private key.
            ///
            /// # Errors
            /// It is another type of key, or has a passphrase.
            pub fn from_openssh(text: &SecretString) -> Result<Self, KeyError> {
                PrivateKey::from_openssh(text).map(Self)
            }

            /// The key as `ssh-keygen` writes and reads it.
            ///
            /// # Errors
            /// The encoder's.
            pub fn to_openssh(&self) -> Result<SecretString, KeyError> {
                self.0.to_openssh()
            }

            /// The public half.
            pub fn public(&self) -> PublicKey {
                self.0.public()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.public())
            }
        }
    };
}

private_key!(
    /// The operator's key, which certifies node keys; kept away from hosts.
    RootKey,
    "tenantd root"
);
private_key!(
    /// The node's key of one epoch, which signs commits.
    NodeKey,
    "tenantd node"
);

impl RootKey {
    /// Signs a node's statement line.
    ///
    /// # Errors
    /// The encoder's.
    pub(super) fn sign_statement(&self, line: &[u8]) -> Result<String, KeyError> {
        self.0.sign(NODE_NAMESPACE, line)
    }
}

impl NodeKey {
    /// Signs a line that this node says, for one purpose only.
    ///
    /// # Errors
    /// The encoder's.
    pub fn sign(&self, namespace: &'static str, line: &[u8]) -> Result<String, KeyError> {
        self.0.sign(namespace, line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_keys_survive_openssh_and_do_not_print() {
        let key = NodeKey::from_seed(&[2; 32]).unwrap();
        let text = key.to_openssh().unwrap();
        assert!(
            text.expose_secret()
                .starts_with("-----BEGIN OPENSSH PRIVATE KEY-----")
        );
        assert_eq!(NodeKey::from_openssh(&text).unwrap().public(), key.public());
        assert_eq!(format!("{key:?}"), format!("NodeKey({})", key.public()));
    }

    #[test]
    fn a_signature_of_another_namespace_is_refused() {
        let node = NodeKey::from_seed(&[2; 32]).unwrap();
        let armour = node.sign(COMMIT_NAMESPACE, b"x\n").unwrap();
        assert!(
            node.public()
                .verify(COMMIT_NAMESPACE, b"x\n", &armour)
                .is_ok()
        );
        assert!(
            node.public()
                .verify(COMMIT_NAMESPACE, b"y\n", &armour)
                .is_err()
        );
        assert!(
            node.public()
                .verify(NODE_NAMESPACE, b"x\n", &armour)
                .is_err()
        );
    }
}
