//! One pack of a restore: fetched whole or by ranges, checked, and written.
//! It decides nothing about which files there are; that is the plan of `restore`.

use std::sync::Arc;

use bytes::Bytes;

use super::commit::ObjectRef;
use super::id::ChunkId;
use super::pack::{MAX_PACK, OpenPack, PackError, Place};
use super::path;
use super::progress::Progress;
use super::ranges::Access;
use super::remote::RemoteRepository;
use super::restore::RestoreError;
use super::restore_files::Target;
use super::seal::RepositoryKeys;

/// Bytes of a chunk to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Write {
    /// Number of the entry whose file it is part of.
    pub entry: u32,
    /// Where in the file.
    pub offset: u64,
    /// Where in the pack the chunk is.
    pub place: Place,
    /// The chunk's id.
    pub id: ChunkId,
    /// Which of its bytes: from here …
    pub skip: u32,
    /// … so many.
    pub take: u32,
}

/// Everything that one pack gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PackJob {
    /// The pack.
    pub pack: ObjectRef,
    /// What is to be written, file by file.
    pub writes: Vec<Write>,
}

impl PackJob {
    /// How to read it.
    pub fn access(&self) -> Access {
        Access::plan(self.pack.size, self.writes.iter().map(|write| write.place))
    }
}

/// Where the files of a restore go, and what that takes.
#[derive(Clone)]
pub(super) struct Sink {
    /// The directory.
    pub target: Arc<Target>,
    /// What opens packs and names chunks.
    pub keys: RepositoryKeys,
    /// Told how far it is.
    pub progress: Arc<dyn Progress>,
}

impl Sink {
    /// Fetches and writes one pack; gives how many bytes were fetched.
    ///
    /// Ranges of an object can be checked only by what is in them. Where that does not fit, or a range cannot be had,
    /// nothing of it is used: the whole object is read, whose digest tells which version of it is the right one.
    pub async fn fill(self, remote: &RemoteRepository, job: PackJob) -> Result<u64, RestoreError> {
        let access = job.access();
        let mut fetched = 0;
        let mut job = job;
        if let Access::Spans(_) = access {
            let pieces = remote.read_ranges(job.pack, &access.requests()).await;
            if let Some(pieces) = pieces.map_err(RestoreError::Remote)? {
                fetched += total(&pieces);
                let sink = self.clone();
                match blocking(move || sink.write_ranges(job, &access, &pieces)).await? {
                    None => return Ok(fetched),
                    Some(back) => job = back,
                }
            }
        }
        let name = remote.names().pack(&job.pack.sha256);
        let sealed = remote
            .read_object(&name, job.pack, MAX_PACK as u64)
            .await
            .map_err(RestoreError::Remote)?;
        fetched += sealed.len() as u64;
        blocking(move || self.write_whole(&job, sealed)).await?;
        Ok(fetched)
    }

    /// Writes what the pieces of a pack give, or gives the job back if they do not give all of it.
    fn write_ranges(
        &self,
        job: PackJob,
        access: &Access,
        pieces: &[(u64, Bytes)],
    ) -> Result<Option<PackJob>, RestoreError> {
        let Access::Spans(spans) = access else {
            return Ok(Some(job));
        };
        // Before the first byte is written: a file that was made cannot be made again.
        let open = OpenPack::open_spans(&self.keys.identity, pieces, spans)
            .ok()
            .filter(|open| self.has_all(open, &job));
        let Some(open) = open else {
            tracing::warn!(
                pack = %job.pack.sha256,
                "ranges of the pack are not what was stored; it is read whole"
            );
            return Ok(Some(job));
        };
        self.write(&job, &open).map(|()| None)
    }

    fn has_all(&self, open: &OpenPack, job: &PackJob) -> bool {
        let Ok(mut decompressor) = zstd::bulk::Decompressor::new() else {
            return false;
        };
        let mut chunk = Vec::new();
        let mut last = None;
        job.writes.iter().all(|write| {
            if last.replace((write.place, write.id)) == Some((write.place, write.id)) {
                return true;
            }
            let read = open.read(&mut decompressor, write.place, &mut chunk);
            read.is_ok() && self.keys.chunk_id_key.id(&chunk) == write.id
        })
    }

    fn write_whole(&self, job: &PackJob, sealed: Bytes) -> Result<(), RestoreError> {
        let Some(first) = job.writes.first() else {
            return Ok(());
        };
        let open = OpenPack::open(&self.keys.identity, &sealed)
            .map_err(|source| self.failed(job, first, source))?;
        // A pack less in memory while its files are written.
        drop(sealed);
        self.write(job, &open)
    }

    /// Writes all that an open pack gives.
    fn write(&self, job: &PackJob, open: &OpenPack) -> Result<(), RestoreError> {
        let mut chunk = Vec::new();
        let mut decompressor = None;
        // Which chunk that is: it may be wanted for the next file, too.
        let mut last = None;
        for writes in job.writes.chunk_by(|a, b| a.entry == b.entry) {
            let file = self
                .target
                .open(writes[0].entry)
                .map_err(RestoreError::Files)?;
            for write in writes {
                let decompressor = match &mut decompressor {
                    Some(decompressor) => decompressor,
                    empty => empty
                        .insert(zstd::bulk::Decompressor::new().map_err(|error| {
                            self.failed(job, write, PackError::Compress(error))
                        })?),
                };
                if last.replace((write.place, write.id)) != Some((write.place, write.id)) {
                    open.read(decompressor, write.place, &mut chunk)
                        .map_err(|source| self.failed(job, write, source))?;
                    if self.keys.chunk_id_key.id(&chunk) != write.id {
                        return Err(RestoreError::Chunk {
                            pack: job.pack.sha256,
                            path: path::show(self.target.path(write.entry)),
                        });
                    }
                }
                // The tree's reader has checked that the chunk is as long.
                let bytes = write.skip as usize..(write.skip as usize + write.take as usize);
                let bytes = chunk.get(bytes).unwrap_or_default();
                file.write(write.offset, bytes)
                    .map_err(RestoreError::Files)?;
                self.progress.bytes(bytes.len() as u64);
            }
            if file.close().map_err(RestoreError::Files)? {
                self.progress.files(1);
            }
        }
        Ok(())
    }

    fn failed(&self, job: &PackJob, write: &Write, source: PackError) -> RestoreError {
        RestoreError::Pack {
            pack: job.pack.sha256,
            path: path::show(self.target.path(write.entry)),
            source,
        }
    }
}

fn total(pieces: &[(u64, Bytes)]) -> u64 {
    pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RestoreError> + Send + 'static,
) -> Result<T, RestoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(RestoreError::Worker)?
}
