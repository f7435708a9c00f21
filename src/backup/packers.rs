//! From new chunks to stored packs: compress, seal, upload, by up to two packers and an uploader.
//! Memory is bounded by the channels between them and by the buffers for sealed packs.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::commit::ObjectRef;
use super::id::ChunkId;
use super::names::ObjectNames;
use super::pack::{PackBuilder, Place, SealedPack};
use super::pipeline::PipelineError;
use super::seal::Recipient;
use crate::failpoint;
use crate::object_store::{ObjectStore, StoreError};

/// So many groups wait to be packed.
const GROUPS_WAITING: usize = 4;
/// Packs that are sealed and on their way at the same time: with one more for each packer, and a copy that an
/// S3 client makes, they are most of the memory that a backup takes.
const UPLOADS: usize = 2;

/// A pack that is stored, and what is in it.
#[derive(Debug)]
pub struct StoredPack {
    /// Its object.
    pub object: ObjectRef,
    /// Its chunks, by their numbers.
    pub chunks: Vec<(u32, Place)>,
}

/// Chunks on their way to a pack.
#[derive(Default)]
pub struct Group {
    /// Their bytes, one after another.
    pub bytes: Vec<u8>,
    /// Their numbers, ids and lengths.
    pub chunks: Vec<(u32, ChunkId, usize)>,
}

/// A sealed pack, and the numbers of its chunks.
type Numbered = (SealedPack, Vec<u32>);

/// Buffers for sealed packs; there are as many as packs may be on their way, and each comes back.
type Buffers = mpsc::Sender<Vec<u8>>;

/// Takes groups, makes packs of them and stores them.
pub struct Packers {
    queue: SyncSender<Group>,
    /// The packers alone keep it: when the last of them has ended, whoever has a group to send is told.
    groups: Weak<Mutex<Receiver<Group>>>,
    outlet: Outlet,
    level: i32,
    tasks: Vec<JoinHandle<Result<(), PipelineError>>>,
    uploader: JoinHandle<Result<Vec<StoredPack>, StoreError>>,
}

impl Packers {
    /// Starts the uploader and one packer on the current runtime; `level` is zstd's.
    pub fn start(
        recipient: Recipient,
        store: Arc<dyn ObjectStore>,
        names: ObjectNames,
        level: i32,
    ) -> Self {
        let (queue, groups) = sync_channel(GROUPS_WAITING);
        let (packs, sealed) = mpsc::channel(1);
        let (buffers, empty) = mpsc::channel(UPLOADS);
        for _ in 0..UPLOADS {
            // There is room for all of them.
            let _ = buffers.try_send(Vec::new());
        }
        let groups = Arc::new(Mutex::new(groups));
        let mut packers = Self {
            queue,
            groups: Arc::downgrade(&groups),
            outlet: Outlet {
                packs,
                empty: Arc::new(Mutex::new(empty)),
                recipient,
            },
            level,
            tasks: Vec::new(),
            uploader: tokio::spawn(upload(sealed, buffers, store, names)),
        };
        packers.start_one();
        packers
    }

    /// Adds the second packer, unless it is there.
    pub fn help(&mut self) {
        if self.tasks.len() < 2 {
            self.start_one();
        }
    }

    /// Takes a group; blocks while the packers are behind.
    ///
    /// # Errors
    /// They have stopped; [`Self::finish`] says why.
    pub fn take(&self, group: Group) -> Result<(), PipelineError> {
        self.queue.send(group).map_err(|_| PipelineError::Stopped)
    }

    /// Waits until everything is stored.
    ///
    /// # Errors
    /// The first worker's error.
    pub async fn finish(self) -> Result<Vec<StoredPack>, PipelineError> {
        let Self {
            queue,
            groups: _,
            outlet,
            tasks,
            uploader,
            level: _,
        } = self;
        // Without senders the packers end, and after them the uploader.
        drop((queue, outlet));
        let mut packed = Ok(());
        for task in tasks {
            let result = task.await.map_err(PipelineError::Worker).flatten();
            packed = packed.and(result);
        }
        // A packer that finds the uploader gone only says that it stopped; the uploader knows why.
        let stored = uploader.await.map_err(PipelineError::Worker)?;
        let stored = stored.map_err(PipelineError::Store)?;
        packed.map(|()| stored)
    }

    fn start_one(&mut self) {
        // Nobody is left to be helped where the only packer has ended.
        let Some(groups) = self.groups.upgrade() else {
            return;
        };
        let outlet = self.outlet.clone();
        let level = self.level;
        self.tasks.push(tokio::task::spawn_blocking(move || {
            pack(&groups, &outlet, level)
        }));
    }
}

/// Where full packs go.
#[derive(Clone)]
struct Outlet {
    packs: mpsc::Sender<Numbered>,
    empty: Arc<Mutex<mpsc::Receiver<Vec<u8>>>>,
    recipient: Recipient,
}

impl Outlet {
    /// Seals a pack of the chunks with these numbers, once there is a buffer for it.
    fn seal(&self, builder: &mut PackBuilder, numbers: Vec<u32>) -> Result<(), PipelineError> {
        let next = {
            // A receiver has no state that a panic elsewhere could break.
            let mut empty = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
            empty.blocking_recv()
        };
        let buffer = next.ok_or(PipelineError::Stopped)?;
        let sealed = builder.seal(&self.recipient, buffer);
        let sealed = sealed.map_err(PipelineError::Pack)?;
        let sent = self.packs.blocking_send((sealed, numbers));
        sent.map_err(|_| PipelineError::Stopped)
    }
}

fn pack(groups: &Mutex<Receiver<Group>>, outlet: &Outlet, level: i32) -> Result<(), PipelineError> {
    let mut builder = PackBuilder::new(level).map_err(PipelineError::Pack)?;
    let mut numbers = Vec::new();
    loop {
        // A receiver has no state that a panic elsewhere could break.
        let next = groups.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(group) = next else { break };
        let mut rest = group.bytes.as_slice();
        for (number, id, length) in group.chunks {
            let (chunk, tail) = rest.split_at(length);
            rest = tail;
            if !builder.has_room(length) {
                outlet.seal(&mut builder, std::mem::take(&mut numbers))?;
            }
            builder.push(id, chunk).map_err(PipelineError::Pack)?;
            numbers.push(number);
        }
    }
    if builder.is_empty() {
        Ok(())
    } else {
        outlet.seal(&mut builder, numbers)
    }
}

async fn upload(
    sealed: mpsc::Receiver<Numbered>,
    buffers: Buffers,
    store: Arc<dyn ObjectStore>,
    names: ObjectNames,
) -> Result<Vec<StoredPack>, StoreError> {
    stream::unfold(sealed, async |mut sealed| {
        Some((sealed.recv().await?, sealed))
    })
    .map(|(pack, numbers)| {
        let (store, buffers) = (Arc::clone(&store), buffers.clone());
        async move {
            let object = ObjectRef {
                sha256: pack.digest,
                size: pack.bytes.len() as u64,
            };
            let bytes = Bytes::from(pack.bytes);
            let name = names.pack(&pack.digest);
            let sha256 = object.sha256.0;
            store.put_hashed(&name, bytes.clone(), sha256).await?;
            // The same memory for the next pack, unless the store still holds it. There is room for it.
            let buffer = bytes.try_into_mut().map(Vec::from).unwrap_or_default();
            let _ = buffers.try_send(buffer);
            failpoint::hit("backup.after-pack-put");
            let places = pack.chunks.into_iter().map(|(_, place)| place);
            Ok(StoredPack {
                object,
                chunks: numbers.into_iter().zip(places).collect(),
            })
        }
    })
    .buffer_unordered(UPLOADS)
    .try_collect()
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use camino::Utf8Path;

    use super::*;
    use crate::backup::chunker::MAX_CHUNK;
    use crate::backup::id::{BucketPrefix, random};
    use crate::backup::seal::Identity;
    use crate::object_store::DirectoryStore;

    /// More than fits into all channels and buffers together.
    const ENDLESS: u8 = 200;

    #[test]
    fn a_store_that_takes_nothing_ends_a_backup_of_any_size() {
        let guard = tempfile::tempdir().unwrap();
        let file = Utf8Path::from_path(guard.path()).unwrap().join("file");
        std::fs::write(&file, "").unwrap();
        // Nothing can be stored below a file.
        let store = Arc::new(DirectoryStore::new(file));
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let mut packers = {
            let _entered = runtime.enter();
            let names = ObjectNames(BucketPrefix([7; 16]));
            Packers::start(Identity::generate().recipient(), store, names, 1)
        };
        let (end, ended) = mpsc::channel();
        let handle = runtime.handle().clone();
        std::thread::spawn(move || {
            let _entered = handle.enter();
            let all_taken = (0..ENDLESS).all(|number| {
                packers.help();
                let chunks = vec![(number.into(), ChunkId([number; 32]), MAX_CHUNK)];
                let bytes = noise();
                packers.take(Group { bytes, chunks }).is_ok()
            });
            let _ = end.send((all_taken, packers));
        });
        // Without an end nobody would wait for the runtime either.
        let waited = ended.recv_timeout(Duration::from_mins(2));
        let Ok((all_taken, packers)) = waited else {
            runtime.shutdown_background();
            panic!("it goes on for ever");
        };
        assert!(!all_taken, "nobody was told that nothing is stored");
        let finished = runtime.block_on(packers.finish());
        assert!(matches!(finished, Err(PipelineError::Store(_))));
    }

    /// Bytes that do not compress.
    fn noise() -> Vec<u8> {
        let mut bytes = vec![0; MAX_CHUNK];
        let seed = random().unwrap();
        let mut hash = blake3::Hasher::new_keyed(&seed).finalize_xof();
        hash.fill(&mut bytes);
        bytes
    }
}
