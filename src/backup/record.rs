//! What a snapshot was, for people: kept on the host so that listing needs no network.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::Digest;
use super::names::CommitName;
use super::scan::Skipped;
use crate::host::clone::CloneKind;

/// What a snapshot holds and what it cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// The writer's epoch.
    pub epoch: u32,
    /// The place in the chain.
    pub sequence: u32,
    /// Digest of the commit, by which it is named.
    pub commit: Digest,
    /// The moment the data is of.
    pub time: Timestamp,
    /// Files in it.
    pub files: u64,
    /// Their sizes added up.
    pub bytes: u64,
    /// Size of all packs and tree parts that it names.
    pub stored: u64,
    /// What was newly stored for it.
    pub added: u64,
    /// How the point in time was had.
    pub capture: CaptureReport,
}

impl SnapshotRecord {
    /// The commit's name.
    pub fn name(&self) -> CommitName {
        CommitName {
            epoch: self.epoch,
            sequence: self.sequence,
            digest: self.commit,
        }
    }
}

/// How long the agent was paused, and what was done meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureReport {
    /// From before the pause was asked for until the resume was done, in microseconds.
    pub pause_us: u64,
    /// Files read while the agent ran.
    pub read_live: u64,
    /// Small files read in the pause.
    #[serde(default)]
    pub kept: u64,
    /// Files cloned in the pause by sharing blocks.
    pub shared: u64,
    /// Files copied in the pause because blocks could not be shared.
    pub copied: u64,
    /// Bytes of unchanged files that were stored again so that packs stay few.
    #[serde(default)]
    pub rewritten: u64,
    /// What was left out.
    pub skipped: Skipped,
}

impl CaptureReport {
    pub(super) fn count_clone(&mut self, kind: CloneKind) {
        match kind {
            CloneKind::Shared => self.shared += 1,
            CloneKind::Copied => self.copied += 1,
        }
    }
}
