//! From files to new chunks: read, cut, name, drop what is known. Reading is the caller's thread;
//! what becomes of the chunks is `packers`'.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::chunker::{BlockSize, Chunking, MAX_CHUNK};
use super::id::ChunkId;
use super::index::{Content, Located};
use super::names::ObjectNames;
use super::pack::PackError;
use super::packers::{Group, Packers, StoredPack};
use super::repository::RepositorySpec;
use super::seal::ChunkIdKey;
use crate::host::clone::next_data;
use crate::object_store::{ObjectStore, StoreError};

/// Files up to this size are one chunk and are read at once.
pub const SMALL_FILE: u64 = 64 << 10;
/// Chunks go to the packers in groups of about this many bytes.
const GROUP_BYTES: usize = 1 << 20;
/// A second packer starts after this much new data, so that a small delta is one pack.
const SECOND_PACKER: u64 = 24 << 20;
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

/// Takes files and stores what is new in them.
pub struct Pipeline {
    key: ChunkIdKey,
    block: BlockSize,
    known: HashMap<ChunkId, Located>,
    pending: HashSet<ChunkId>,
    group: Group,
    packers: Packers,
    buffer: Vec<u8>,
    /// Bytes of new chunks so far.
    new_bytes: u64,
}

impl Pipeline {
    /// Starts the uploader and one packer on the current runtime.
    pub fn start(
        spec: &RepositorySpec,
        known: HashMap<ChunkId, Located>,
        store: Arc<dyn ObjectStore>,
        names: ObjectNames,
        level: i32,
    ) -> Self {
        let packers = Packers::start(spec.recipient.clone(), store, names, level);
        Self {
            key: spec.chunk_id_key.clone(),
            block: spec.database_block,
            known,
            pending: HashSet::new(),
            group: Group::default(),
            packers,
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
        Ok(Some(self.take(&buffer[..size])?))
    }

    /// Takes the whole content of a file of at most [`SMALL_FILE`] bytes.
    ///
    /// # Errors
    /// The pipeline has stopped.
    pub fn take(&mut self, content: &[u8]) -> Result<Vec<Content>, PipelineError> {
        if content.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![self.chunk(content)?])
    }

    fn read_large(
        &mut self,
        file: &File,
        size: u64,
        buffer: &mut [u8],
    ) -> Result<Option<Vec<Content>>, Stop> {
        let mut magic = [0; Chunking::MAGIC];
        fill(file, &mut magic, 0)?;
        let chunking = Chunking::for_start(&magic, self.block);
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
        if self.new_bytes > SECOND_PACKER {
            self.packers.help();
        }
        let group = std::mem::take(&mut self.group);
        self.group.bytes.reserve(GROUP_BYTES);
        self.packers.take(group)
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
        let stored = this.packers.finish().await?;
        sent?;
        Ok(Finished {
            known: this.known,
            stored,
        })
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
