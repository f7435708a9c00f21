//! What the commits of a repository add up to for the rules: lines, their clocks, and who is newest.
//!
//! Whoever has stolen a node's key can sign commits with any time, sequence and predecessor, but cannot
//! make the store say that it took them earlier than it did. So the store's time rules; the signed time
//! can only keep more; and lines do not compete with each other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::rules::{KeepRules, Reason};
use crate::backup::id::{Digest, RepositoryId};
use crate::backup::names::CommitName;
use crate::backup::record::SnapshotRecord;

/// More lines than this are not the work of writers of ours.
const MAX_LINES: usize = 1024;

/// What to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The rules.
    pub rules: KeepRules,
    /// What is younger than this is never touched, whatever the rules say.
    pub grace: SignedDuration,
}

/// A commit that a trusted node signed, and when it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: CommitName,
    /// The repository it says it belongs to.
    pub repository: RepositoryId,
    /// The public key of its writer.
    pub writer: String,
    /// The commit that it says came before.
    pub previous: Option<Digest>,
    /// When the store first took it.
    pub stored: Timestamp,
    /// When the store last took it; repeating a PUT makes this later.
    pub touched: Timestamp,
    /// The time that its writer signed.
    pub signed: Timestamp,
}

/// Why nothing can be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{lines} snapshots have nothing after them, more than any writer leaves; somebody has the node's key"
)]
pub struct JudgeError {
    lines: usize,
}

/// Why each commit is kept; one without a reason is not.
///
/// `now` is the store's time.
///
/// # Errors
/// There are too many lines to judge.
pub fn judge(
    policy: &Policy,
    now: Timestamp,
    commits: &[Known],
) -> Result<BTreeMap<CommitName, BTreeSet<Reason>>, JudgeError> {
    let parents = parents(commits);
    let mut kept = vec![BTreeSet::new(); commits.len()];
    let is_young = |time: Timestamp| now.duration_since(time) < policy.grace;

    let mut has_child = vec![false; commits.len()];
    for (child, parent) in parents.iter().enumerate() {
        let Some(parent) = *parent else { continue };
        has_child[parent] = true;
        // Its own writer may still reuse its packs until it has seen what came after.
        if is_young(commits[child].touched) {
            kept[parent].insert(Reason::Grace);
        }
    }
    for (at, commit) in commits.iter().enumerate() {
        if is_young(commit.touched) {
            kept[at].insert(Reason::Grace);
        }
    }
    for at in newest_of_writers(commits) {
        kept[at].insert(Reason::Newest);
    }

    let tips: Vec<usize> = (0..commits.len()).filter(|at| !has_child[*at]).collect();
    if tips.len() > MAX_LINES {
        return Err(JudgeError { lines: tips.len() });
    }
    for tip in tips {
        kept[tip].insert(Reason::Newest);
        let line: Vec<usize> = std::iter::successors(Some(tip), |at| parents[*at]).collect();
        for (at, time) in [stored_clock(commits, &line), signed_clock(commits, &line)]
            .iter()
            .flat_map(|clock| policy.kept_on(clock))
        {
            kept[at].extend(time);
        }
    }
    Ok(commits.iter().map(|commit| commit.name).zip(kept).collect())
}

impl Policy {
    /// Which commits of a line the rules keep, by the times of one clock, oldest first.
    fn kept_on(&self, clock: &[(usize, Timestamp)]) -> Vec<(usize, BTreeSet<Reason>)> {
        let times: Vec<Timestamp> = clock.iter().map(|(_, time)| *time).collect();
        let kept = self.rules.kept(&times);
        clock.iter().map(|(at, _)| *at).zip(kept).collect()
    }
}

/// A line by the store's clock, oldest first.
fn stored_clock(commits: &[Known], line: &[usize]) -> Vec<(usize, Timestamp)> {
    let mut clock: Vec<(usize, Timestamp)> =
        line.iter().map(|at| (*at, commits[*at].stored)).collect();
    clock.sort_by_key(|(at, time)| (*time, commits[*at].name));
    clock
}

/// A line by the signed times, oldest first: never later than the store's time, and never falling.
fn signed_clock(commits: &[Known], line: &[usize]) -> Vec<(usize, Timestamp)> {
    let mut latest = Timestamp::MIN;
    let upwards = line.iter().rev().map(|at| {
        let commit = &commits[*at];
        latest = latest.max(commit.signed.min(commit.stored));
        (*at, latest)
    });
    upwards.collect()
}

/// The commits of the highest sequence of each writer (a key certified for an epoch).
fn newest_of_writers(commits: &[Known]) -> Vec<usize> {
    let writer = |commit: &Known| (commit.repository, commit.name.epoch, commit.writer.clone());
    let mut highest: HashMap<_, u32> = HashMap::new();
    for commit in commits {
        let sequence = highest.entry(writer(commit)).or_default();
        *sequence = commit.name.sequence.max(*sequence);
    }
    (0..commits.len())
        .filter(|at| {
            let commit = &commits[*at];
            highest.get(&writer(commit)) == Some(&commit.name.sequence)
        })
        .collect()
}

/// For each commit the one that came before it on its line.
///
/// That is the one it names; where that is gone, because an earlier collection removed it, the
/// last one below, preferably of its own epoch. Where two claim that place it is nobody.
fn parents(commits: &[Known]) -> Vec<Option<usize>> {
    let by_digest: HashMap<(RepositoryId, Digest), usize> = (0..commits.len())
        .map(|at| ((commits[at].repository, commits[at].name.digest), at))
        .collect();
    let mut by_rank: BTreeMap<(RepositoryId, u32), Vec<(u32, usize)>> = BTreeMap::new();
    for (at, commit) in commits.iter().enumerate() {
        let epoch = by_rank
            .entry((commit.repository, commit.name.epoch))
            .or_default();
        epoch.push((commit.name.sequence, at));
    }
    for epoch in by_rank.values_mut() {
        epoch.sort_unstable();
    }
    let below = |commit: &Known| {
        let epochs = (commit.repository, 0)..=(commit.repository, commit.name.epoch);
        by_rank.range(epochs).rev().find_map(|(_, epoch)| {
            let end = epoch.partition_point(|(sequence, _)| *sequence < commit.name.sequence);
            let (sequence, found) = *epoch[..end].last()?;
            let rival = end.checked_sub(2).map(|at| epoch[at].0);
            Some((rival != Some(sequence)).then_some(found))
        })
    };
    let parent = |commit: &Known| {
        let previous = commit.previous?;
        let named = by_digest.get(&(commit.repository, previous)).copied();
        let named = named.filter(|at| {
            let name = commits[*at].name;
            name.sequence.checked_add(1) == Some(commit.name.sequence)
                && name.epoch <= commit.name.epoch
        });
        named.or_else(|| below(commit).flatten())
    };
    commits.iter().map(parent).collect()
}

/// Why each of a host's own snapshots is kept, by the times that this host recorded.
///
/// `records` are newest first, as they are read. It is what a collection elsewhere with the same
/// rules decides, as far as this host can know.
pub fn kept_locally(
    policy: &Policy,
    now: Timestamp,
    records: &[SnapshotRecord],
) -> Vec<BTreeSet<Reason>> {
    let mut seen = HashSet::new();
    let mut latest = Timestamp::MIN;
    let times: Vec<Timestamp> = records
        .iter()
        .rev()
        .map(|record| {
            latest = latest.max(record.time.min(now));
            latest
        })
        .collect();
    let mut kept = policy.rules.kept(&times);
    kept.reverse();
    let mut after = now;
    for (record, (reasons, time)) in records.iter().zip(kept.iter_mut().zip(times.iter().rev())) {
        if seen.insert(record.epoch) {
            reasons.insert(Reason::Newest);
        }
        if now.duration_since(after) < policy.grace {
            reasons.insert(Reason::Grace);
        }
        after = *time;
    }
    kept
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
