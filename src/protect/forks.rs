//! Snapshots that lie in a host's repositories and that another node wrote: seen at a restore, noted for `snapshots`.
//! Which they are is decided by the chain; here they are only remembered.

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ProtectError;
use crate::backup::{Chain, Digest, SignedCommit, Snapshots};
use crate::host::files;

/// So many are remembered of one repository, the newest.
const MOST: usize = 64;

/// Longest note of them.
const LIMIT: u64 = 64 * 1024;

/// A snapshot that is not on the chain that a restore takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fork {
    /// Its writer's epoch.
    pub epoch: u32,
    /// Its number.
    pub snapshot: u64,
    /// The commit's digest.
    pub commit: Digest,
    /// The moment that its data is of.
    pub taken_at: Timestamp,
    /// The fingerprint of its writer's key.
    pub node: String,
}

/// What is not on the chain, newest first.
pub(super) fn forks(snapshots: &Snapshots, chain: &Chain) -> Vec<Fork> {
    let is_fork = |commit: &&SignedCommit| chain.forks.contains(&commit.name);
    let forks = snapshots.commits.iter().filter(is_fork);
    forks
        .map(|commit| Fork {
            epoch: commit.name.epoch,
            snapshot: commit.name.sequence.into(),
            commit: commit.name.digest,
            taken_at: commit.commit.time,
            node: commit.node.fingerprint(),
        })
        .collect()
}

fn path(directory: &Utf8Path) -> Utf8PathBuf {
    directory.join("forks.json")
}

/// Remembers what was seen last in a repository, none included.
pub(super) fn remember(directory: &Utf8Path, forks: &[Fork]) -> Result<(), ProtectError> {
    let path = path(directory);
    if forks.is_empty() {
        files::remove(&path)?;
        return Ok(());
    }
    let newest = &forks[..forks.len().min(MOST)];
    let document = serde_json::to_vec(newest).map_err(|source| ProtectError::Document {
        path: path.clone(),
        source,
    })?;
    Ok(files::write(&path, &document, 0o600)?)
}

/// What was seen last in a repository.
pub(super) fn remembered(directory: &Utf8Path) -> Result<Vec<Fork>, ProtectError> {
    let path = path(directory);
    let bytes = match files::read(&path, LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if error.is_absent() => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    serde_json::from_slice(&bytes).map_err(|source| ProtectError::Document { path, source })
}
