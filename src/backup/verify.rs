//! Checking a repository without restoring it: as much as can be told with what the caller has.
//! Without an identity: signatures, chains, presence, sizes and hashes; with one also every chunk.

use std::collections::{BTreeSet, HashMap};

use futures_util::stream::{self, StreamExt as _};

use super::commit::ObjectRef;
use super::names::CommitName;
use super::pack::{MAX_PACK, OpenPack, PackError};
use super::remote::{RefusedCommit, RemoteError, RemoteRepository};
use super::seal::RepositoryKeys;

/// Packs that are checked at the same time.
const PACKS: usize = 2;

/// How deep to look.
#[derive(Debug, Clone, Copy)]
pub enum Depth<'a> {
    /// Signatures, chain, and by one listing the presence and size of every pack.
    Listing,
    /// Also download every pack and tree part, and check its hash.
    Download,
    /// Also decrypt everything and check every line of the trees and the id of every chunk.
    Open(&'a RepositoryKeys),
}

/// What is wrong with an object.
#[derive(Debug)]
pub struct Fault {
    /// Its name in the store.
    pub object: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What can be wrong with an object that a signed commit names.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It is not there.
    #[error("it is missing")]
    Missing,
    /// It has another size.
    #[error("it has {found} bytes instead of {expected}")]
    Size {
        /// What the store says.
        found: u64,
        /// What the commit says.
        expected: u64,
    },
    /// It cannot be read, or has other content.
    #[error("its content is wrong")]
    Content(#[source] RemoteError),
    /// It cannot be taken apart.
    #[error("it cannot be opened")]
    Pack(#[source] PackError),
    /// A chunk in it is not what its id says.
    #[error("a chunk in it is not what its id says")]
    Chunk,
}

/// What a verification found.
#[derive(Debug)]
pub struct VerifyReport {
    /// Accepted commits.
    pub commits: usize,
    /// Commits that were refused.
    pub refused: Vec<RefusedCommit>,
    /// Accepted commits off the chain.
    pub forks: Vec<CommitName>,
    /// Packs that were checked.
    pub packs: usize,
    /// Their sizes added up.
    pub bytes: u64,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

impl VerifyReport {
    /// Whether every accepted snapshot can be restored, as far as was looked.
    pub fn is_good(&self) -> bool {
        self.faults.is_empty() && self.refused.is_empty()
    }
}

impl RemoteRepository {
    /// Checks all snapshots.
    ///
    /// # Errors
    /// The store cannot be read at all, or has no snapshot. What is wrong is in the report.
    pub async fn verify(&self, depth: Depth<'_>) -> Result<VerifyReport, RemoteError> {
        let snapshots = self.snapshots().await?;
        let chain = snapshots.chain()?;
        let prefix = self.names().packs_prefix();
        let listed = self.list(&prefix).await?;
        let mut wanted = HashMap::new();
        let mut trees = BTreeSet::new();
        let mut faults = Vec::new();
        for commit in &snapshots.commits {
            match self.packs(commit).await {
                Ok(packs) => wanted.extend(packs.into_iter().map(|pack| (pack.sha256, pack))),
                Err(error) => faults.push(Fault {
                    object: self.names().commit(&commit.name),
                    problem: Problem::Content(error),
                }),
            }
            trees.extend(
                commit
                    .commit
                    .tree
                    .iter()
                    .map(|part| (part.sha256, part.size)),
            );
        }
        faults.extend(
            wanted
                .values()
                .filter_map(|pack| self.fault_in(&listed, pack)),
        );
        if !matches!(depth, Depth::Listing) {
            let bad: BTreeSet<String> = faults.iter().map(|fault| fault.object.clone()).collect();
            let present = wanted
                .values()
                .filter(|pack| !bad.contains(&self.names().pack(&pack.sha256)));
            let keys = if let Depth::Open(keys) = depth {
                Some(keys)
            } else {
                None
            };
            let found: Vec<_> = stream::iter(present)
                .map(|pack| self.check_pack(*pack, keys))
                .buffer_unordered(PACKS)
                .filter_map(async |fault| fault)
                .collect()
                .await;
            faults.extend(found);
            for (sha256, size) in trees {
                let name = self.names().tree(&sha256);
                let part = ObjectRef { sha256, size };
                if let Err(error) = self.read_object(&name, part, MAX_PACK as u64).await {
                    faults.push(Fault {
                        object: name,
                        problem: Problem::Content(error),
                    });
                }
            }
        }
        if let Depth::Open(keys) = depth {
            for commit in &snapshots.commits {
                if let Err(error) = self.tree(commit, keys).await {
                    let object = self.names().commit(&commit.name);
                    faults.push(Fault {
                        object,
                        problem: Problem::Content(error),
                    });
                }
            }
        }
        faults.sort_by(|a, b| a.object.cmp(&b.object));
        Ok(VerifyReport {
            commits: snapshots.commits.len(),
            refused: snapshots.refused,
            forks: chain.forks,
            packs: wanted.len(),
            bytes: wanted.values().map(|pack| pack.size).sum(),
            faults,
        })
    }

    async fn list(&self, prefix: &str) -> Result<HashMap<String, u64>, RemoteError> {
        let objects = self
            .store()
            .list(prefix)
            .await
            .map_err(RemoteError::Store)?;
        Ok(objects
            .into_iter()
            .map(|object| (object.name, object.size))
            .collect())
    }

    fn fault_in(&self, listed: &HashMap<String, u64>, pack: &ObjectRef) -> Option<Fault> {
        let object = self.names().pack(&pack.sha256);
        let problem = match listed.get(&object) {
            None => Problem::Missing,
            Some(found) if *found != pack.size => Problem::Size {
                found: *found,
                expected: pack.size,
            },
            Some(_) => return None,
        };
        Some(Fault { object, problem })
    }

    async fn check_pack(&self, pack: ObjectRef, keys: Option<&RepositoryKeys>) -> Option<Fault> {
        let object = self.names().pack(&pack.sha256);
        let sealed = match self.read_object(&object, pack, MAX_PACK as u64).await {
            Ok(sealed) => sealed,
            Err(error) => {
                return Some(Fault {
                    object,
                    problem: Problem::Content(error),
                });
            }
        };
        let keys = keys?.clone();
        let opened = tokio::task::spawn_blocking(move || check_chunks(&sealed, &keys)).await;
        let problem = match opened {
            Ok(Ok(())) => return None,
            Ok(Err(problem)) => problem,
            Err(error) => Problem::Content(RemoteError::Worker(error)),
        };
        Some(Fault { object, problem })
    }
}

fn check_chunks(sealed: &[u8], keys: &RepositoryKeys) -> Result<(), Problem> {
    let pack = OpenPack::open(&keys.identity, sealed).map_err(Problem::Pack)?;
    let mut decompressor = zstd::bulk::Decompressor::new()
        .map_err(|error| Problem::Pack(PackError::Compress(error)))?;
    let mut chunk = Vec::new();
    for (id, place) in pack.directory().map_err(Problem::Pack)? {
        pack.read(&mut decompressor, place, &mut chunk)
            .map_err(Problem::Pack)?;
        if keys.chunk_id_key.id(&chunk) != id {
            return Err(Problem::Chunk);
        }
    }
    Ok(())
}
