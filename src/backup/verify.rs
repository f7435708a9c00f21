//! Checking a repository without restoring it: as much as can be told with what the caller has.
//! Without an identity: signatures, chains, presence, sizes and hashes; with one also every chunk.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};

use super::chain::Broken;
use super::commit::{ObjectRef, SignedCommit};
use super::fetch::list_all;
use super::id::Digest;
use super::names::{CommitName, ObjectNames};
use super::pack::{MAX_PACK, OpenPack, PackError};
use super::progress::{Progress, Stage};
use super::remote::{RefusedCommit, RemoteError, RemoteRepository};
use super::seal::RepositoryKeys;

/// Packs that are checked at the same time.
const PACKS: usize = 2;

/// How deep to look.
#[derive(Clone)]
pub struct VerifyRequest<'a> {
    /// How many of the packs and parts of trees are downloaded, and their hashes checked.
    pub share: Share,
    /// With them, what is downloaded is also opened, and every chunk and line in it checked.
    pub keys: Option<&'a RepositoryKeys>,
    /// Told how far it is.
    pub progress: Arc<dyn Progress>,
}

/// How many of a repository's packs are downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// None: signatures, chain, and by listing the presence and size of all that commits name.
    Nothing,
    /// So many of a thousand, and one at least; which, the salt says: with a new one each time, all have their turn.
    Sample {
        /// Of a thousand.
        permille: u16,
        /// Anything.
        salt: u64,
    },
    /// All.
    Everything,
}

impl Share {
    /// Chooses from `objects`.
    fn of(self, mut objects: Vec<ObjectRef>) -> Vec<ObjectRef> {
        let Self::Sample { permille, salt } = self else {
            return match self {
                Self::Everything => objects,
                _ => Vec::new(),
            };
        };
        let count = (objects.len() * usize::from(permille.min(1000))).div_ceil(1000);
        let turn = |object: &ObjectRef| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&salt.to_le_bytes());
            hasher.update(&object.sha256.0);
            *hasher.finalize().as_bytes()
        };
        objects.sort_by_cached_key(turn);
        objects.truncate(count.max(1));
        objects
    }
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
    /// A commit contradicts the one before it.
    #[error("the chain of snapshots is broken")]
    Chain(#[source] Broken),
}

/// What a verification found.
#[derive(Debug)]
pub struct VerifyReport {
    /// Accepted commits.
    pub commits: usize,
    /// The newest of them.
    pub newest: CommitName,
    /// Commits that were refused.
    pub refused: Vec<RefusedCommit>,
    /// Accepted commits off the chain.
    pub forks: Vec<CommitName>,
    /// Packs that commits name.
    pub packs: usize,
    /// Their sizes added up.
    pub bytes: u64,
    /// Packs and parts of trees that were downloaded.
    pub downloaded: usize,
    /// Their sizes added up.
    pub downloaded_bytes: u64,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

impl VerifyReport {
    /// Whether every accepted snapshot can be restored, as far as was looked.
    pub fn is_good(&self) -> bool {
        self.faults.is_empty() && self.refused.is_empty()
    }
}

/// What all commits name together.
#[derive(Default)]
struct Wanted {
    packs: HashMap<Digest, ObjectRef>,
    trees: HashMap<Digest, ObjectRef>,
    faults: Vec<Fault>,
}

impl RemoteRepository {
    /// Checks all snapshots.
    ///
    /// # Errors
    /// The store cannot be read at all, or has no snapshot. What is wrong is in the report.
    pub async fn verify(&self, request: &VerifyRequest<'_>) -> Result<VerifyReport, RemoteError> {
        let progress = &request.progress;
        progress.stage(Stage::Verify, None, None);
        let snapshots = self.snapshots().await?;
        let chain = snapshots.chain()?;
        let newest = snapshots.newest()?.name;
        let wanted = self.wanted(&snapshots.commits).await;
        let mut faults = wanted.faults;
        faults.extend(chain.broken.map(|broken| Fault {
            object: self.names().commit(&broken.commit),
            problem: Problem::Chain(broken),
        }));
        faults.extend(self.missing_keys().await?);
        let mut present = BTreeMap::new();
        for (kind, objects) in [(Kind::Pack, &wanted.packs), (Kind::Tree, &wanted.trees)] {
            let names = self.names();
            let listed = self.list(&kind.prefix(&names)).await?;
            let (good, bad): (Vec<_>, Vec<_>) = objects
                .values()
                .map(|object| (*object, kind.fault_in(&names, &listed, object)))
                .partition(|(_, fault)| fault.is_none());
            faults.extend(bad.into_iter().filter_map(|(_, fault)| fault));
            let good = good.into_iter().map(|(object, _)| object).collect();
            present.insert(kind, request.share.of(good));
        }
        let chosen: Vec<(Kind, ObjectRef)> = present
            .into_iter()
            .flat_map(|(kind, objects)| objects.into_iter().map(move |object| (kind, object)))
            .collect();
        let downloaded_bytes = chosen.iter().map(|(_, object)| object.size).sum();
        progress.stage(
            Stage::Check,
            Some(downloaded_bytes),
            Some(chosen.len() as u64),
        );
        let found: Vec<Fault> = stream::iter(&chosen)
            .map(|(kind, object)| self.check(*kind, *object, request))
            .buffer_unordered(PACKS)
            .filter_map(async |fault| fault)
            .collect()
            .await;
        faults.extend(found);
        if let (Share::Everything, Some(keys)) = (request.share, request.keys) {
            let known: HashSet<String> = faults.iter().map(|fault| fault.object.clone()).collect();
            for commit in &snapshots.commits {
                let parts = commit.commit.tree.iter();
                let mut parts = parts.map(|part| self.names().tree(&part.sha256));
                // What is wrong with a part was said.
                if parts.any(|part| known.contains(&part)) {
                    continue;
                }
                if let Err(error) = self.tree(commit, keys).await {
                    let object = self.names().commit(&commit.name);
                    let problem = Problem::Content(error);
                    faults.push(Fault { object, problem });
                }
            }
        }
        faults.sort_by(|a, b| a.object.cmp(&b.object));
        Ok(VerifyReport {
            commits: snapshots.commits.len(),
            newest,
            refused: snapshots.refused,
            forks: chain.forks,
            packs: wanted.packs.len(),
            bytes: wanted.packs.values().map(|pack| pack.size).sum(),
            downloaded: chosen.len(),
            downloaded_bytes,
            faults,
        })
    }

    async fn wanted(&self, commits: &[SignedCommit]) -> Wanted {
        let mut wanted = Wanted::default();
        for commit in commits {
            match self.packs(commit).await {
                Ok(packs) => wanted
                    .packs
                    .extend(packs.into_iter().map(|pack| (pack.sha256, pack))),
                Err(error) => wanted.faults.push(Fault {
                    object: self.names().commit(&commit.name),
                    problem: Problem::Content(error),
                }),
            }
            let parts = commit.commit.tree.iter();
            wanted.trees.extend(parts.map(|part| (part.sha256, *part)));
        }
        wanted
    }

    /// Without its keys nobody reads a repository.
    async fn missing_keys(&self) -> Result<Option<Fault>, RemoteError> {
        let object = self.names().keys_prefix();
        let is_there = !self.list(&object).await?.is_empty();
        Ok((!is_there).then_some(Fault {
            object,
            problem: Problem::Missing,
        }))
    }

    /// The sizes of all versions of the objects below a prefix: a reader takes the one that fits,
    /// so an object that was hidden or overwritten is still there.
    async fn list(&self, prefix: &str) -> Result<HashMap<String, Vec<u64>>, RemoteError> {
        let all = list_all(self.store().as_ref(), prefix)
            .await
            .map_err(RemoteError::Store)?;
        let mut sizes: HashMap<String, Vec<u64>> = HashMap::new();
        for object in all {
            sizes.entry(object.name).or_default().push(object.size);
        }
        Ok(sizes)
    }

    /// Downloads an object and looks at its bytes as deep as was asked for.
    async fn check(
        &self,
        kind: Kind,
        object: ObjectRef,
        request: &VerifyRequest<'_>,
    ) -> Option<Fault> {
        let name = kind.name(&self.names(), &object.sha256);
        let problem = match self.read_object(&name, object, MAX_PACK as u64).await {
            Err(error) => Err(Problem::Content(error)),
            Ok(sealed) => match (kind, request.keys) {
                (Kind::Pack, Some(keys)) => {
                    let keys = keys.clone();
                    let opened = tokio::task::spawn_blocking(move || check_chunks(&sealed, &keys));
                    let joined = opened.await.map_err(RemoteError::Worker);
                    joined.map_err(Problem::Content).flatten()
                }
                _ => Ok(()),
            },
        };
        request.progress.bytes(object.size);
        request.progress.files(1);
        problem.err().map(|problem| Fault {
            object: name,
            problem,
        })
    }
}

/// What is listed and downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Pack,
    Tree,
}

impl Kind {
    fn prefix(self, names: &ObjectNames) -> String {
        match self {
            Self::Pack => names.packs_prefix(),
            Self::Tree => names.trees_prefix(),
        }
    }

    fn name(self, names: &ObjectNames, digest: &Digest) -> String {
        match self {
            Self::Pack => names.pack(digest),
            Self::Tree => names.tree(digest),
        }
    }

    fn fault_in(
        self,
        names: &ObjectNames,
        listed: &HashMap<String, Vec<u64>>,
        object: &ObjectRef,
    ) -> Option<Fault> {
        let name = self.name(names, &object.sha256);
        let problem = match listed.get(&name).map(Vec::as_slice) {
            None | Some([]) => Problem::Missing,
            Some(sizes) if sizes.contains(&object.size) => return None,
            Some([.., newest]) => Problem::Size {
                found: *newest,
                expected: object.size,
            },
        };
        Some(Fault {
            object: name,
            problem,
        })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_sample_has_its_share_and_over_time_takes_everything(
            count in 1_usize..200,
            permille in 0_u16..=1000,
            salt: u64,
        ) {
            let object = |number: usize| ObjectRef {
                sha256: Digest::of(&number.to_le_bytes()),
                size: 1,
            };
            let objects: Vec<ObjectRef> = (0..count).map(object).collect();
            let sample = |salt| Share::Sample { permille, salt }.of(objects.clone());
            let chosen = sample(salt);
            prop_assert_eq!(chosen.len(), (count * usize::from(permille)).div_ceil(1000).max(1));
            prop_assert_eq!(sample(salt), chosen);
            prop_assert_eq!(Share::Nothing.of(objects.clone()).len(), 0);
            prop_assert_eq!(Share::Everything.of(objects.clone()), objects);
        }
    }
}
