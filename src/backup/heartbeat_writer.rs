//! Stores a node's heartbeats: what is said is on disk before it is sent, and no place is used twice.
//! What it says, and when, is its caller's affair; it reads nothing from the store.

use jiff::Timestamp;

use super::envelope::Signer;
use super::heartbeat::{Head, HeartbeatError, SignedHeartbeat, next_sequence};
use super::local_file;
use super::names::HeartbeatName;
use super::repository::{self, Repository, RepositoryError};
use crate::failpoint;

/// The name of the newest heartbeat, in the local directory of the node's repository.
const LAST: &str = "heartbeat";

/// Why no heartbeat was stored.
#[derive(Debug, thiserror::Error)]
pub enum BeatError {
    /// It could not be made.
    #[error("the heartbeat could not be made")]
    Heartbeat(#[from] HeartbeatError),
    /// Local files, or the store.
    #[error("the heartbeat could not be stored")]
    Repository(#[from] RepositoryError),
    /// The clock is beyond what the format can say.
    #[error("there is no number left for a heartbeat; set this host's clock right")]
    Clock,
}

impl Repository {
    /// Says, as the node whose repository this is, which commits are the newest now.
    ///
    /// Its number is recorded before it is sent: a crash leaves a gap, never two of one number.
    ///
    /// # Errors
    /// See [`BeatError`]; the next one says all the same.
    pub async fn beat(
        &self,
        heads: Vec<Head>,
        signer: &Signer,
        now: Timestamp,
    ) -> Result<SignedHeartbeat, BeatError> {
        let path = self.directory().join(LAST);
        let last = local_file::read(&path).map_err(repository::local("read", &path))?;
        // What cannot be read is as good as lost: the clock gives a number above all that were used.
        let last = last.and_then(|text| HeartbeatName::parse(std::str::from_utf8(&text).ok()?));
        let epoch = signer.certificate.statement().epoch;
        let sequence = next_sequence(last, epoch, now).ok_or(BeatError::Clock)?;
        let beat = SignedHeartbeat::sign(self.spec().id, sequence, now, heads, signer)?;
        repository::write(&path, beat.name.to_string().as_bytes())?;
        failpoint::hit("heartbeat.recorded");
        let name = self.names().heartbeat(&beat.name);
        self.put(&name, beat.bytes.clone().into()).await?;
        failpoint::hit("heartbeat.stored");
        Ok(beat)
    }
}
