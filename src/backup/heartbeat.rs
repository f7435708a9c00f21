//! Heartbeats: what a node says at every interval of all its repositories, so that "nothing new" can be told
//! from "rolled back". It makes and checks them; storing and finding them is others' affair.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::FORMAT_VERSION;
use super::certificate::Trust;
use super::commit::Stated;
use super::envelope::{self, EnvelopeError, Opened, Signer};
use super::id::{Digest, RepositoryId};
use super::keys::{HEARTBEAT_NAMESPACE, PublicKey};
use super::names::{CommitName, HeartbeatName};

const FORMAT: &str = "tenantd-heartbeat";
/// Longest payload line, in bytes: [`MAX_HEADS`] heads fit.
const MAX_PAYLOAD: usize = 1 << 20;
/// Longest heartbeat object, in bytes.
pub const MAX_HEARTBEAT: u64 = MAX_PAYLOAD as u64 + envelope::ENVELOPE;
/// Repositories in one heartbeat; a head is at most 180 bytes long.
pub const MAX_HEADS: usize = 4096;

/// The newest commit of one repository, as its writer knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The repository.
    pub repository: RepositoryId,
    /// The commit's epoch.
    pub epoch: u32,
    /// Its place in the chain.
    pub sequence: u32,
    /// The digest of the commit object.
    pub commit: Digest,
}

impl Head {
    /// The head of `repository`.
    pub fn new(repository: RepositoryId, name: CommitName) -> Self {
        Self {
            repository,
            epoch: name.epoch,
            sequence: name.sequence,
            commit: name.digest,
        }
    }

    /// The commit's name.
    pub fn name(&self) -> CommitName {
        CommitName {
            epoch: self.epoch,
            sequence: self.sequence,
            digest: self.commit,
        }
    }
}

/// What a heartbeat says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    format: String,
    version: u32,
    /// The node's own repository, below whose prefix the heartbeat is.
    pub repository: RepositoryId,
    /// The node's epoch.
    pub epoch: u32,
    /// The place among the heartbeats of this epoch; there may be gaps.
    pub sequence: u32,
    /// When it was made, by the node's clock.
    pub time: Timestamp,
    /// The head of every repository that has one, by repository.
    pub heads: Vec<Head>,
}

impl Heartbeat {
    /// What it says of one repository.
    pub fn head_of(&self, repository: RepositoryId) -> Option<Head> {
        self.heads
            .binary_search_by_key(&repository, |head| head.repository)
            .ok()
            .map(|at| self.heads[at])
    }
}

/// Why a heartbeat was not made or not believed.
#[derive(Debug, thiserror::Error)]
pub enum HeartbeatError {
    /// The bytes are not those that the name promises.
    #[error("heartbeat {0} has other content than its name says: it was overwritten or damaged")]
    Name(HeartbeatName),
    /// It is not what a trusted node said.
    #[error("the heartbeat is not what a trusted node signed")]
    Envelope(#[from] EnvelopeError),
    /// The line is not what the format says.
    #[error("the heartbeat is not a `tenantd-heartbeat` of version {FORMAT_VERSION}")]
    Payload(#[source] Option<serde_json::Error>),
    /// It belongs elsewhere, or contradicts itself.
    #[error("the heartbeat is refused: {0}")]
    Refused(&'static str),
    /// There are more repositories than one heartbeat names.
    #[error("this node has {0} repositories, more than the {MAX_HEADS} that a heartbeat names")]
    TooMany(usize),
}

/// A heartbeat object and what it says; made here or accepted by [`SignedHeartbeat::verify`].
#[derive(Debug, Clone)]
pub struct SignedHeartbeat {
    /// Its name.
    pub name: HeartbeatName,
    /// What it says.
    pub heartbeat: Heartbeat,
    /// The node's public key.
    pub node: PublicKey,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
}

impl SignedHeartbeat {
    /// Signs what a node says of `heads`, in any order.
    ///
    /// # Errors
    /// There are too many heads, or two of one repository.
    pub fn sign(
        repository: RepositoryId,
        sequence: u32,
        time: Timestamp,
        mut heads: Vec<Head>,
        signer: &Signer,
    ) -> Result<Self, HeartbeatError> {
        if heads.len() > MAX_HEADS {
            return Err(HeartbeatError::TooMany(heads.len()));
        }
        heads.sort_unstable_by_key(|head| head.repository);
        let statement = signer.certificate.statement();
        let heartbeat = Heartbeat {
            format: FORMAT.to_owned(),
            version: FORMAT_VERSION,
            repository,
            epoch: statement.epoch,
            sequence,
            time,
            heads,
        };
        heartbeat.check()?;
        let line = serde_json::to_string(&heartbeat)
            .map_err(|error| HeartbeatError::Payload(Some(error)))?;
        let bytes = envelope::seal(line, signer, HEARTBEAT_NAMESPACE, MAX_PAYLOAD)?;
        Ok(Self {
            name: HeartbeatName {
                epoch: heartbeat.epoch,
                sequence,
                digest: Digest::of(&bytes),
            },
            node: statement.key.clone(),
            heartbeat,
            bytes,
        })
    }

    /// Reads a heartbeat object of the node whose repository is `repository`, and accepts it only if
    /// all of it holds.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn verify(
        name: HeartbeatName,
        bytes: Vec<u8>,
        repository: RepositoryId,
        trust: &Trust,
    ) -> Result<Self, HeartbeatError> {
        let beat = Self::verify_of_any(name, bytes, trust)?;
        if beat.heartbeat.repository != repository {
            return Err(HeartbeatError::Refused("it is another repository's"));
        }
        Ok(beat)
    }

    /// As [`Self::verify`], for whoever cannot know which repository is the right one.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn verify_of_any(
        name: HeartbeatName,
        bytes: Vec<u8>,
        trust: &Trust,
    ) -> Result<Self, HeartbeatError> {
        if Digest::of(&bytes) != name.digest {
            return Err(HeartbeatError::Name(name));
        }
        let Opened { payload, statement } =
            envelope::open(&bytes, trust, HEARTBEAT_NAMESPACE, MAX_PAYLOAD)?;
        let parse = |error| HeartbeatError::Payload(Some(error));
        let stated: Stated = serde_json::from_str(payload).map_err(parse)?;
        if stated.format != FORMAT || stated.version != FORMAT_VERSION {
            return Err(HeartbeatError::Payload(None));
        }
        let heartbeat: Heartbeat = serde_json::from_str(payload).map_err(parse)?;
        heartbeat.check()?;
        let said = (heartbeat.epoch, heartbeat.sequence);
        if said != (name.epoch, name.sequence) {
            return Err(HeartbeatError::Refused("its name says another place"));
        }
        if statement.epoch != heartbeat.epoch {
            return Err(HeartbeatError::Refused(
                "its node is certified for another epoch",
            ));
        }
        Ok(Self {
            name,
            heartbeat,
            node: statement.key,
            bytes,
        })
    }
}

impl Heartbeat {
    fn check(&self) -> Result<(), HeartbeatError> {
        if self.heads.len() > MAX_HEADS {
            return Err(HeartbeatError::TooMany(self.heads.len()));
        }
        let is_sorted = |pair: &[Head]| pair[0].repository < pair[1].repository;
        if !self.heads.windows(2).all(is_sorted) {
            return Err(HeartbeatError::Refused(
                "its repositories are out of order, or one comes twice",
            ));
        }
        Ok(())
    }
}

/// The place of the next heartbeat: seconds since 1970, so that a node which lost its files does not
/// begin below what it has said before, and always above the `last` of its epoch.
///
/// `None` when there is no place left, in the year 2106.
pub fn next_sequence(last: Option<HeartbeatName>, epoch: u32, now: Timestamp) -> Option<u32> {
    let clock = u32::try_from(now.as_second().max(1)).ok()?;
    match last.filter(|last| last.epoch == epoch) {
        Some(last) => Some(clock.max(last.sequence.checked_add(1)?)),
        None => Some(clock),
    }
}

#[cfg(test)]
#[path = "heartbeat_tests.rs"]
mod tests;
