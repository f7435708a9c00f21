//! The snapshots of a repository as they were read: which were signed, and which of them a number means.

use super::error::RemoteError;
use crate::backup::chain::{Chain, choose, follow_from};
use crate::backup::commit::{CommitError, SignedCommit};
use crate::backup::names::CommitName;

/// A commit that was not accepted.
#[derive(Debug)]
pub struct RefusedCommit {
    /// Its name.
    pub name: CommitName,
    /// Why.
    pub reason: CommitError,
}

/// All snapshots of a repository that a trusted node signed.
#[derive(Debug)]
pub struct Snapshots {
    /// Accepted commits, newest first.
    pub commits: Vec<SignedCommit>,
    /// The others, to be reported.
    pub refused: Vec<RefusedCommit>,
}

impl Snapshots {
    /// The chain from the newest commit, and what is not on it.
    ///
    /// # Errors
    /// There is none, or two claim to be the newest.
    pub fn chain(&self) -> Result<Chain, RemoteError> {
        choose(self.commits.iter())
            .map_err(RemoteError::Ambiguous)?
            .ok_or(RemoteError::Empty {
                refused: self.refused.len(),
            })
    }

    /// The newest commit.
    ///
    /// # Errors
    /// As [`Self::chain`].
    pub fn newest(&self) -> Result<&SignedCommit, RemoteError> {
        self.head(&self.chain()?)
    }

    /// The commit from which a chain goes down.
    ///
    /// # Errors
    /// It is not one of these.
    pub fn head(&self, chain: &Chain) -> Result<&SignedCommit, RemoteError> {
        let head = chain.line.first();
        self.commits
            .iter()
            .find(|commit| Some(&commit.name) == head)
            .ok_or(RemoteError::Empty {
                refused: self.refused.len(),
            })
    }

    /// The chain from the commit of this number, for whoever names one because the newest cannot be told;
    /// `None` where there is none of it, or more than one.
    pub fn chain_from(&self, number: u64) -> Option<Chain> {
        let is_named = |commit: &&SignedCommit| u64::from(commit.name.sequence) == number;
        let mut named = self.commits.iter().filter(is_named);
        match (named.next(), named.next()) {
            (Some(one), None) => Some(follow_from(self.commits.iter(), one.name)),
            _ => None,
        }
    }

    /// The highest commit that a trusted node signed in a version of the format that is not known here.
    pub fn unreadable(&self) -> Option<CommitName> {
        let later =
            |refused: &&RefusedCommit| matches!(refused.reason, CommitError::Version { .. });
        // They are sorted.
        Some(self.refused.iter().find(later)?.name)
    }

    /// The commit whose digest begins with `text` (at least six digits) or whose sequence it is.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn named(&self, text: &str) -> Result<&SignedCommit, RemoteError> {
        let fits = |commit: &&SignedCommit| {
            let digest = text.len() >= 6 && commit.name.digest.to_string().starts_with(text);
            digest || commit.name.sequence.to_string() == text
        };
        let mut found = self.commits.iter().filter(fits);
        match (found.next(), found.next()) {
            (Some(commit), None) => Ok(commit),
            _ => Err(RemoteError::Unknown(text.to_owned())),
        }
    }
}
