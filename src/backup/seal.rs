//! The age layer: what is sealed for a repository, and its keys wrapped for people.
//! Nothing here says who wrote a file; that is what signed commits are for.

use std::fmt;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;

use age::x25519;
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::FORMAT_VERSION;
use super::id::{ChunkId, Digest, RepositoryId, random};
use super::ranges::Span;

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

/// Decrypts parts of an age file of which only `pieces` are at hand, by their offsets in it: for each of `spans`, its
/// plain offset and bytes.
///
/// Each chunk of the payload proves itself. That the file ends where it should is not seen; nobody who knows from
/// elsewhere what is at which place needs it.
///
/// # Errors
/// A piece is damaged or missing, or the file is for somebody else.
pub fn open_spans(
    identity: &Identity,
    pieces: &[(u64, Bytes)],
    spans: &[Span],
) -> Result<Vec<(u64, Vec<u8>)>, SealError> {
    let decryptor = age::Decryptor::new(Pieces::new(pieces))
        .map_err(|error| SealError::Decrypt(Box::new(error)))?;
    let mut reader = decryptor
        .decrypt(std::iter::once(&identity.0 as &dyn age::Identity))
        .map_err(|error| SealError::Decrypt(Box::new(error)))?;
    let mut read = |span: &Span| {
        let Range { start, end } = span.plain;
        // A seek to a chunk's first byte has age look at the last chunk of all; one into the chunk does not.
        reader.seek(SeekFrom::Start(start + 1))?;
        reader.seek(SeekFrom::Start(start))?;
        let length = usize::try_from(end - start).map_err(io::Error::other)?;
        let mut plain = vec![0; length];
        reader.read_exact(&mut plain)?;
        Ok((start, plain))
    };
    let spans: io::Result<_> = spans.iter().map(&mut read).collect();
    spans.map_err(SealError::Payload)
}

/// A file of which only some pieces are at hand, in order; reading another part of it fails.
struct Pieces<'a> {
    pieces: &'a [(u64, Bytes)],
    position: u64,
}

impl<'a> Pieces<'a> {
    fn new(pieces: &'a [(u64, Bytes)]) -> Self {
        Self {
            pieces,
            position: 0,
        }
    }
}

impl io::Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.pieces.iter().find_map(|(offset, bytes)| {
            let skip = usize::try_from(self.position.checked_sub(*offset)?).ok()?;
            bytes.get(skip..).filter(|rest| !rest.is_empty())
        });
        // Where the last piece ends the file may end.
        let rest = rest.unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl io::Seek for Pieces<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(position) => position,
            SeekFrom::Current(by) => self
                .position
                .checked_add_signed(by)
                .ok_or(io::ErrorKind::InvalidInput)?,
            SeekFrom::End(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(self.position)
    }
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
    fn parts_of_an_age_file_are_read_from_pieces_of_it() {
        const CHUNK: u64 = 64 << 10;
        let identity = Identity::generate();
        for length in [1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK, 5 * CHUNK + 1] {
            let plain: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[1]).collect();
            let sealed = seal(std::iter::once(&identity.recipient()), &plain).unwrap();
            let header =
                u64::try_from(sealed.len()).unwrap() - length - 16 * length.div_ceil(CHUNK);
            assert!(header < 4096, "{header}");
            let whole = Bytes::from(sealed);
            for chunk in 0..length.div_ceil(CHUNK) {
                let start = usize::try_from(header + chunk * (CHUNK + 16)).unwrap();
                let end = whole.len().min(start + 65_552);
                let pieces = [
                    (0, whole.slice(..usize::try_from(header).unwrap())),
                    (start as u64, whole.slice(start..end)),
                ];
                let span = Span {
                    plain: chunk * CHUNK..length.min((chunk + 1) * CHUNK),
                    sealed: 0..0,
                };
                let wanted = usize::try_from(span.plain.start).unwrap()
                    ..usize::try_from(span.plain.end).unwrap();
                let spans = std::slice::from_ref(&span);
                let found = open_spans(&identity, &pieces, spans).unwrap();
                assert_eq!(found, [(span.plain.start, plain[wanted].to_vec())]);

                let mut flipped = pieces[1].1.to_vec();
                flipped[7] ^= 1;
                let damaged = [pieces[0].clone(), (start as u64, flipped.into())];
                assert!(open_spans(&identity, &damaged, spans).is_err());
                assert!(open_spans(&identity, &pieces[..1], spans).is_err());
                let moved = [pieces[0].clone(), (start as u64 + 1, pieces[1].1.clone())];
                assert!(open_spans(&identity, &moved, spans).is_err());
            }
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
