//! From files to stored packs: read, cut, name, drop what is known, compress, seal, upload.
//! Reading is the caller's thread; packing has up to two more; memory is bounded by the channels between.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::chunker::{Chunking, MAX_CHUNK};
use super::commit::ObjectRef;
use super::id::ChunkId;
use super::index::{Content, Located};
use super::names::ObjectNames;
use super::pack::{PackBuilder, PackError, Place, SealedPack};
use super::seal::{ChunkIdKey, Recipient};
use crate::failpoint;
use crate::host::clone::next_data;
use crate::object_store::{ObjectStore, StoreError};

/// Files up to this size are one chunk and are read at once.
const SMALL_FILE: u64 = 64 << 10;
/// Chunks go to the packers in groups of about this many bytes …
const GROUP_BYTES: usize = 1 << 20;
/// … and as many wait.
const GROUPS_WAITING: usize = 4;
/// A second packer starts after this much new data, so that a small delta is one pack.
const SECOND_PACKER: u64 = 24 << 20;
/// Packs on their way at the same time.
const UPLOADS: usize = 3;
/// Read buffer; several of the largest chunks.
const BUFFER: usize = 4 * MAX_CHUNK;

/// Why data could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Compressing or sealing failed.
    #[error("a pack could not be made")]
    Pack(#[source] PackError),
    /// Uploading failed.
    #[error("a pack could not be stored")]
    Store(#[source] StoreError),
    /// A worker died.
    #[error("a worker of the backup stopped unexpectedly")]
    Worker(#[source] tokio::task::JoinError),
    /// A worker stopped; [`Pipeline::finish`] says why.
    #[error("the backup's workers have stopped")]
    Stopped,
}

/// A pack that is stored, and what is in it.
#[derive(Debug)]
pub struct StoredPack {
    /// Its object.
    pub object: ObjectRef,
    /// Its chunks.
    pub chunks: Vec<(ChunkId, Place)>,
}

#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    chunks: Vec<(ChunkId, usize)>,
}

struct Packers {
    groups: Arc<Mutex<Receiver<Group>>>,
    packs: mpsc::Sender<SealedPack>,
    recipient: Recipient,
    level: i32,
    tasks: Vec<JoinHandle<Result<(), PipelineError>>>,
}

/// Takes files and stores what is new in them.
pub struct Pipeline {
    key: ChunkIdKey,
    known: HashMap<ChunkId, Located>,
    pending: HashSet<ChunkId>,
    group: Group,
    queue: SyncSender<Group>,
    packers: Packers,
    uploader: JoinHandle<Result<Vec<StoredPack>, StoreError>>,
    buffer: Vec<u8>,
    /// Bytes of new chunks so far.
    new_bytes: u64,
}

impl Pipeline {
    /// Starts the uploader and one packer on the current runtime.
    pub fn start(
        key: ChunkIdKey,
        recipient: Recipient,
        known: HashMap<ChunkId, Located>,
        store: Arc<dyn ObjectStore>,
        names: ObjectNames,
        level: i32,
    ) -> Self {
        let (queue, groups) = sync_channel(GROUPS_WAITING);
        let (packs, sealed) = mpsc::channel(1);
        let uploader = tokio::spawn(upload(sealed, store, names));
        let groups = Arc::new(Mutex::new(groups));
        let mut packers = Packers {
            groups,
            packs,
            recipient,
            level,
            tasks: Vec::new(),
        };
        packers.start_one();
        Self {
            key,
            known,
            pending: HashSet::new(),
            group: Group::default(),
            queue,
            packers,
            uploader,
            buffer: Vec::new(),
            new_bytes: 0,
        }
    }

    /// Reads the first `size` bytes of `file`; `None` if it turns out to be shorter.
    ///
    /// Blocks while the packers are behind.
    ///
    /// # Errors
    /// The outer error is the pipeline's, the inner one the file's.
    pub fn read(
        &mut self,
        file: &File,
        size: u64,
    ) -> Result<io::Result<Option<Vec<Content>>>, PipelineError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = if size <= SMALL_FILE {
            self.read_small(file, size, &mut buffer)
        } else {
            buffer.resize(BUFFER, 0);
            self.read_large(file, size, &mut buffer)
        };
        self.buffer = buffer;
        match result {
            Ok(content) => Ok(Ok(content)),
            Err(Stop::File(error)) => Ok(Err(error)),
            Err(Stop::Pipeline(error)) => Err(error),
        }
    }

    fn read_small(
        &mut self,
        file: &File,
        size: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Vec<Content>>, Stop> {
        let size = usize::try_from(size).unwrap_or_default();
        buffer.resize(size.max(buffer.len()), 0);
        if fill(file, &mut buffer[..size], 0)? < size {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some(Vec::new()));
        }
        Ok(Some(vec![self.chunk(&buffer[..size])?]))
    }

    fn read_large(
        &mut self,
        file: &File,
        size: u64,
        buffer: &mut [u8],
    ) -> Result<Option<Vec<Content>>, Stop> {
        let mut magic = [0; Chunking::MAGIC];
        fill(file, &mut magic, 0)?;
        let chunking = Chunking::for_start(&magic);
        let mut content = Vec::new();
        let mut position = 0;
        while let Some((start, end)) = next_data(file, position, size)? {
            if start > position {
                content.push(Content::Hole(start - position));
            }
            if !self.read_run(file, (start, end), chunking, buffer, &mut content)? {
                return Ok(None);
            }
            position = end;
        }
        if position < size {
            content.push(Content::Hole(size - position));
        }
        Ok(Some(content))
    }

    /// Reads one run of data; `false` if the file ends in it.
    fn read_run(
        &mut self,
        file: &File,
        (start, end): (u64, u64),
        chunking: Chunking,
        buffer: &mut [u8],
        content: &mut Vec<Content>,
    ) -> Result<bool, Stop> {
        // `buffer[..filled]` is what was read and not yet cut; it begins at `offset`.
        let (mut offset, mut filled) = (start, 0);
        loop {
            let left = end - offset - filled as u64;
            let want = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len() - filled);
            if fill(
                file,
                &mut buffer[filled..filled + want],
                offset + filled as u64,
            )? < want
            {
                return Ok(false);
            }
            filled += want;
            let is_last = want as u64 == left;
            let mut cut = 0;
            while cut < filled && (is_last || filled - cut >= MAX_CHUNK) {
                let length = chunking.cut(&buffer[cut..filled], offset + cut as u64);
                content.push(self.chunk(&buffer[cut..cut + length])?);
                cut += length;
            }
            if is_last {
                return Ok(true);
            }
            buffer.copy_within(cut..filled, 0);
            filled -= cut;
            offset += cut as u64;
        }
    }

    fn chunk(&mut self, bytes: &[u8]) -> Result<Content, PipelineError> {
        let id = self.key.id(bytes);
        if !self.known.contains_key(&id) {
            self.push(id, bytes)?;
        }
        // A chunk is at most MAX_CHUNK long.
        Ok(Content::Chunk(
            id,
            u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        ))
    }

    fn push(&mut self, id: ChunkId, bytes: &[u8]) -> Result<(), PipelineError> {
        if self.pending.insert(id) {
            if self.group.bytes.len() + bytes.len() > GROUP_BYTES {
                self.send_group()?;
            }
            self.new_bytes += bytes.len() as u64;
            self.group.bytes.extend_from_slice(bytes);
            self.group.chunks.push((id, bytes.len()));
        }
        Ok(())
    }

    /// Whether there was anything new to store.
    pub fn has_new(&self) -> bool {
        self.new_bytes > 0
    }

    /// Where a chunk was before this pipeline began.
    pub fn located(&self, id: &ChunkId) -> Option<Located> {
        self.known.get(id).copied()
    }

    /// Stores a known chunk once more, in a new pack, if these are its bytes.
    ///
    /// # Errors
    /// The pipeline has stopped.
    pub fn store_again(&mut self, id: ChunkId, bytes: &[u8]) -> Result<(), PipelineError> {
        if self.key.id(bytes) == id {
            self.push(id, bytes)?;
        }
        Ok(())
    }

    fn send_group(&mut self) -> Result<(), PipelineError> {
        if self.group.chunks.is_empty() {
            return Ok(());
        }
        if self.new_bytes > SECOND_PACKER && self.packers.tasks.len() < 2 {
            self.packers.start_one();
        }
        let group = std::mem::take(&mut self.group);
        self.group.bytes.reserve(GROUP_BYTES);
        self.queue.send(group).map_err(|_| PipelineError::Stopped)
    }

    /// Waits until everything is stored.
    ///
    /// # Errors
    /// The first worker's error.
    pub async fn finish(mut self) -> Result<Finished, PipelineError> {
        let sent = tokio::task::spawn_blocking(move || {
            let sent = self.send_group();
            (self, sent)
        });
        let (this, sent) = sent.await.map_err(PipelineError::Worker)?;
        let Self {
            known,
            queue,
            packers,
            uploader,
            ..
        } = this;
        drop(queue);
        let Packers {
            packs,
            tasks,
            groups,
            ..
        } = packers;
        drop((packs, groups));
        let mut packed = Ok(());
        for task in tasks {
            let result = task.await.map_err(PipelineError::Worker).flatten();
            packed = packed.and(result);
        }
        // A packer that finds the uploader gone only says that it stopped; the uploader knows why.
        let stored = uploader.await.map_err(PipelineError::Worker)?;
        let stored = stored.map_err(PipelineError::Store)?;
        packed.and(sent)?;
        Ok(Finished { known, stored })
    }
}

/// What a pipeline leaves.
pub struct Finished {
    /// The chunks that were known before.
    pub known: HashMap<ChunkId, Located>,
    /// The new packs.
    pub stored: Vec<StoredPack>,
}

enum Stop {
    File(io::Error),
    Pipeline(PipelineError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl From<PipelineError> for Stop {
    fn from(error: PipelineError) -> Self {
        Self::Pipeline(error)
    }
}

/// Reads until `buffer` is full or the file ends; gives how much.
fn fill(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Packers {
    fn start_one(&mut self) {
        let groups = Arc::clone(&self.groups);
        let (packs, recipient, level) = (self.packs.clone(), self.recipient.clone(), self.level);
        self.tasks.push(tokio::task::spawn_blocking(move || {
            pack(&groups, &packs, &recipient, level)
        }));
    }
}

fn pack(
    groups: &Mutex<Receiver<Group>>,
    packs: &mpsc::Sender<SealedPack>,
    recipient: &Recipient,
    level: i32,
) -> Result<(), PipelineError> {
    let mut builder = PackBuilder::new(level).map_err(PipelineError::Pack)?;
    let seal = |builder: &mut PackBuilder| {
        let sealed = builder.seal(recipient).map_err(PipelineError::Pack)?;
        packs
            .blocking_send(sealed)
            .map_err(|_| PipelineError::Stopped)
    };
    loop {
        // A receiver has no state that a panic elsewhere could break.
        let next = groups.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(group) = next else { break };
        let mut rest = group.bytes.as_slice();
        for (id, length) in group.chunks {
            let (chunk, tail) = rest.split_at(length);
            rest = tail;
            if !builder.has_room(length) {
                seal(&mut builder)?;
            }
            builder.push(id, chunk).map_err(PipelineError::Pack)?;
        }
    }
    if builder.is_empty() {
        Ok(())
    } else {
        seal(&mut builder)
    }
}

async fn upload(
    sealed: mpsc::Receiver<SealedPack>,
    store: Arc<dyn ObjectStore>,
    names: ObjectNames,
) -> Result<Vec<StoredPack>, StoreError> {
    stream::unfold(sealed, async |mut sealed| {
        Some((sealed.recv().await?, sealed))
    })
    .map(|pack| {
        let store = Arc::clone(&store);
        async move {
            let object = ObjectRef {
                sha256: pack.digest,
                size: pack.bytes.len() as u64,
            };
            store
                .put(&names.pack(&pack.digest), Bytes::from(pack.bytes))
                .await?;
            failpoint::hit("backup.after-pack-put");
            Ok(StoredPack {
                object,
                chunks: pack.chunks,
            })
        }
    })
    .buffer_unordered(UPLOADS)
    .try_collect()
    .await
}
