//! One snapshot from start to commit: read, pause, clone, resume, read the clones, write tree and commit.
//! It is the only place that knows the order; each step is another module's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use camino::Utf8PathBuf;
use jiff::Timestamp;

use super::capture::{Capture, CaptureError};
use super::commit::{CommitDraft, ObjectRef, SignedCommit};
use super::consolidate::consolidate;
use super::envelope::Signer;
use super::id::{Digest, random};
use super::index::{Index, PackList, TreePart};
use super::pack_list::{Arranged, ListObject, arrange};
use super::padding;
use super::pause::{Clock, Pause, PauseError, ResumeGuard};
use super::pipeline::{Pipeline, PipelineError};
use super::progress::{Progress, Stage};
use super::record::{CaptureReport, SnapshotRecord};
use super::repository::{Repository, RepositoryError};
use super::seal::{self, SealError};
use super::tree::Labels;
use super::tree_build::{BuildError, Built};
use crate::failpoint;

/// Reading live is repeated, so that little is left for the pause, when it took longer than this …
const LONG_READ: Duration = Duration::from_secs(20);
/// … at most this often.
const LIVE_ROUNDS: u32 = 3;

/// What to snapshot, and with what.
#[derive(Clone)]
pub struct SnapshotRequest {
    /// The directory whose content is the snapshot; never a symlink.
    pub root: Utf8PathBuf,
    /// A directory on the same file system, made and removed here, for clones.
    pub clones: Utf8PathBuf,
    /// Free names and values inside the encrypted tree.
    pub labels: Labels,
    /// Stops and continues whatever writes below `root`.
    pub pause: Arc<dyn Pause>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Who signs.
    pub signer: Signer,
    /// zstd's level; 1 when time is short, 3 otherwise.
    pub level: i32,
    /// At most this many stored bytes of unchanged data are read and sent again so that packs stay
    /// few; 0 when time is short.
    pub consolidation: u64,
    /// Told how far it is.
    pub progress: Arc<dyn Progress>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// A new commit is stored.
    Committed(SnapshotRecord),
    /// The tree is that of the newest commit; nothing was stored.
    Unchanged(CaptureReport),
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Reading the files.
    #[error("the files could not be read")]
    Capture(#[source] CaptureError),
    /// The agent could not be paused; it was resumed.
    #[error("the agent could not be paused")]
    Pause(#[source] PauseError),
    /// The agent could not be resumed.
    #[error("the agent could not be resumed; thaw it with `tenantd thaw`")]
    Resume(#[source] PauseError),
    /// Storing data.
    #[error("the data could not be stored")]
    Pipeline(#[source] PipelineError),
    /// The tree does not fit together.
    #[error("the tree could not be put together")]
    Build(#[source] BuildError),
    /// The tree could not be sealed.
    #[error("the tree could not be made")]
    Tree(#[source] SealError),
    /// The repository.
    #[error("the snapshot could not be committed")]
    Repository(#[source] RepositoryError),
    /// A worker died.
    #[error("a worker of the backup stopped unexpectedly")]
    Worker(#[source] tokio::task::JoinError),
}

/// What is handed to the blocking threads and back.
struct Run {
    capture: Capture,
    pipeline: Pipeline,
}

impl Run {
    /// Runs file work where it may block.
    async fn step(
        self,
        work: impl FnOnce(&mut Self) -> Result<(), CaptureError> + Send + 'static,
    ) -> Result<Self, SnapshotError> {
        let mut run = self;
        let task = tokio::task::spawn_blocking(move || {
            let result = work(&mut run);
            (run, result)
        });
        let (run, result) = task.await.map_err(SnapshotError::Worker)?;
        match result {
            Ok(()) => Ok(run),
            Err(CaptureError::Pipeline(PipelineError::Stopped)) => {
                // The worker that stopped knows why.
                let cause = run.pipeline.finish().await.err();
                Err(SnapshotError::Pipeline(
                    cause.unwrap_or(PipelineError::Stopped),
                ))
            }
            Err(error) => Err(SnapshotError::Capture(error)),
        }
    }

    /// Reads everything as of one moment, and says which.
    async fn capture(
        mut self,
        request: &SnapshotRequest,
    ) -> Result<(Self, Timestamp), SnapshotError> {
        let clock = &request.clock;
        for _ in 0..LIVE_ROUNDS {
            let (start, now) = (clock.monotonic(), clock.now());
            self = self
                .step(move |run| run.capture.read_live(&mut run.pipeline, now).map(drop))
                .await?;
            if clock.monotonic().saturating_sub(start) < LONG_READ {
                break;
            }
        }

        let start = clock.monotonic();
        let guard = ResumeGuard::new(Arc::clone(&request.pause));
        if let Err(error) = request.pause.pause().await {
            guard.resume().await.map_err(SnapshotError::Resume)?;
            return Err(SnapshotError::Pause(error));
        }
        let time = clock.now();
        let cloned = self.step(|run| run.capture.clone_changed()).await;
        guard.resume().await.map_err(SnapshotError::Resume)?;
        let pause = clock.monotonic().saturating_sub(start);
        failpoint::hit("backup.after-resume");

        let mut run = cloned?;
        run.capture.report.pause_us = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        let run = run
            .step(|run| run.capture.read_clones(&mut run.pipeline))
            .await?;
        Ok((run, time))
    }
}

impl Repository {
    /// Makes a snapshot and commits it, unless nothing changed.
    ///
    /// The agent is resumed whatever happens, also when the future is dropped.
    ///
    /// # Errors
    /// See [`SnapshotError`]; no commit exists then, or the next open completes it.
    pub async fn snapshot(
        &mut self,
        request: SnapshotRequest,
    ) -> Result<SnapshotOutcome, SnapshotError> {
        let began = request.clock.now();
        let mut index = self.load_index().map_err(SnapshotError::Repository)?;
        let earlier = std::mem::take(&mut index.files);
        let progress = Arc::clone(&request.progress);
        let capture = Capture::new(&request.root, &request.clones, earlier, progress)
            .map_err(SnapshotError::Capture)?;
        let pipeline = Pipeline::start(
            self.chunk_id_key().clone(),
            self.spec().recipient.clone(),
            std::mem::take(&mut index.chunks),
            Arc::clone(self.store()),
            self.names(),
            request.level,
        );
        let (run, time) = Run { capture, pipeline }.capture(&request).await?;
        let (packs, budget) = (index.packs.clone(), request.consolidation);
        let run = run.step(move |run| {
            let rewritten = consolidate(&run.capture, &mut run.pipeline, &packs, budget)?;
            run.capture.report.rewritten = rewritten;
            Ok(())
        });
        let Run { capture, pipeline } = run.await?;
        let finished = pipeline.finish().await.map_err(SnapshotError::Pipeline)?;
        let new_packs: u64 = finished.stored.iter().map(|pack| pack.object.size).sum();

        request.progress.stage(Stage::Commit, None, None);
        let (scan, records, report) = capture.finish();
        let (id, key) = (self.spec().id, self.chunk_id_key().clone());
        let (labels, earlier) = (request.labels.clone(), index.packs.clone());
        let built = tokio::task::spawn_blocking(move || {
            Built::new(id, &labels, &key, scan, records, finished, earlier)
        })
        .await
        .map_err(SnapshotError::Worker)?
        .map_err(SnapshotError::Build)?;

        let same = built
            .parts
            .iter()
            .map(|(plain, _)| plain)
            .eq(index.tree.iter().map(|part| &part.plain));
        if self.head().is_some() && same {
            if report.read_live + report.shared + report.copied > 0 {
                let index = Index {
                    lists: index.lists,
                    tree: index.tree,
                    ..built.index
                };
                self.refresh_index(&index)
                    .map_err(SnapshotError::Repository)?;
            }
            return Ok(SnapshotOutcome::Unchanged(report));
        }
        self.commit_tree(
            &request,
            built,
            index,
            Facts {
                began,
                time,
                report,
                new_packs,
            },
        )
        .await
        .map(SnapshotOutcome::Committed)
    }

    async fn commit_tree(
        &mut self,
        request: &SnapshotRequest,
        built: Built,
        earlier: Index,
        facts: Facts,
    ) -> Result<SnapshotRecord, SnapshotError> {
        let Built {
            parts,
            index,
            files,
            bytes,
        } = built;
        let mut added = facts.new_packs;
        let mut tree = Vec::with_capacity(parts.len());
        for (plain, text) in parts {
            if let Some(part) = earlier.tree.iter().find(|part| part.plain == plain) {
                tree.push(*part);
                continue;
            }
            let object = self.put_part(text).await?;
            added += object.size;
            tree.push(TreePart { plain, object });
        }
        failpoint::hit("backup.after-tree-put");

        let Arranged { kept, new, inline } = arrange(&index.packs, &earlier.lists);
        let mut lists = kept;
        for list in new {
            let list = self.put_list(list).await?;
            added += list.object.size;
            lists.push(list);
        }
        let stored = tree.iter().map(|part| &part.object).chain(&index.packs);
        let stored = stored.map(|object| object.size).sum();
        let draft = CommitDraft {
            repository: self.spec().id,
            recipient: self.spec().recipient.digest(),
            previous: self.head(),
            time: facts.time,
            tree: tree.iter().map(|part| part.object).collect(),
            packs: inline,
            lists: lists.iter().map(|list| list.object).collect(),
        };
        let signed = SignedCommit::sign(draft, &request.signer)
            .map_err(|error| SnapshotError::Repository(RepositoryError::Commit(error)))?;
        let record = SnapshotRecord {
            epoch: signed.name.epoch,
            sequence: signed.name.sequence,
            commit: signed.name.digest,
            time: facts.time,
            files,
            bytes,
            stored,
            added: added + signed.bytes.len() as u64,
            capture: facts.report,
        };
        let index = Index {
            lists,
            tree,
            ..index
        };
        self.commit(
            &signed,
            &index,
            &record,
            facts.began,
            request.clock.as_ref(),
        )
        .await
        .map_err(SnapshotError::Repository)?;
        Ok(record)
    }

    async fn put_part(&self, text: Vec<u8>) -> Result<ObjectRef, SnapshotError> {
        let recipient = self.spec().recipient.clone();
        let sealed = tokio::task::spawn_blocking(move || {
            let mut compressed =
                zstd::bulk::compress(&text, TREE_LEVEL).map_err(SealError::Payload)?;
            padding::pad(&mut compressed, 0);
            seal::seal(std::iter::once(&recipient), &compressed)
        })
        .await
        .map_err(SnapshotError::Worker)?
        .map_err(SnapshotError::Tree)?;
        let object = ObjectRef {
            sha256: Digest::of(&sealed),
            size: sealed.len() as u64,
        };
        let name = self.names().tree(&object.sha256);
        self.put(&name, sealed.into())
            .await
            .map_err(SnapshotError::Repository)?;
        Ok(object)
    }

    async fn put_list(&self, mut list: ListObject) -> Result<PackList, SnapshotError> {
        let salt: [u8; 16] =
            random().map_err(|error| SnapshotError::Tree(SealError::Random(error)))?;
        list.salt = hex::encode(salt);
        // Digests and numbers always have a JSON form.
        let bytes = Bytes::from(serde_json::to_vec(&list).unwrap_or_default());
        let object = ObjectRef {
            sha256: Digest::of(&bytes),
            size: bytes.len() as u64,
        };
        let name = self.names().list(&object.sha256);
        self.put(&name, bytes)
            .await
            .map_err(SnapshotError::Repository)?;
        Ok(PackList {
            object,
            packs: list.packs.iter().map(|pack| pack.sha256).collect(),
        })
    }
}

/// zstd's level for trees: they are small and full of repetition.
const TREE_LEVEL: i32 = 3;

/// What is known of a snapshot before its tree is stored.
struct Facts {
    began: Timestamp,
    time: Timestamp,
    report: CaptureReport,
    new_packs: u64,
}
