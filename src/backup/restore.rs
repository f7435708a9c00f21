//! Restoring: from a checked tree to a fresh directory, pack by pack.
//! Every chunk is checked before it is written, and every pack that is read whole before it is decrypted.

use std::collections::HashMap;
use std::sync::Arc;

use camino::Utf8PathBuf;
use futures_util::stream::{self, StreamExt as _};

use super::commit::{ObjectRef, SignedCommit};
use super::entry::{Entry, EntryKind, Piece};
use super::id::Digest;
use super::pack::PackError;
use super::path;
use super::progress::{Progress, Stage};
use super::remote::{RemoteError, RemoteRepository};
use super::restore_files::{RestoreFilesError, Target};
use super::restore_pack::{PackJob, Sink, Write};
use super::seal::RepositoryKeys;
use super::selection;
use super::tree::Labels;
use crate::failpoint;

/// Packs that are fetched, opened and written at the same time.
const PACKS: usize = 3;

/// Where and how to restore.
#[derive(Clone)]
pub struct RestoreRequest {
    /// A directory that does not exist yet; it holds all or nothing afterwards.
    pub target: Utf8PathBuf,
    /// Only what this path names, as [`selection::subtree`] makes a tree of it; all without one.
    pub only: Option<Vec<u8>>,
    /// Whether to set owners, which needs root.
    pub ownership: bool,
    /// Whether files keep setuid and setgid bits.
    pub keep_setuid: bool,
    /// Told how far it is.
    pub progress: Arc<dyn Progress>,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreReport {
    /// The labels that the writer gave.
    pub labels: Labels,
    /// Files.
    pub files: u64,
    /// Their sizes added up.
    pub bytes: u64,
    /// Bytes of packs that were fetched.
    pub fetched: u64,
    /// Files whose setuid or setgid bit was dropped.
    pub setuid_dropped: u64,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The repository.
    #[error("the snapshot could not be read")]
    Remote(#[source] RemoteError),
    /// A path that was asked for.
    #[error("the snapshot has no {0:?}; `tenantd ls` shows what it has")]
    NoPath(String),
    /// A pack.
    #[error("pack {pack} does not hold what the tree says of {path:?}")]
    Pack {
        /// The pack.
        pack: Digest,
        /// The escaped path of a file in it.
        path: String,
        /// Why.
        #[source]
        source: PackError,
    },
    /// A chunk is not the one that the tree names.
    #[error("a chunk of {path:?} in pack {pack} is not the one that was backed up")]
    Chunk {
        /// The pack.
        pack: Digest,
        /// The escaped path.
        path: String,
    },
    /// The target.
    #[error("the files could not be written; nothing is left in the target")]
    Files(#[source] RestoreFilesError),
    /// A worker died.
    #[error("a worker of the restore stopped unexpectedly")]
    Worker(#[source] tokio::task::JoinError),
}

/// What is to be done, decided before anything is written.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    jobs: Vec<PackJob>,
    /// For each entry: a file whose whole content is in one pack, so that it is made, written and
    /// finished in one go.
    whole: Vec<bool>,
    files: u64,
    bytes: u64,
}

fn plan(entries: &[Entry], packs: &[ObjectRef]) -> Plan {
    let by_digest: HashMap<Digest, ObjectRef> =
        packs.iter().map(|pack| (pack.sha256, *pack)).collect();
    let mut numbers: HashMap<Digest, usize> = HashMap::new();
    let mut plan = Plan {
        whole: vec![false; entries.len()],
        ..Plan::default()
    };
    for (entry, number) in entries.iter().zip(0_u32..) {
        let EntryKind::File { size, pieces, .. } = &entry.kind else {
            continue;
        };
        plan.files += 1;
        plan.bytes += size;
        let mut offset = 0;
        let mut only = None;
        let mut whole = true;
        for piece in pieces {
            if let Piece::Chunk {
                pack,
                place,
                id,
                skip,
                take,
            } = piece
            {
                whole &= *only.get_or_insert(*pack) == *pack;
                // The tree's reader has checked that the commit names the pack.
                let Some(object) = by_digest.get(pack) else {
                    continue;
                };
                let job = *numbers.entry(*pack).or_insert_with(|| {
                    plan.jobs.push(PackJob {
                        pack: *object,
                        writes: Vec::new(),
                    });
                    plan.jobs.len() - 1
                });
                let write = Write {
                    entry: number,
                    offset,
                    place: *place,
                    id: *id,
                    skip: *skip,
                    take: *take,
                };
                plan.jobs[job].writes.push(write);
            }
            offset += piece.length();
        }
        plan.whole[number as usize] = whole && only.is_some();
    }
    for job in &mut plan.jobs {
        // A chunk that has several pieces of a file is decompressed once for all of them.
        job.writes
            .sort_by_key(|write| (write.entry, write.place.offset, write.offset));
    }
    plan
}

impl RemoteRepository {
    /// Restores a snapshot into a fresh directory.
    ///
    /// The tree is read and checked whole before the directory is made; if anything
    /// fails later, the directory is removed again.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub async fn restore(
        &self,
        commit: &SignedCommit,
        keys: &RepositoryKeys,
        request: &RestoreRequest,
    ) -> Result<RestoreReport, RestoreError> {
        let progress = &request.progress;
        progress.stage(Stage::Verify, None, None);
        let packs = self.packs(commit).await.map_err(RestoreError::Remote)?;
        let tree = self
            .tree_of(commit, &packs, keys)
            .await
            .map_err(RestoreError::Remote)?;
        let entries = match &request.only {
            None => tree.entries,
            Some(only) => selection::subtree(&tree.entries, only)
                .ok_or_else(|| RestoreError::NoPath(path::show(only)))?,
        };
        let plan = plan(&entries, &packs);
        progress.stage(Stage::Restore, Some(plan.bytes), Some(plan.files));

        let mut report = RestoreReport {
            labels: tree.header.labels,
            files: plan.files,
            bytes: plan.bytes,
            fetched: 0,
            setuid_dropped: 0,
        };
        let target = request.target.clone();
        let options = (request.ownership, request.keep_setuid);
        let whole = plan.whole;
        let target = blocking(move || Target::create(target, entries, whole, options)).await?;
        let target = Arc::new(target);
        failpoint::hit("restore.after-directories");
        let sink = Sink {
            target: Arc::clone(&target),
            keys: keys.clone(),
            progress: Arc::clone(progress),
        };
        let filled = self.fill(&sink, plan.jobs).await;
        let finished = match filled {
            Ok(fetched) => {
                report.fetched = fetched;
                failpoint::hit("restore.before-metadata");
                let target = Arc::clone(&target);
                blocking(move || target.finish()).await
            }
            Err(error) => Err(error),
        };
        match finished {
            Ok(dropped) => report.setuid_dropped = dropped,
            Err(error) => {
                target.remove();
                return Err(error);
            }
        }
        Ok(report)
    }

    /// Fetches and writes all packs; gives how many bytes were fetched.
    async fn fill(&self, sink: &Sink, jobs: Vec<PackJob>) -> Result<u64, RestoreError> {
        let mut running = stream::iter(jobs)
            .map(|job| sink.clone().fill(self, job))
            .buffer_unordered(PACKS);
        // After an error what runs is waited for, so that nothing writes to what is being removed.
        let mut result = Ok(0);
        while let Some(done) = running.next().await {
            failpoint::hit("restore.after-first-pack");
            result = match (result, done) {
                (Ok(sum), Ok(fetched)) => Ok(sum + fetched),
                (Err(first), _) | (Ok(_), Err(first)) => Err(first),
            };
        }
        result
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RestoreFilesError> + Send + 'static,
) -> Result<T, RestoreError> {
    let result = tokio::task::spawn_blocking(work)
        .await
        .map_err(RestoreError::Worker)?;
    result.map_err(RestoreError::Files)
}
