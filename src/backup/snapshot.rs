//! One snapshot from start to commit: read, pause, clone, resume, read the clones, write tree and commit.
//! It is the only place that knows the order; each step is another module's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use camino::Utf8PathBuf;
use jiff::Timestamp;
use tokio::sync::mpsc;

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
use super::seen::Seen;
use super::tree::Labels;
use super::tree_build::{BuildError, Built, Part, Subject};
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
    /// The agent did not put its files in order, and there is to be no backup without.
    #[error("the agent did not put its files in order, as its template says it must for a backup")]
    Prepare(#[source] PauseError),
    /// The agent could not be paused; it was resumed.
    #[error("the agent could not be paused")]
    Pause(#[source] PauseError),
    /// The agent could not be resumed.
    #[error("the agent could not be resumed; thaw it with `tenantd thaw`")]
    Resume(#[source] PauseError),
    /// Somebody let the agent go on, or started it, in the pause.
    #[error(
        "the agent was stopped, started or thawed while it was paused, so what was read may not be of one moment; \
         the next backup tries again"
    )]
    Disturbed,
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
        for round in 1.. {
            let start = clock.monotonic();
            self = self
                .step(|run| run.capture.read_live(&mut run.pipeline))
                .await?;
            let is_long = clock.monotonic().saturating_sub(start) >= LONG_READ;
            if round == LIVE_ROUNDS || !is_long {
                break;
            }
            let now = clock.now();
            self = self.step(move |run| run.capture.look(now)).await?;
        }

        let guard = ResumeGuard::new(Arc::clone(&request.pause));
        if let Err(error) = request.pause.prepare().await {
            guard.release().await;
            return Err(SnapshotError::Prepare(error));
        }
        let start = clock.monotonic();
        if let Err(error) = request.pause.pause().await {
            guard.resume().await.map_err(SnapshotError::Resume)?;
            guard.release().await;
            return Err(SnapshotError::Pause(error));
        }
        let time = clock.now();
        let cloned = self.step(|run| run.capture.clone_changed()).await;
        guard.resume().await.map_err(SnapshotError::Resume)?;
        let pause = clock.monotonic().saturating_sub(start);
        guard.release().await;
        failpoint::hit("backup.after-resume");

        let mut run = cloned?;
        if !request.pause.has_held() {
            return Err(SnapshotError::Disturbed);
        }
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
        let seen = self.load_seen().map_err(SnapshotError::Repository)?;
        let (mut capture, now) = look(&request).await?;
        if seen.is_some() && seen == Some(now) {
            return Ok(SnapshotOutcome::Unchanged(capture.report));
        }
        let mut index = self.load_index().map_err(SnapshotError::Repository)?;
        capture.remember(std::mem::take(&mut index.files));
        let pipeline = Pipeline::start(
            self.spec(),
            std::mem::take(&mut index.extents),
            Arc::clone(self.store()),
            self.names(),
            request.level,
        );
        let (run, time) = Run { capture, pipeline }.capture(&request).await?;
        let (packs, budget) = (index.packs.clone(), request.consolidation);
        let run = run.step(move |run| {
            let rewritten = consolidate(&mut run.capture, &mut run.pipeline, &packs, budget)?;
            run.capture.report.rewritten = rewritten;
            Ok(())
        });
        let Run { capture, pipeline } = run.await?;
        let seen = capture.seen_in_pause(&request.labels);
        let finished = pipeline.finish().await.map_err(SnapshotError::Pipeline)?;
        let new_packs: u64 = finished.stored.iter().map(|pack| pack.object.size).sum();

        request.progress.stage(Stage::Commit, None, None);
        let (scan, records, report) = capture.finish();
        let subject = Subject {
            repository: self.spec().id,
            labels: request.labels.clone(),
            key: self.chunk_id_key().clone(),
        };
        let earlier = index.packs.clone();
        let (parts, made) = mpsc::channel(1);
        let building = tokio::task::spawn_blocking(move || {
            let take = |part| parts.blocking_send(part).is_ok();
            Built::new(&subject, scan, records, finished, earlier, take)
        });
        let stored = self.store_tree(made, &index).await;
        let built = building.await.map_err(SnapshotError::Worker)?;
        // If the tree could not be stored, that is why it was not built.
        let stored = stored?;
        let built = built.map_err(SnapshotError::Build)?;
        let next = Index {
            seen,
            ..built.index
        };

        if self.head().is_some() && stored.tree == index.tree {
            if report.read_live + report.kept + report.shared + report.copied > 0
                || seen != index.seen
            {
                let index = Index {
                    lists: index.lists,
                    tree: index.tree,
                    ..next
                };
                self.refresh_index(&index)
                    .map_err(SnapshotError::Repository)?;
            }
            return Ok(SnapshotOutcome::Unchanged(report));
        }
        let facts = Facts {
            began,
            time,
            report,
            added: new_packs + stored.added,
            files: built.files,
            bytes: built.bytes,
        };
        let next = Index {
            tree: stored.tree,
            ..next
        };
        self.commit_tree(&request, next, &index.lists, facts)
            .await
            .map(SnapshotOutcome::Committed)
    }

    /// Stores the parts of a tree that the earlier one does not have, as they are made.
    async fn store_tree(
        &self,
        mut made: mpsc::Receiver<Part>,
        earlier: &Index,
    ) -> Result<StoredTree, SnapshotError> {
        let mut stored = StoredTree::default();
        while let Some((plain, text)) = made.recv().await {
            if let Some(part) = earlier.tree.iter().find(|part| part.plain == plain) {
                stored.tree.push(*part);
                continue;
            }
            let object = self.put_part(text).await?;
            stored.added += object.size;
            stored.tree.push(TreePart { plain, object });
        }
        Ok(stored)
    }

    async fn commit_tree(
        &mut self,
        request: &SnapshotRequest,
        index: Index,
        earlier: &[PackList],
        facts: Facts,
    ) -> Result<SnapshotRecord, SnapshotError> {
        failpoint::hit("backup.after-tree-put");

        let Arranged { kept, new, inline } = arrange(&index.packs, earlier);
        let (mut lists, mut added) = (kept, facts.added);
        for list in new {
            let list = self.put_list(list).await?;
            added += list.object.size;
            lists.push(list);
        }
        let parts = index.tree.iter().map(|part| &part.object);
        let stored = parts.chain(&index.packs);
        let stored = stored.map(|object| object.size).sum();
        let draft = CommitDraft {
            repository: self.spec().id,
            recipient: self.spec().recipient.digest(),
            previous: self.head(),
            time: facts.time,
            tree: index.tree.iter().map(|part| part.object).collect(),
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
            files: facts.files,
            bytes: facts.bytes,
            stored,
            added: added + signed.bytes.len() as u64,
            capture: facts.report,
        };
        let index = Index { lists, ..index };
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

/// Opens what is to be captured and looks at it for the first time.
async fn look(request: &SnapshotRequest) -> Result<(Capture, Seen), SnapshotError> {
    let request = request.clone();
    let now = request.clock.now();
    let looked = tokio::task::spawn_blocking(move || {
        let mut capture = Capture::new(&request.root, &request.clones, request.progress)?;
        capture.look(now)?;
        let seen = capture.seen(&request.labels);
        Ok((capture, seen))
    });
    looked
        .await
        .map_err(SnapshotError::Worker)?
        .map_err(SnapshotError::Capture)
}

/// zstd's level for trees: they are small and full of repetition.
const TREE_LEVEL: i32 = 3;

/// A tree whose parts are all stored.
#[derive(Default)]
struct StoredTree {
    tree: Vec<TreePart>,
    /// Bytes that were stored now.
    added: u64,
}

/// What is known of a snapshot before it is committed.
struct Facts {
    began: Timestamp,
    time: Timestamp,
    report: CaptureReport,
    /// Bytes that were stored for it.
    added: u64,
    files: u64,
    bytes: u64,
}
