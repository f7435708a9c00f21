//! What a collection found and did, for people and scripts.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::survey::Survey;
use crate::backup::id::{BucketPrefix, Digest};
use crate::backup::names::{CommitName, ObjectNames};
use crate::backup::retention::{JudgeError, Reason};

/// Some objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many.
    pub objects: u64,
    /// Their sizes added up, with all versions.
    pub bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
    }
}

/// What became of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It stays.
    Kept,
    /// It will be deleted, a grace period after it was marked.
    Marked,
    /// It was deleted, or would be in a dry run.
    Deleted,
    /// It should go, but the store does not let it yet.
    Locked,
    /// It should go, but the key that was used may not delete it.
    Denied,
}

/// A snapshot and why it stays or goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct JudgedSnapshot {
    /// The writer's epoch.
    pub epoch: u32,
    /// The place in the chain.
    pub snapshot: u32,
    /// The commit's digest.
    pub commit: Digest,
    /// The fingerprint of its writer's key.
    pub node: String,
    /// The time that its writer signed.
    pub taken_at: Timestamp,
    /// When the store took it.
    pub stored_at: Timestamp,
    /// The rules that keep it; none when it goes.
    pub kept_by: BTreeSet<Reason>,
    /// What became of it.
    pub fate: Fate,
}

/// A commit that no trusted node signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedSnapshot {
    /// Its name.
    pub commit: String,
    /// Why it is not believed.
    pub reason: String,
}

/// Why nothing was marked or deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// A commit was overwritten, or is of a later version.
    #[error(
        "what commit {0} names cannot be told: it was overwritten, damaged, or made by a newer \
         tenantd; with --drop-refused it counts as garbage"
    )]
    Commit(CommitName),
    /// There is no commit.
    #[error("there is no commit, so nothing can be told from garbage; with --drop-refused all is")]
    NoCommit,
    /// The list of a snapshot that is kept cannot be read.
    #[error("which packs snapshot {commit} names cannot be told: list {list} is lost or damaged")]
    List {
        /// The snapshot.
        commit: CommitName,
        /// The list.
        list: Digest,
    },
    /// Too many lines.
    #[error(transparent)]
    Lines(JudgeError),
    /// The listing is older than what was just stored.
    #[error("the store's listing does not show what was just stored; try again later")]
    Listing,
}

impl Serialize for Blocked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a collection of one repository found and did.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CollectReport {
    /// The repository's prefix in the store.
    pub repository: Option<BucketPrefix>,
    /// The store's time by which it was judged; this host's in a dry run.
    pub judged_at: Timestamp,
    /// All snapshots that a trusted node signed, oldest first.
    pub snapshots: Vec<JudgedSnapshot>,
    /// The others; what they name is left alone unless told otherwise.
    pub refused: Vec<RefusedSnapshot>,
    /// Why nothing was marked or deleted, if so.
    pub blocked: Option<Blocked>,
    /// What is needed, or too young to tell.
    pub kept: Amount,
    /// What this run has marked.
    pub marked: Amount,
    /// What earlier runs have marked less than a grace period ago.
    pub waiting: Amount,
    /// What was deleted, or would be in a dry run.
    pub deleted: Amount,
    /// What the store does not let go.
    pub locked: Amount,
    /// Until when at the longest, as far as the store says.
    pub locked_until: Option<Timestamp>,
    /// What the key that was used may not delete.
    pub denied: Amount,
    /// Pieces of writes that were cut short, removed.
    pub swept: u64,
}

impl CollectReport {
    pub(super) fn new(repository: BucketPrefix, now: Timestamp, survey: &Survey) -> Self {
        let refused = survey.refused.iter().map(|refused| RefusedSnapshot {
            commit: refused.name.to_string(),
            reason: refused.reason.to_string(),
        });
        Self {
            repository: Some(repository),
            judged_at: now,
            refused: refused.collect(),
            ..Self::default()
        }
    }

    pub(super) fn blocked(self, blocked: Blocked) -> Self {
        Self {
            blocked: Some(blocked),
            ..self
        }
    }

    pub(super) fn judged(
        &mut self,
        survey: &Survey,
        judged: &BTreeMap<CommitName, BTreeSet<Reason>>,
    ) {
        let snapshots = survey.commits.iter().map(|found| {
            let name = found.signed.name;
            JudgedSnapshot {
                epoch: name.epoch,
                snapshot: name.sequence,
                commit: name.digest,
                node: found.signed.node.fingerprint(),
                taken_at: found.signed.commit.time,
                stored_at: found.stored,
                kept_by: judged.get(&name).cloned().unwrap_or_default(),
                fate: Fate::Kept,
            }
        });
        self.snapshots = snapshots.collect();
    }

    /// Notes what became of a commit by its object's name; other objects are only counted.
    pub(super) fn fate(&mut self, object: &str, fate: Fate) {
        let Some(repository) = self.repository else {
            return;
        };
        let names = ObjectNames(repository);
        let name = object.strip_prefix(&names.commits_prefix());
        let Some(name) = name.and_then(CommitName::parse) else {
            return;
        };
        let same = |snapshot: &&mut JudgedSnapshot| snapshot.commit == name.digest;
        if let Some(snapshot) = self.snapshots.iter_mut().find(same) {
            snapshot.fate = fate;
        }
    }
}
