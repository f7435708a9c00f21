//! Commits: the small clear statements that make a snapshot exist, and the checks that make one believed.
//! It knows signatures and chains, and needs no identity.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::certificate::{MAX_STATEMENT, NodeCertificate, Trust};
use super::id::{Digest, RepositoryId};
use super::keys::{KeyError, NodeKey, PublicKey};
use super::names::CommitName;

const FORMAT: &str = "tenantd-commit";
/// Longest payload line, in bytes.
const MAX_PAYLOAD: usize = 256 << 10;
/// Longest commit object, in bytes.
pub const MAX_COMMIT: u64 = MAX_PAYLOAD as u64 + (16 << 10);

const SIGNATURE_START: &str = "-----BEGIN SSH SIGNATURE-----\n";
const SIGNATURE_END: &str = "-----END SSH SIGNATURE-----\n";

/// An object that a commit names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Digest of its bytes.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// What a commit says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    format: String,
    version: u32,
    /// The repository.
    pub repository: RepositoryId,
    /// The writer's epoch.
    pub epoch: u32,
    /// The place in the chain, from 1.
    pub sequence: u32,
    /// Digest of the previous commit object.
    pub previous: Option<Digest>,
    /// The moment the data is of.
    pub time: Timestamp,
    /// Digest of the repository's recipient.
    pub recipient: Digest,
    /// The parts of the tree, in order.
    pub tree: Vec<ObjectRef>,
    /// Packs that the tree names and that are in no list.
    pub packs: Vec<ObjectRef>,
    /// Lists of more packs.
    pub lists: Vec<ObjectRef>,
}

/// What is different from one commit to the next.
#[derive(Debug, Clone)]
pub struct CommitDraft {
    /// The repository.
    pub repository: RepositoryId,
    /// Digest of its recipient.
    pub recipient: Digest,
    /// The commit before, if there is one.
    pub previous: Option<CommitName>,
    /// The moment the data is of.
    pub time: Timestamp,
    /// The parts of the tree.
    pub tree: Vec<ObjectRef>,
    /// Packs named here.
    pub packs: Vec<ObjectRef>,
    /// Lists of packs.
    pub lists: Vec<ObjectRef>,
}

/// Why a commit was not made or not accepted.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The text is not payload, signature, certificate, signature.
    #[error("the commit is damaged: {0}")]
    Shape(&'static str),
    /// The payload is not what version 1 says.
    #[error("the commit's payload is not a `tenantd-commit` of version 1")]
    Payload(#[source] Option<serde_json::Error>),
    /// The payload would be too long.
    #[error("the commit would have {0} bytes, more than a commit may have")]
    TooLong(usize),
    /// The bytes are not those that the name promises.
    #[error("commit {0} has other content than its name says: it was overwritten or damaged")]
    Name(CommitName),
    /// It belongs to another repository.
    #[error("commit {name} belongs to repository {found}, not to {expected}")]
    Foreign {
        /// The commit.
        name: CommitName,
        /// What it says.
        found: RepositoryId,
        /// What was expected.
        expected: RepositoryId,
    },
    /// The node's certificate is of another epoch.
    #[error("commit {name} says epoch {}, but its node is certified for {certified}", name.epoch)]
    Epoch {
        /// The commit.
        name: CommitName,
        /// The certificate's epoch.
        certified: u32,
    },
    /// The writer's epoch is older than the chain's.
    #[error(
        "this node is certified for epoch {ours}, but the repository was last written in epoch \
         {chain}: another node has taken over; certify this one for a higher epoch to write again"
    )]
    Superseded {
        /// This node's epoch.
        ours: u32,
        /// The chain's epoch.
        chain: u32,
    },
    /// A signature or certificate does not hold.
    #[error("the commit's signature does not hold")]
    Key(#[source] KeyError),
}

/// Who signs: the node's key and the root's word for it.
#[derive(Debug, Clone)]
pub struct Signer {
    /// The node's key.
    pub key: NodeKey,
    /// Its certificate.
    pub certificate: NodeCertificate,
}

/// A commit object and what it says; made here or accepted by [`SignedCommit::verify`].
#[derive(Debug, Clone)]
pub struct SignedCommit {
    /// Its name.
    pub name: CommitName,
    /// What it says.
    pub commit: Commit,
    /// The node's public key.
    pub node: PublicKey,
    /// The host's name in the certificate.
    pub host: String,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
}

impl SignedCommit {
    /// Signs a draft as the successor of its previous commit.
    ///
    /// # Errors
    /// It is too long, or the node's epoch is behind the chain's.
    pub fn sign(draft: CommitDraft, signer: &Signer) -> Result<Self, CommitError> {
        let statement = signer.certificate.statement();
        let epoch = statement.epoch;
        if let Some(previous) = draft.previous.filter(|previous| previous.epoch > epoch) {
            return Err(CommitError::Superseded {
                ours: epoch,
                chain: previous.epoch,
            });
        }
        let commit = Commit {
            format: FORMAT.to_owned(),
            version: 1,
            repository: draft.repository,
            epoch,
            sequence: draft.previous.map_or(0, |previous| previous.sequence) + 1,
            previous: draft.previous.map(|previous| previous.digest),
            time: draft.time,
            recipient: draft.recipient,
            tree: draft.tree,
            packs: draft.packs,
            lists: draft.lists,
        };
        let mut text =
            serde_json::to_string(&commit).map_err(|error| CommitError::Payload(Some(error)))?;
        text.push('\n');
        if text.len() > MAX_PAYLOAD {
            return Err(CommitError::TooLong(text.len()));
        }
        let signature = signer
            .key
            .sign_commit(text.as_bytes())
            .map_err(CommitError::Key)?;
        text.push_str(&signature);
        text.push_str(&signer.certificate.to_text());
        let bytes = text.into_bytes();
        let digest = Digest::of(&bytes);
        Ok(Self {
            name: CommitName {
                epoch,
                sequence: commit.sequence,
                digest,
            },
            node: statement.key.clone(),
            host: statement.host.clone(),
            commit,
            bytes,
        })
    }

    /// Reads a commit object and accepts it only if all of it holds.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn verify(
        name: CommitName,
        bytes: Vec<u8>,
        repository: RepositoryId,
        trust: &Trust,
    ) -> Result<Self, CommitError> {
        Self::checked(name, bytes, Some(repository), trust)
    }

    /// As [`Self::verify`], for whoever cannot know which repository is the right one: the
    /// object that says so in clear is not signed.
    ///
    /// # Errors
    /// As [`Self::verify`], but never [`CommitError::Foreign`].
    pub fn verify_of_any(
        name: CommitName,
        bytes: Vec<u8>,
        trust: &Trust,
    ) -> Result<Self, CommitError> {
        Self::checked(name, bytes, None, trust)
    }

    fn checked(
        name: CommitName,
        bytes: Vec<u8>,
        repository: Option<RepositoryId>,
        trust: &Trust,
    ) -> Result<Self, CommitError> {
        if Digest::of(&bytes) != name.digest {
            return Err(CommitError::Name(name));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| CommitError::Shape("not UTF-8"))?;
        let (payload, rest) = split_line(text, MAX_PAYLOAD)?;
        let (signature, rest) = split_signature(rest)?;
        let (_, root_signature) = split_line(rest, MAX_STATEMENT)?;
        let (_, nothing) = split_signature(root_signature)?;
        if !nothing.is_empty() {
            return Err(CommitError::Shape("something follows its last signature"));
        }
        let certificate = NodeCertificate::from_text(rest).map_err(CommitError::Key)?;
        let statement = trust.certified(&certificate).map_err(CommitError::Key)?;
        statement
            .key
            .verify(super::keys::COMMIT_NAMESPACE, payload.as_bytes(), signature)
            .map_err(CommitError::Key)?;

        let commit: Commit =
            serde_json::from_str(payload).map_err(|error| CommitError::Payload(Some(error)))?;
        if commit.format != FORMAT || commit.version != 1 {
            return Err(CommitError::Payload(None));
        }
        if let Some(expected) = repository
            && commit.repository != expected
        {
            let found = commit.repository;
            return Err(CommitError::Foreign {
                name,
                found,
                expected,
            });
        }
        if (commit.epoch, commit.sequence) != (name.epoch, name.sequence) || commit.sequence == 0 {
            return Err(CommitError::Shape(
                "its name says another epoch or sequence",
            ));
        }
        if statement.epoch != commit.epoch {
            return Err(CommitError::Epoch {
                name,
                certified: statement.epoch,
            });
        }
        let (node, host) = (statement.key.clone(), statement.host.clone());
        Ok(Self {
            name,
            commit,
            node,
            host,
            bytes,
        })
    }
}

fn split_line(text: &str, limit: usize) -> Result<(&str, &str), CommitError> {
    match text.find('\n') {
        Some(end) if end < limit => Ok(text.split_at(end + 1)),
        _ => Err(CommitError::Shape("a line is missing or too long")),
    }
}

fn split_signature(text: &str) -> Result<(&str, &str), CommitError> {
    let end = text
        .starts_with(SIGNATURE_START)
        .then(|| text.find(SIGNATURE_END))
        .flatten()
        .ok_or(CommitError::Shape("a signature is missing"))?;
    Ok(text.split_at(end + SIGNATURE_END.len()))
}

impl Commit {
    /// What a commit object says, whoever signed it: good for leaving alone what it names, and
    /// for nothing else.
    pub(super) fn claimed(bytes: &[u8]) -> Option<Self> {
        let line = bytes.split(|byte| *byte == b'\n').next()?;
        let commit: Self = serde_json::from_slice(line).ok()?;
        (commit.format == FORMAT && commit.version == 1).then_some(commit)
    }

    /// Whether it says that it is a commit of a version that this program does not know.
    pub(super) fn is_of_another_version(bytes: &[u8]) -> bool {
        let line = bytes.split(|byte| *byte == b'\n').next();
        let line = line.and_then(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
        line.is_some_and(|line| line["format"] == FORMAT && line["version"] != 1)
    }
}

/// What the accepted commits of a repository add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The chain that a restore takes, newest first.
    pub line: Vec<CommitName>,
    /// Accepted commits that are not on it: another writer's, for example a node that was replaced.
    pub forks: Vec<CommitName>,
    /// Commits that the chain names and that are not there (retention may have removed them).
    pub missing: Vec<Digest>,
}

/// Two accepted commits claim the same place at the head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two snapshots claim to be the newest: {0} and {1}; name the one to take with --snapshot")]
pub struct Ambiguous(pub CommitName, pub CommitName);

/// Chooses the head (highest epoch, then sequence) and follows the chain from it.
///
/// # Errors
/// Two commits share the highest rank.
pub fn choose<'a>(
    commits: impl Iterator<Item = &'a SignedCommit>,
) -> Result<Option<Chain>, Ambiguous> {
    let by_digest: HashMap<Digest, &SignedCommit> =
        commits.map(|commit| (commit.name.digest, commit)).collect();
    let mut names: Vec<CommitName> = by_digest.values().map(|commit| commit.name).collect();
    names.sort_unstable();
    let Some(head) = names.last().copied() else {
        return Ok(None);
    };
    if let Some(second) = names.iter().rev().nth(1)
        && (second.epoch, second.sequence) == (head.epoch, head.sequence)
        // The same statement with another certificate of the same node is no contradiction.
        && by_digest[&second.digest].commit != by_digest[&head.digest].commit
    {
        return Err(Ambiguous(*second, head));
    }
    Ok(Some(follow(&by_digest, &names, head)))
}

fn follow(
    by_digest: &HashMap<Digest, &SignedCommit>,
    names: &[CommitName],
    head: CommitName,
) -> Chain {
    let mut line = Vec::new();
    let mut missing = Vec::new();
    let mut on_line = HashSet::new();
    let mut next = Some(head);
    while let Some(name) = next {
        line.push(name);
        on_line.insert(name.digest);
        next = None;
        let Some(previous) = by_digest[&name.digest].commit.previous else {
            continue;
        };
        match by_digest.get(&previous) {
            // A chain only goes down, so it ends.
            Some(found)
                if found.name.sequence + 1 == name.sequence && found.name.epoch <= name.epoch =>
            {
                next = Some(found.name);
            }
            _ => {
                missing.push(previous);
                // What retention left below the gap still counts as this chain when its
                // writer could not have forked: same or lower epoch, no rival of its rank.
                next = below(names, name);
            }
        }
    }
    let forks = names
        .iter()
        .filter(|name| !on_line.contains(&name.digest))
        .copied()
        .collect();
    Chain {
        line,
        forks,
        missing,
    }
}

/// The only commit of the highest sequence below `name`, not of a later epoch.
fn below(names: &[CommitName], name: CommitName) -> Option<CommitName> {
    let candidates = || {
        names
            .iter()
            .filter(|other| other.sequence + 1 < name.sequence && other.epoch <= name.epoch)
    };
    let sequence = candidates().map(|other| other.sequence).max()?;
    let mut best = candidates().filter(|other| other.sequence == sequence);
    let found = best.next().copied();
    found.filter(|_| best.next().is_none())
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
