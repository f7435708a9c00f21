//! The writer's side of one repository: its local directory, its head, and the step from one commit to the next.
//! It never reads the store; what it must remember is here, what it may forget is in the index.

mod adopt;
mod error;
mod local;
mod spec;

use std::fs::{self, File};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;

pub use self::adopt::{Adopted, remove_repository};
pub use self::error::RepositoryError;
pub(super) use self::local::known_commit;
use self::local::{
    GIVEN_UP, INDEX, INTENT, NEXT_COMMIT, NEXT_INDEX, NEXT_RECORD, PUBLISHED, SNAPSHOTS, SPEC,
    keep_directory, lock, make_directory, read_spec, to_json, write_head,
};
pub(super) use self::local::{KEYS, local, read_head, write, write_json};
pub use self::local::{forget_snapshots, known_head, local_snapshots, read_local_spec};
pub(super) use self::spec::REPOSITORY_FORMAT;
pub use self::spec::{RepositoryObject, RepositorySpec};
use super::FORMAT_VERSION;
use super::commit::SignedCommit;
use super::id::{BucketPrefix, Digest, RepositoryId, random};
use super::index::Index;
use super::intent::{Intent, is_in_time};
use super::key_objects;
use super::local_file;
use super::names::{CommitName, ObjectNames};
use super::pause::Clock;
use super::record::SnapshotRecord;
use super::seal::{ChunkIdKey, Recipient, RepositoryKeys, SealError};
use super::seen::Seen;
use super::without_us;
use crate::failpoint;
use crate::object_store::ObjectStore;

/// An open repository; nobody else writes while it is open.
#[derive(Debug)]
pub struct Repository {
    directory: Utf8PathBuf,
    spec: RepositorySpec,
    store: Arc<dyn ObjectStore>,
    head: Option<CommitName>,
    _lock: File,
}

impl Repository {
    /// Opens the repository in `directory`, making a new one where there is none.
    ///
    /// It may be repeated after a crash: what is to be stored is on disk before the
    /// first byte is sent.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn create(
        directory: &Utf8Path,
        store: Arc<dyn ObjectStore>,
        recipients: &[Recipient],
        now: Timestamp,
    ) -> Result<Self, RepositoryError> {
        let lock = lock(directory)?;
        if !directory.join(SPEC).exists() {
            let keys = RepositoryKeys::generate().map_err(RepositoryError::Keys)?;
            let no_random = |error| RepositoryError::Keys(SealError::Random(error));
            let id = RepositoryId(random().map_err(no_random)?);
            let spec = RepositorySpec {
                version: FORMAT_VERSION,
                id,
                prefix: BucketPrefix(random().map_err(no_random)?),
                recipient: keys.identity.recipient(),
                chunk_id_key: keys.chunk_id_key.clone(),
                created: now,
            };
            let wrapped = keys.wrap(id, recipients).map_err(RepositoryError::Keys)?;
            keep_directory(directory)?;
            write(&directory.join(KEYS), &wrapped)?;
            key_objects::note_recipients(directory, &wrapped, recipients)?;
            write_json(&directory.join(SPEC), &spec)?;
            failpoint::hit("backup.after-create-intent");
        }
        Self::open_locked(directory, store, lock, now).await
    }

    /// Opens a repository that is there.
    ///
    /// A commit that was under way when the writer died is stored again first, with the same bytes, unless
    /// that was so long ago (by `now`) that what it names may have been collected: then it is given up,
    /// and the next snapshot stores everything anew.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn open(
        directory: &Utf8Path,
        store: Arc<dyn ObjectStore>,
        now: Timestamp,
    ) -> Result<Self, RepositoryError> {
        if !directory.join(SPEC).exists() {
            return Err(RepositoryError::Missing(directory.to_owned()));
        }
        let lock = lock(directory)?;
        Self::open_locked(directory, store, lock, now).await
    }

    async fn open_locked(
        directory: &Utf8Path,
        store: Arc<dyn ObjectStore>,
        lock: File,
        now: Timestamp,
    ) -> Result<Self, RepositoryError> {
        let spec = read_spec(directory)?;
        let head = read_head(directory)?;
        let directory = directory.to_owned();
        let mut repository = Self {
            directory,
            spec,
            store,
            head,
            _lock: lock,
        };
        repository.publish().await?;
        without_us::store_files(
            &repository.directory,
            repository.store.as_ref(),
            repository.names(),
        )
        .await?;
        repository.take_up(now).await?;
        Ok(repository)
    }

    /// Stores what a new repository consists of, unless that is known to be done.
    async fn publish(&self) -> Result<(), RepositoryError> {
        let published = self.directory.join(PUBLISHED);
        if published.exists() {
            return Ok(());
        }
        let object = RepositoryObject {
            format: REPOSITORY_FORMAT.to_owned(),
            version: FORMAT_VERSION,
            id: self.spec.id,
            created: self.spec.created,
        };
        let path = self.directory.join(KEYS);
        let keys = fs::read(&path).map_err(local("read", &path))?;
        let text = to_json(&object, &self.directory)?;
        self.put(&self.names().keys(&Digest::of(&keys)), keys.into())
            .await?;
        self.put(&self.names().repository(), text.into()).await?;
        failpoint::hit("backup.after-create-put");
        write(&published, b"")
    }

    /// Takes up a commit that was under way when the writer died.
    async fn take_up(&mut self, now: Timestamp) -> Result<(), RepositoryError> {
        let path = self.directory.join(INTENT);
        let Some(text) = local_file::read(&path).map_err(local("read", &path))? else {
            return Ok(());
        };
        let intent = Intent::parse(&text).ok_or(RepositoryError::Damaged {
            path: path.clone(),
            source: None,
        })?;
        // What follows a successful PUT begins with the index.
        let is_stored = !self.directory.join(NEXT_INDEX).exists();
        if is_stored || intent.holds(now) {
            self.store_commit(&intent.name).await?;
            return self.advance(&intent.name);
        }
        self.give_up(&intent.name)
    }

    /// Gives up a commit of which cannot be told whether it is stored, or all that it names still is.
    ///
    /// As head it is neither repeated nor forked, and since the index is another commit's, nothing
    /// that it names is used again.
    fn give_up(&mut self, name: &CommitName) -> Result<(), RepositoryError> {
        tracing::warn!(commit = %name, "a snapshot that took more than a day is given up");
        write(&self.directory.join(GIVEN_UP), name.to_string().as_bytes())?;
        write_head(&self.directory, name)?;
        self.head = Some(*name);
        let intent = self.directory.join(INTENT);
        local_file::remove(&intent).map_err(local("written", &intent))
    }

    /// Stores a commit that was prepared.
    async fn store_commit(&self, name: &CommitName) -> Result<(), RepositoryError> {
        let intent = self.directory.join(INTENT);
        let damaged = || RepositoryError::Damaged {
            path: intent.clone(),
            source: None,
        };
        let (prepared, kept) = (self.directory.join(NEXT_COMMIT), self.snapshot_file(name));
        let bytes = match local_file::read(&prepared).map_err(local("read", &prepared))? {
            Some(bytes) => bytes,
            None => fs::read(&kept).map_err(local("read", &kept))?,
        };
        if Digest::of(&bytes) != name.digest {
            return Err(damaged());
        }
        self.put(&self.names().commit(name), bytes.into()).await?;
        failpoint::hit("backup.after-commit-put");
        Ok(())
    }

    /// Everything after the commit is stored; each step may be repeated.
    fn advance(&mut self, name: &CommitName) -> Result<(), RepositoryError> {
        let snapshots = self.directory.join(SNAPSHOTS);
        make_directory(&snapshots)?;
        self.rename(NEXT_INDEX, &self.directory.join(INDEX))?;
        failpoint::hit("backup.after-index");
        self.rename(NEXT_RECORD, &self.record_file(name))?;
        self.rename(NEXT_COMMIT, &self.snapshot_file(name))?;
        for directory in [&snapshots, &self.directory] {
            let synced = File::open(directory).and_then(|directory| directory.sync_all());
            synced.map_err(local("written", directory))?;
        }
        write_head(&self.directory, name)?;
        self.head = Some(*name);
        failpoint::hit("backup.after-head");
        let intent = self.directory.join(INTENT);
        local_file::remove(&intent).map_err(local("written", &intent))
    }

    fn rename(&self, from: &str, to: &Utf8Path) -> Result<(), RepositoryError> {
        match fs::rename(self.directory.join(from), to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(local("written", to)(error))
            }
            _ => Ok(()),
        }
    }

    /// Stores a signed commit whose packs, trees and lists are stored, and makes it the head.
    ///
    /// # Errors
    /// See [`RepositoryError`]. The commit may be stored nevertheless; the next
    /// [`Self::open`] brings both sides together. With [`RepositoryError::TooLate`] it does not count.
    pub(super) async fn commit(
        &mut self,
        commit: &SignedCommit,
        index: &Index,
        record: &SnapshotRecord,
        began: Timestamp,
        clock: &dyn Clock,
    ) -> Result<(), RepositoryError> {
        if !is_in_time(began, clock.now()) {
            return Err(RepositoryError::TooLate);
        }
        let next = self.directory.join(NEXT_INDEX);
        index
            .save(&next, &commit.name.digest)
            .map_err(local("written", &next))?;
        write_json(&self.directory.join(NEXT_RECORD), record)?;
        write(&self.directory.join(NEXT_COMMIT), &commit.bytes)?;
        let intent = Intent {
            name: commit.name,
            began,
        };
        write(&self.directory.join(INTENT), intent.to_text().as_bytes())?;
        failpoint::hit("backup.after-intent");
        self.store_commit(&commit.name).await?;
        // The host may have slept in between.
        if !intent.holds(clock.now()) {
            self.give_up(&commit.name)?;
            return Err(RepositoryError::TooLate);
        }
        self.advance(&commit.name)
    }

    pub(super) async fn put(&self, name: &str, bytes: Bytes) -> Result<(), RepositoryError> {
        self.store
            .put(name, bytes)
            .await
            .map_err(RepositoryError::Store)
    }

    /// The index of the head; an empty one where it was lost.
    pub(super) fn load_index(&self) -> Result<Index, RepositoryError> {
        let Some(head) = self.head else {
            return Ok(Index::default());
        };
        let path = self.directory.join(INDEX);
        let index = Index::load(&path, &head.digest).map_err(local("read", &path))?;
        if index.is_none() {
            tracing::warn!(%path, "the local index is lost; this backup uploads everything once");
        }
        Ok(index.unwrap_or_default())
    }

    /// What a scan finds if nothing has changed since the head; none where that cannot be told.
    pub(super) fn load_seen(&self) -> Result<Option<Seen>, RepositoryError> {
        let Some(head) = self.head else {
            return Ok(None);
        };
        let path = self.directory.join(INDEX);
        Index::load_seen(&path, &head.digest).map_err(local("read", &path))
    }

    /// Keeps what was learned about files that changed without changing the tree.
    pub(super) fn refresh_index(&self, index: &Index) -> Result<(), RepositoryError> {
        let Some(head) = self.head else { return Ok(()) };
        let path = self.directory.join(INDEX);
        index
            .save(&path, &head.digest)
            .map_err(local("written", &path))
    }

    fn snapshot_file(&self, name: &CommitName) -> Utf8PathBuf {
        self.directory.join(SNAPSHOTS).join(name.to_string())
    }

    fn record_file(&self, name: &CommitName) -> Utf8PathBuf {
        self.directory.join(SNAPSHOTS).join(format!("{name}.json"))
    }

    /// What the host knows of the repository.
    pub fn spec(&self) -> &RepositorySpec {
        &self.spec
    }

    /// The newest commit.
    pub fn head(&self) -> Option<CommitName> {
        self.head
    }

    pub(super) fn directory(&self) -> &Utf8Path {
        &self.directory
    }

    /// Where it is stored.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(super) fn names(&self) -> ObjectNames {
        ObjectNames(self.spec.prefix)
    }

    pub(super) fn chunk_id_key(&self) -> &ChunkIdKey {
        &self.spec.chunk_id_key
    }
}
