//! The age layer: what is sealed for a repository, and its keys wrapped for people.
//! Nothing here says who wrote a file; that is what signed commits are for.

use std::fmt;
use std::io::{Read as _, Write as _};

use age::x25519;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::FORMAT_VERSION;
use super::id::{ChunkId, Digest, RepositoryId, random};

/// Longest key object, in bytes.
pub const MAX_KEYS: u64 = 64 * 1024;

/// Why something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Not an `age1…` recipient.
    #[error("{0:?} is not an age recipient (`age1…`, as `age-keygen -y` prints it)")]
    Recipient(String),
    /// Not an `AGE-SECRET-KEY-1…` identity.
    #[error("this is not an age identity (`AGE-SECRET-KEY-1…`, as `age-keygen` writes it)")]
    Identity,
    /// No recipient was given, so nobody could ever read it.
    #[error("a repository needs at least one recipient (`age1…`) that can read it")]
    NoRecipient,
    /// The age library refused to encrypt.
    #[error("age could not encrypt")]
    Encrypt(#[source] Box<age::EncryptError>),
    /// Writing or reading the payload failed (a damaged file ends here, too).
    #[error("the age file is damaged, cut short, or longer than its place allows")]
    Payload(#[source] std::io::Error),
    /// Not an age file, or for somebody else.
    #[error("the age file cannot be opened with the identity given")]
    Decrypt(#[source] Box<age::DecryptError>),
    /// The plain bytes exceed what the format allows here.
    #[error("the decrypted content is longer than {0} bytes")]
    TooLong(u64),
    /// The wrapped keys are not what the format says, or another repository's.
    #[error("the wrapped keys are not those of repository {0}")]
    Keys(RepositoryId),
    /// The kernel's random number generator failed.
    #[error("the kernel gave no random bytes")]
    Random(#[source] getrandom::Error),
}

/// Who can open a file: an age X25519 recipient.
///
/// The repository's own never goes to the bucket in clear: not knowing it is a second
/// line against forged files.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Recipient(x25519::Recipient);

impl Recipient {
    /// The digest by which signed commits name a repository's recipient.
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.to_string().as_bytes())
    }
}

impl std::str::FromStr for Recipient {
    type Err = SealError;

    fn from_str(text: &str) -> Result<Self, SealError> {
        text.trim()
            .parse()
            .map(Self)
            .map_err(|_| SealError::Recipient(text.to_owned()))
    }
}

impl TryFrom<String> for Recipient {
    type Error = SealError;

    fn try_from(text: String) -> Result<Self, SealError> {
        text.parse()
    }
}

impl From<Recipient> for String {
    fn from(recipient: Recipient) -> Self {
        recipient.0.to_string()
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.0)
    }
}

/// An age X25519 identity; never printed.
#[derive(Clone)]
pub struct Identity(x25519::Identity);

impl Identity {
    /// A new one.
    pub fn generate() -> Self {
        Self(x25519::Identity::generate())
    }

    /// Reads a bare key or an identity file as `age-keygen` writes it (the first key in it).
    ///
    /// # Errors
    /// There is no X25519 identity in it.
    pub fn from_text(text: &SecretString) -> Result<Self, SealError> {
        text.expose_secret()
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with('#'))
            .and_then(|line| line.parse().ok())
            .map(Self)
            .ok_or(SealError::Identity)
    }

    /// `AGE-SECRET-KEY-1…`.
    pub fn to_text(&self) -> SecretString {
        SecretString::from(self.0.to_string().expose_secret())
    }

    /// The recipient that this identity opens.
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.to_public())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

/// The key of chunk ids; never printed.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChunkIdKey(ChunkId);

impl ChunkIdKey {
    /// A new one.
    ///
    /// # Errors
    /// The kernel gave no random bytes.
    pub fn generate() -> Result<Self, SealError> {
        random()
            .map(|bytes| Self(ChunkId(bytes)))
            .map_err(SealError::Random)
    }

    /// A fixed one, for tests and golden vectors.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(ChunkId(bytes))
    }

    /// The id of a chunk with these bytes.
    pub fn id(&self, bytes: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.0.0, bytes).as_bytes())
    }
}

impl fmt::Debug for ChunkIdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChunkIdKey(…)")
    }
}

/// Encrypts `plain` for all `recipients`.
///
/// # Errors
/// There is no recipient, or age refuses.
pub fn seal<'a>(
    recipients: impl Iterator<Item = &'a Recipient>,
    plain: &[u8],
) -> Result<Vec<u8>, SealError> {
    seal_into(Vec::new(), recipients, plain)
}

/// As [`seal`], with the memory of `sealed`, whose content is lost.
///
/// # Errors
/// As [`seal`].
pub fn seal_into<'a>(
    mut sealed: Vec<u8>,
    recipients: impl Iterator<Item = &'a Recipient>,
    plain: &[u8],
) -> Result<Vec<u8>, SealError> {
    let recipients: Vec<&dyn age::Recipient> = recipients
        .map(|recipient| &recipient.0 as &dyn age::Recipient)
        .collect();
    if recipients.is_empty() {
        return Err(SealError::NoRecipient);
    }
    let encryptor = age::Encryptor::with_recipients(recipients.into_iter())
        .map_err(|error| SealError::Encrypt(Box::new(error)))?;
    sealed.clear();
    sealed.reserve_exact(plain.len() + plain.len() / 2048 + 1024);
    let mut writer = encryptor
        .wrap_output(&mut sealed)
        .map_err(SealError::Payload)?;
    writer.write_all(plain).map_err(SealError::Payload)?;
    writer.finish().map_err(SealError::Payload)?;
    Ok(sealed)
}

/// Decrypts `sealed`, giving at most `limit` bytes.
///
/// # Errors
/// It is damaged, for somebody else, or longer.
pub fn open(identity: &Identity, sealed: &[u8], limit: u64) -> Result<Vec<u8>, SealError> {
    let decryptor =
        age::Decryptor::new(sealed).map_err(|error| SealError::Decrypt(Box::new(error)))?;
    let reader = decryptor
        .decrypt(std::iter::once(&identity.0 as &dyn age::Identity))
        .map_err(|error| SealError::Decrypt(Box::new(error)))?;
    let mut plain = Vec::with_capacity(sealed.len());
    reader
        .take(limit + 1)
        .read_to_end(&mut plain)
        .map_err(SealError::Payload)?;
    if plain.len() as u64 > limit {
        return Err(SealError::TooLong(limit));
    }
    Ok(plain)
}

/// All secrets of one repository.
#[derive(Debug, Clone)]
pub struct RepositoryKeys {
    /// Opens packs and trees.
    pub identity: Identity,
    /// Makes chunk ids.
    pub chunk_id_key: ChunkIdKey,
}

#[derive(Serialize, Deserialize)]
struct WrappedKeys {
    format: String,
    version: u32,
    repository: RepositoryId,
    identity: String,
    chunk_id_key: ChunkIdKey,
}

const KEYS_FORMAT: &str = "tenantd-keys";

impl RepositoryKeys {
    /// New keys.
    ///
    /// # Errors
    /// The kernel gave no random bytes.
    pub fn generate() -> Result<Self, SealError> {
        Ok(Self {
            identity: Identity::generate(),
            chunk_id_key: ChunkIdKey::generate()?,
        })
    }

    /// The key object for these recipients.
    ///
    /// # Errors
    /// As [`seal`].
    pub fn wrap(
        &self,
        repository: RepositoryId,
        recipients: &[Recipient],
    ) -> Result<Vec<u8>, SealError> {
        let keys = WrappedKeys {
            format: KEYS_FORMAT.to_owned(),
            version: FORMAT_VERSION,
            repository,
            identity: self.identity.to_text().expose_secret().to_owned(),
            chunk_id_key: self.chunk_id_key.clone(),
        };
        let mut line = serde_json::to_vec(&keys).map_err(|_| SealError::Keys(repository))?;
        line.push(b'\n');
        seal(recipients.iter(), &line)
    }

    /// Opens a key object.
    ///
    /// # Errors
    /// It is not for this identity, or not of this repository.
    pub fn unwrap(
        repository: RepositoryId,
        identity: &Identity,
        sealed: &[u8],
    ) -> Result<Self, SealError> {
        let plain = open(identity, sealed, MAX_KEYS)?;
        let keys: WrappedKeys =
            serde_json::from_slice(&plain).map_err(|_| SealError::Keys(repository))?;
        let fits = keys.format == KEYS_FORMAT && keys.version == FORMAT_VERSION;
        if !fits || keys.repository != repository {
            return Err(SealError::Keys(repository));
        }
        let identity = Identity::from_text(&SecretString::from(keys.identity))?;
        Ok(Self {
            identity,
            chunk_id_key: keys.chunk_id_key,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_recipients_identity_opens() {
        let identity = Identity::generate();
        let sealed = seal(std::iter::once(&identity.recipient()), b"secret").unwrap();
        assert_eq!(open(&identity, &sealed, 6).unwrap(), b"secret");
        assert!(matches!(
            open(&identity, &sealed, 5),
            Err(SealError::TooLong(5))
        ));
        assert!(matches!(
            open(&Identity::generate(), &sealed, 6),
            Err(SealError::Decrypt(_))
        ));
    }

    #[test]
    fn nothing_may_follow_or_precede_an_age_file() {
        let identity = Identity::generate();
        let sealed = seal(std::iter::once(&identity.recipient()), b"secret").unwrap();
        let after = [sealed.as_slice(), b"x"].concat();
        let twice = [sealed.as_slice(), &sealed].concat();
        let before = [b"x", sealed.as_slice()].concat();
        for bytes in [
            &after,
            &twice,
            &before,
            &sealed[..sealed.len() - 1].to_vec(),
        ] {
            assert!(open(&identity, bytes, 1 << 20).is_err());
        }
    }

    #[test]
    fn keys_are_wrapped_for_operator_and_escrow() {
        let (operator, escrow) = (Identity::generate(), Identity::generate());
        let keys = RepositoryKeys::generate().unwrap();
        let id = RepositoryId([7; 16]);
        let wrapped = keys
            .wrap(id, &[operator.recipient(), escrow.recipient()])
            .unwrap();
        for person in [&operator, &escrow] {
            let opened = RepositoryKeys::unwrap(id, person, &wrapped).unwrap();
            assert_eq!(
                opened.identity.recipient().digest(),
                keys.identity.recipient().digest()
            );
            assert_eq!(opened.chunk_id_key.id(b"x"), keys.chunk_id_key.id(b"x"));
        }
        let other = RepositoryKeys::unwrap(RepositoryId([8; 16]), &operator, &wrapped);
        assert!(matches!(other, Err(SealError::Keys(_))));
        assert!(keys.wrap(id, &[]).is_err());
    }

    #[test]
    fn secrets_do_not_print() {
        let keys = RepositoryKeys::generate().unwrap();
        assert_eq!(
            format!("{keys:?}"),
            "RepositoryKeys { identity: Identity(…), chunk_id_key: ChunkIdKey(…) }"
        );
    }
}
