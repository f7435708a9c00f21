//! From files to new chunks: read, cut, name, drop what is known, put what is small together. Reading is the caller's
//! thread; what becomes of the chunks is `packers`'.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::blocks::{self, Earlier, Run};
use super::chunker::{Chunking, MAX_CHUNK};
use super::extents::{Extent, Extents};
use super::file_record::{Content, Held};
use super::id::ChunkId;
use super::names::ObjectNames;
use super::pack::PackError;
use super::packers::{Group, Packers, StoredPack};
use super::repository::RepositorySpec;
use super::seal::ChunkIdKey;
use crate::host::clone::next_data;
use crate::object_store::{ObjectStore, StoreError};

/// Files up to this size are read at once.
pub const SMALL_FILE: u64 = 64 << 10;
/// What is no longer than this shares a chunk with others, in bytes …
const SMALL: usize = 64 << 10;
/// … up to so many together: what is near each other compresses better together, and takes one entry of a pack and one id
/// in a tree; but all of it is decompressed for any of it. `docs/decisions/0024` has the figures.
const SHARED: usize = 256 << 10;
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
    extents: Extents,
    shared: Shared,
    group: Group,
    packers: Packers,
    buffer: Vec<u8>,
    /// Bytes that were new so far.
    new_bytes: u64,
}

/// The chunk that small extents are put into.
#[derive(Default)]
struct Shared {
    bytes: Vec<u8>,
    /// Its number; it means something as long as there are bytes.
    chunk: u32,
}

impl Pipeline {
    /// Starts the uploader and one packer on the current runtime.
    pub fn start(
        spec: &RepositorySpec,
        extents: Extents,
        store: Arc<dyn ObjectStore>,
        names: ObjectNames,
        level: i32,
    ) -> Self {
        let packers = Packers::start(spec.recipient.clone(), store, names, level);
        Self {
            key: spec.chunk_id_key.clone(),
            extents,
            shared: Shared::default(),
            group: Group::default(),
            packers,
            buffer: Vec::new(),
            new_bytes: 0,
        }
    }

    /// Reads the first `size` bytes of `file`; `None` if it turns out to be shorter. What an `earlier` snapshot
    /// read of it may save storing what has not changed, and is not needed.
    ///
    /// Blocks while the packers are behind.
    ///
    /// # Errors
    /// The outer error is the pipeline's, the inner one the file's.
    pub fn read(
        &mut self,
        file: &File,
        size: u64,
        earlier: Option<&Held>,
    ) -> Result<io::Result<Option<Held>>, PipelineError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = if size <= SMALL_FILE {
            self.read_small(file, size, &mut buffer)
        } else {
            buffer.resize(BUFFER, 0);
            self.read_large(file, size, earlier, &mut buffer)
        };
        self.buffer = buffer;
        match result {
            Ok(held) => Ok(Ok(held)),
            Err(Stop::File(error)) => Ok(Err(error)),
            Err(Stop::Pipeline(error)) => Err(error),
        }
    }

    fn read_small(
        &mut self,
        file: &File,
        size: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Held>, Stop> {
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
    pub fn take(&mut self, content: &[u8]) -> Result<Held, PipelineError> {
        let mut held = Held::default();
        if !content.is_empty() {
            held.content = [self.extent(content)?].into();
        }
        Ok(held)
    }

    fn read_large(
        &mut self,
        file: &File,
        size: u64,
        earlier: Option<&Held>,
        buffer: &mut [u8],
    ) -> Result<Option<Held>, Stop> {
        let mut magic = [0; Chunking::MAGIC];
        fill(file, &mut magic, 0)?;
        let none = Held::default();
        let mut reading = Reading {
            file,
            chunking: Chunking::for_start(&magic),
            earlier: Earlier::new(earlier.unwrap_or(&none)),
            content: Vec::new(),
            pages: Vec::new(),
        };
        let mut position = 0;
        while let Some((start, end)) = next_data(file, position, size)? {
            if start > position {
                reading.content.push(Content::Hole(start - position));
            }
            if !self.read_run(&mut reading, (start, end), buffer)? {
                return Ok(None);
            }
            position = end;
        }
        if position < size {
            reading.content.push(Content::Hole(size - position));
        }
        Ok(Some(Held {
            content: reading.content.into(),
            pages: reading.pages.into(),
        }))
    }

    /// Reads one run of data; `false` if the file ends in it.
    fn read_run(
        &mut self,
        reading: &mut Reading<'_>,
        (start, end): (u64, u64),
        buffer: &mut [u8],
    ) -> Result<bool, Stop> {
        // `buffer[..filled]` is what was read and not yet cut; it begins at `offset`.
        let (mut offset, mut filled) = (start, 0);
        loop {
            let left = end - offset - filled as u64;
            let want = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len() - filled);
            let read = fill(
                reading.file,
                &mut buffer[filled..filled + want],
                offset + filled as u64,
            )?;
            if read < want {
                return Ok(false);
            }
            filled += want;
            let is_last = want as u64 == left;
            let mut cut = 0;
            while cut < filled && (is_last || filled - cut >= MAX_CHUNK) {
                let at = offset + cut as u64;
                let length = reading.chunking.cut(&buffer[cut..filled], at);
                let bytes = &buffer[cut..cut + length];
                match reading.chunking {
                    Chunking::Content => {
                        let extent = self.extent(bytes)?;
                        reading.content.push(extent);
                    }
                    Chunking::Blocks => self.block(reading, bytes, at)?,
                }
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

    /// Takes a block of a database, which is at `start` of the file.
    fn block(
        &mut self,
        reading: &mut Reading<'_>,
        bytes: &[u8],
        start: u64,
    ) -> Result<(), PipelineError> {
        if !start.is_multiple_of(blocks::PAGE as u64) {
            // A hole that ends within a page: there are file systems with smaller blocks.
            reading.content.push(self.extent(bytes)?);
            return Ok(());
        }
        let hashes = blocks::page_hashes(&self.key, bytes);
        let runs = blocks::changes(&mut reading.earlier, start, bytes.len(), &hashes);
        for run in runs.unwrap_or_else(|| vec![Run::Changed(0..bytes.len())]) {
            match run {
                Run::Same(same) => reading.content.extend(same),
                Run::Changed(range) => reading.content.push(self.extent(&bytes[range])?),
            }
        }
        // Pages in holes have no hash.
        let first = usize::try_from(start / blocks::PAGE as u64).unwrap_or(usize::MAX);
        reading.pages.resize(first.max(reading.pages.len()), 0);
        reading.pages.truncate(first);
        reading.pages.extend(hashes);
        Ok(())
    }

    /// What holds these bytes from now on, and was stored if nothing did.
    fn extent(&mut self, bytes: &[u8]) -> Result<Content, PipelineError> {
        let id = self.key.id(bytes);
        let extent = match self.extents.find(id.into()) {
            Some(known) => known,
            None => self.store(id, bytes)?,
        };
        Ok(Content::Extent {
            extent,
            skip: 0,
            take: small(bytes.len()),
        })
    }

    /// Stores bytes, of which nothing is known or which are to move, and gives the number of their extent.
    fn store(&mut self, id: ChunkId, bytes: &[u8]) -> Result<u32, PipelineError> {
        self.new_bytes += bytes.len() as u64;
        let (chunk, skip) = if bytes.len() > SMALL {
            let chunk = self.extents.begin_chunk();
            self.extents.name_chunk(chunk, id);
            self.push(chunk, id, bytes)?;
            (chunk, 0)
        } else {
            if self.shared.bytes.len() + bytes.len() > SHARED {
                self.end_shared()?;
            }
            if self.shared.bytes.is_empty() {
                self.shared.chunk = self.extents.begin_chunk();
            }
            let skip = self.shared.bytes.len();
            self.shared.bytes.extend_from_slice(bytes);
            (self.shared.chunk, skip)
        };
        Ok(self.extents.put(Extent {
            id: id.into(),
            chunk,
            skip: small(skip),
            length: small(bytes.len()),
        }))
    }

    fn end_shared(&mut self) -> Result<(), PipelineError> {
        let mut bytes = std::mem::take(&mut self.shared.bytes);
        if !bytes.is_empty() {
            let id = self.key.id(&bytes);
            self.extents.name_chunk(self.shared.chunk, id);
            self.push(self.shared.chunk, id, &bytes)?;
        }
        bytes.clear();
        self.shared.bytes = bytes;
        Ok(())
    }

    fn push(&mut self, chunk: u32, id: ChunkId, bytes: &[u8]) -> Result<(), PipelineError> {
        if self.group.bytes.len() + bytes.len() > GROUP_BYTES {
            self.send_group()?;
        }
        self.group.bytes.extend_from_slice(bytes);
        self.group.chunks.push((chunk, id, bytes.len()));
        Ok(())
    }

    /// Whether there was anything new to store.
    pub fn has_new(&self) -> bool {
        self.new_bytes > 0
    }

    /// What is known so far.
    pub fn extents(&self) -> &Extents {
        &self.extents
    }

    /// Stores the whole of an extent once more, in a new pack, if these are its bytes; says whether they were.
    ///
    /// # Errors
    /// The pipeline has stopped.
    pub fn store_again(&mut self, extent: u32, bytes: &[u8]) -> Result<bool, PipelineError> {
        let id = self.key.id(bytes);
        let known = self.extents.extent(extent);
        if !known.is_some_and(|extent| extent.id == id.into()) {
            return Ok(false);
        }
        self.store(id, bytes)?;
        Ok(true)
    }

    /// Stores a run of pages of a database, in a new pack, if they have these hashes, and gives what holds them.
    ///
    /// # Errors
    /// The pipeline has stopped.
    pub fn store_pages(
        &mut self,
        pages: &[u64],
        bytes: &[u8],
    ) -> Result<Option<Content>, PipelineError> {
        if blocks::page_hashes(&self.key, bytes) != pages {
            return Ok(None);
        }
        self.extent(bytes).map(Some)
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
            let sent = self.end_shared().and_then(|()| self.send_group());
            (self, sent)
        });
        let (this, sent) = sent.await.map_err(PipelineError::Worker)?;
        let stored = this.packers.finish().await?;
        sent?;
        Ok(Finished {
            extents: this.extents,
            stored,
        })
    }
}

/// What a pipeline leaves.
pub struct Finished {
    /// What is known; the new chunks have no place yet.
    pub extents: Extents,
    /// The new packs.
    pub stored: Vec<StoredPack>,
}

/// A large file that is being read.
struct Reading<'a> {
    file: &'a File,
    chunking: Chunking,
    earlier: Earlier<'a>,
    content: Vec<Content>,
    pages: Vec<u64>,
}

/// Nothing is longer than a chunk.
fn small(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
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
