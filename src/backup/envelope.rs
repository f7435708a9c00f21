//! The form of what a node says in clear: one line of JSON, its signature, the node's certificate, the root key's.
//! It checks who speaks; what the line means is `commit`'s and `heartbeat`'s.

use super::certificate::{MAX_STATEMENT, NodeCertificate, NodeStatement, Trust};
use super::keys::{KeyError, NodeKey};

const SIGNATURE_START: &str = "-----BEGIN SSH SIGNATURE-----\n";
const SIGNATURE_END: &str = "-----END SSH SIGNATURE-----\n";

/// What signatures and certificate add to the longest payload, in bytes, at most.
pub const ENVELOPE: u64 = 16 << 10;

/// Who signs: the node's key and the root's word for it.
#[derive(Debug, Clone)]
pub struct Signer {
    /// The node's key.
    pub key: NodeKey,
    /// Its certificate.
    pub certificate: NodeCertificate,
}

/// Why bytes are not what a trusted node said.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// The text is not payload, signature, certificate, signature.
    #[error("it is damaged: {0}")]
    Shape(&'static str),
    /// The payload would be too long.
    #[error("it would have {0} bytes, more than it may have")]
    TooLong(usize),
    /// A signature or certificate does not hold.
    #[error("its signature does not hold")]
    Key(#[source] KeyError),
}

/// What a trusted node said.
pub struct Opened<'a> {
    /// The line, with its LF.
    pub payload: &'a str,
    /// What the root key says of who signed it.
    pub statement: NodeStatement,
}

/// Signs one line of JSON, given without its LF.
///
/// # Errors
/// It is longer than `limit` bytes, or cannot be signed.
pub fn seal(
    mut line: String,
    signer: &Signer,
    namespace: &'static str,
    limit: usize,
) -> Result<Vec<u8>, EnvelopeError> {
    line.push('\n');
    if line.len() > limit {
        return Err(EnvelopeError::TooLong(line.len()));
    }
    let signature = signer.key.sign(namespace, line.as_bytes());
    line.push_str(&signature.map_err(EnvelopeError::Key)?);
    line.push_str(&signer.certificate.to_text());
    Ok(line.into_bytes())
}

/// Takes the four pieces apart, nothing before, between or after them, and checks both signatures.
///
/// # Errors
/// The first thing that does not hold.
pub fn open<'a>(
    bytes: &'a [u8],
    trust: &Trust,
    namespace: &'static str,
    limit: usize,
) -> Result<Opened<'a>, EnvelopeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| EnvelopeError::Shape("not UTF-8"))?;
    let (payload, rest) = split_line(text, limit)?;
    let (signature, rest) = split_signature(rest)?;
    let (_, root_signature) = split_line(rest, MAX_STATEMENT)?;
    let (_, nothing) = split_signature(root_signature)?;
    if !nothing.is_empty() {
        return Err(EnvelopeError::Shape("something follows its last signature"));
    }
    let certificate = NodeCertificate::from_text(rest).map_err(EnvelopeError::Key)?;
    let statement = trust.certified(&certificate).map_err(EnvelopeError::Key)?;
    statement
        .key
        .verify(namespace, payload.as_bytes(), signature)
        .map_err(EnvelopeError::Key)?;
    Ok(Opened {
        payload,
        statement: statement.clone(),
    })
}

fn split_line(text: &str, limit: usize) -> Result<(&str, &str), EnvelopeError> {
    match text.find('\n') {
        Some(end) if end < limit => Ok(text.split_at(end + 1)),
        _ => Err(EnvelopeError::Shape("a line is missing or too long")),
    }
}

fn split_signature(text: &str) -> Result<(&str, &str), EnvelopeError> {
    let end = text
        .starts_with(SIGNATURE_START)
        .then(|| text.find(SIGNATURE_END))
        .flatten()
        .ok_or(EnvelopeError::Shape("a signature is missing"))?;
    Ok(text.split_at(end + SIGNATURE_END.len()))
}
