//! What the accepted commits of a repository add up to: the line that a restore takes, and what is not on it.
//! It believes its input; whether a commit holds is `commit`'s.

use std::collections::{HashMap, HashSet};

use super::commit::SignedCommit;
use super::id::Digest;
use super::names::CommitName;

/// What the accepted commits of a repository add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The chain that a restore takes, newest first.
    pub line: Vec<CommitName>,
    /// Accepted commits that are not on it: another writer's, for example a node that was replaced.
    pub forks: Vec<CommitName>,
    /// Commits that the chain names and that are not there (retention may have removed them).
    pub missing: Vec<Digest>,
    /// Where the chain contradicts itself, if it does: no writer of ours makes such a one.
    pub broken: Option<Broken>,
}

/// A commit names as the one before it what cannot be that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{commit} says that {previous} came before it, which is not one number lower or of a later epoch"
)]
pub struct Broken {
    /// The commit.
    pub commit: CommitName,
    /// What it names.
    pub previous: CommitName,
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

/// Follows the chain from `head`, which is one of the commits.
pub fn follow_from<'a>(commits: impl Iterator<Item = &'a SignedCommit>, head: CommitName) -> Chain {
    let by_digest: HashMap<Digest, &SignedCommit> =
        commits.map(|commit| (commit.name.digest, commit)).collect();
    let mut names: Vec<CommitName> = by_digest.values().map(|commit| commit.name).collect();
    names.sort_unstable();
    follow(&by_digest, &names, head)
}

fn follow(
    by_digest: &HashMap<Digest, &SignedCommit>,
    names: &[CommitName],
    head: CommitName,
) -> Chain {
    let mut line = Vec::new();
    let mut missing = Vec::new();
    let mut broken = None;
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
                if found.name.sequence.checked_add(1) == Some(name.sequence)
                    && found.name.epoch <= name.epoch =>
            {
                next = Some(found.name);
            }
            rest => {
                match rest {
                    Some(found) => {
                        broken = broken.or(Some(Broken {
                            commit: name,
                            previous: found.name,
                        }));
                    }
                    None => missing.push(previous),
                }
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
        broken,
    }
}

/// The only commit of the highest sequence below `name`, not of a later epoch.
fn below(names: &[CommitName], name: CommitName) -> Option<CommitName> {
    let candidates = || {
        names.iter().filter(|other| {
            other.sequence < name.sequence.saturating_sub(1) && other.epoch <= name.epoch
        })
    };
    let sequence = candidates().map(|other| other.sequence).max()?;
    let mut best = candidates().filter(|other| other.sequence == sequence);
    let found = best.next().copied();
    found.filter(|_| best.next().is_none())
}
