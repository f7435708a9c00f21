//! Commits: the small clear statements that make a snapshot exist, and the checks that make one believed.
//! It needs no identity; what several commits add up to is `chain`'s.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::FORMAT_VERSION;
use super::certificate::Trust;
use super::envelope::{self, EnvelopeError, Opened, Signer};
use super::id::{Digest, RepositoryId};
use super::keys::{COMMIT_NAMESPACE, KeyError, PublicKey};
use super::names::CommitName;
use crate::object_store::StoreError;

const FORMAT: &str = "tenantd-commit";
/// Longest payload line, in bytes.
const MAX_PAYLOAD: usize = 256 << 10;
/// Longest commit object, in bytes.
pub const MAX_COMMIT: u64 = MAX_PAYLOAD as u64 + envelope::ENVELOPE;

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
    /// The payload is not what this version says.
    #[error("the commit's payload is not a `tenantd-commit` of version {FORMAT_VERSION}")]
    Payload(#[source] Option<serde_json::Error>),
    /// A trusted node signed it, in a version of the format that this program does not know.
    #[error("commit {name} is of version {version} of the format; a newer tenantd reads it")]
    Version {
        /// The commit.
        name: CommitName,
        /// What it says.
        version: u32,
    },
    /// The payload would be too long.
    #[error("the commit would have {0} bytes, more than a commit may have")]
    TooLong(usize),
    /// The bytes are not those that the name promises.
    #[error("commit {0} has other content than its name says: it was overwritten or damaged")]
    Name(CommitName),
    /// The store keeps something under its name and lets nobody read it.
    #[error(
        "commit {name} cannot be read: it was overwritten with what the store does not give out"
    )]
    Unread {
        /// The commit.
        name: CommitName,
        /// What the store says.
        #[source]
        source: StoreError,
    },
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
    /// The chain cannot go on.
    #[error(
        "the newest commit has the highest number there is, which nobody gets to by backing up: whoever had the \
         node's key made it. Restore what you trust with --snapshot, and move the repository's local \
         directory away: the next backup then begins a new repository"
    )]
    LastSequence,
    /// A signature or certificate does not hold.
    #[error("the commit's signature does not hold")]
    Key(#[source] KeyError),
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
        let last = draft.previous.map_or(0, |previous| previous.sequence);
        let sequence = last.checked_add(1).ok_or(CommitError::LastSequence)?;
        let commit = Commit {
            format: FORMAT.to_owned(),
            version: FORMAT_VERSION,
            repository: draft.repository,
            epoch,
            sequence,
            previous: draft.previous.map(|previous| previous.digest),
            time: draft.time,
            recipient: draft.recipient,
            tree: draft.tree,
            packs: draft.packs,
            lists: draft.lists,
        };
        let text =
            serde_json::to_string(&commit).map_err(|error| CommitError::Payload(Some(error)))?;
        let bytes = envelope::seal(text, signer, COMMIT_NAMESPACE, MAX_PAYLOAD)?;
        let digest = Digest::of(&bytes);
        Ok(Self {
            name: CommitName {
                epoch,
                sequence: commit.sequence,
                digest,
            },
            node: statement.key.clone(),
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
        let Opened { payload, statement } =
            envelope::open(&bytes, trust, COMMIT_NAMESPACE, MAX_PAYLOAD)?;
        let Stated { format, version } = stated(payload.as_bytes())?;
        if format != FORMAT {
            return Err(CommitError::Payload(None));
        }
        if version != FORMAT_VERSION {
            // What its payload says of the epoch is not known; its name must not claim another.
            return Err(if statement.epoch == name.epoch {
                CommitError::Version { name, version }
            } else {
                CommitError::Epoch {
                    name,
                    certified: statement.epoch,
                }
            });
        }
        let commit: Commit =
            serde_json::from_str(payload).map_err(|error| CommitError::Payload(Some(error)))?;
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
        Ok(Self {
            name,
            commit,
            node: statement.key,
            bytes,
        })
    }
}

impl From<EnvelopeError> for CommitError {
    fn from(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::Shape(reason) => Self::Shape(reason),
            EnvelopeError::TooLong(length) => Self::TooLong(length),
            EnvelopeError::Key(error) => Self::Key(error),
        }
    }
}

/// What a clear object of whatever version says that it is.
#[derive(Deserialize)]
pub(super) struct Stated {
    pub(super) format: String,
    pub(super) version: u32,
}

fn stated(line: &[u8]) -> Result<Stated, CommitError> {
    serde_json::from_slice(line).map_err(|error| CommitError::Payload(Some(error)))
}

impl Commit {
    /// What a commit object says, whoever signed it: good for leaving alone what it names, and
    /// for nothing else.
    pub(super) fn claimed(bytes: &[u8]) -> Option<Self> {
        let line = bytes.split(|byte| *byte == b'\n').next()?;
        let commit: Self = serde_json::from_slice(line).ok()?;
        (commit.format == FORMAT && commit.version == FORMAT_VERSION).then_some(commit)
    }

    /// Whether it says that it is a commit of a version that this program does not know.
    pub(super) fn is_of_another_version(bytes: &[u8]) -> bool {
        let line = bytes.split(|byte| *byte == b'\n').next();
        line.and_then(|line| stated(line).ok())
            .is_some_and(|line| line.format == FORMAT && line.version != FORMAT_VERSION)
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
