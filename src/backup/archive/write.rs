//! Writes a snapshot as an archive, pack after pack, without a copy on the disk.
//! Every pack and every chunk is checked before its bytes go out.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use tar::{EntryType, Header};
use tokio::sync::mpsc;

use super::shelf::{Shelf, fetches};
use super::{ABOUT, About, SPEC, STATE, XATTR};
use crate::backup::commit::{ObjectRef, SignedCommit};
use crate::backup::entry::{Entry, EntryKind, Metadata, Piece};
use crate::backup::id::{ChunkId, Digest};
use crate::backup::pack::{MAX_PACK, OpenPack, PackError, Place};
use crate::backup::path;
use crate::backup::progress::{Progress, Stage};
use crate::backup::remote::{RemoteError, RemoteRepository};
use crate::backup::seal::RepositoryKeys;

/// Packs that are fetched ahead.
const AHEAD: usize = 2;
/// How hard the archive is compressed.
const LEVEL: i32 = 3;
/// Bytes of a name or target in the old header; longer ones are in the pax header.
const OLD_NAME: usize = 100;
/// The first size that has no room in the old header's eleven octal digits.
const OLD_SIZE: u64 = 1 << 33;
/// The first id that has no room in the old header's seven octal digits.
const OLD_ID: u32 = 1 << 21;

/// Why there is no whole archive.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The snapshot.
    #[error("the snapshot could not be read; the archive is not whole")]
    Remote(#[source] RemoteError),
    /// A pack.
    #[error("a pack does not hold what the tree says of {path:?}; the archive is not whole")]
    Pack {
        /// The escaped path of a file in it.
        path: String,
        /// Why.
        #[source]
        source: PackError,
    },
    /// A chunk is not the one that the tree names.
    #[error("a chunk of {0:?} is not the one that was backed up; the archive is not whole")]
    Chunk(String),
    /// The archive.
    #[error("the archive cannot be written")]
    Write(#[source] io::Error),
    /// A worker died.
    #[error("a worker of the export stopped unexpectedly")]
    Worker(#[source] tokio::task::JoinError),
}

/// How much went into an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// Files.
    pub files: u64,
    /// Their sizes added up.
    pub bytes: u64,
}

impl RemoteRepository {
    /// Writes a snapshot with its spec to `out`.
    ///
    /// # Errors
    /// See [`ExportError`]; what was written then lacks its end, and every reader sees it.
    pub async fn export<W: Write + Send + 'static>(
        &self,
        commit: &SignedCommit,
        keys: &RepositoryKeys,
        about: &About,
        spec: &str,
        out: W,
        progress: Arc<dyn Progress>,
    ) -> Result<Exported, ExportError> {
        progress.stage(Stage::Verify, None, None);
        let packs = self.packs(commit).await.map_err(ExportError::Remote)?;
        let packs: HashMap<Digest, ObjectRef> =
            packs.into_iter().map(|pack| (pack.sha256, pack)).collect();
        let tree = self.tree(commit, keys).await.map_err(ExportError::Remote)?;
        let mut exported = Exported { files: 0, bytes: 0 };
        for entry in &tree.entries {
            if let EntryKind::File { size, .. } = entry.kind {
                exported.files += 1;
                exported.bytes += size;
            }
        }
        progress.stage(Stage::Export, Some(exported.bytes), Some(exported.files));
        // The tree's reader has checked that the commit names every pack.
        let wanted = fetches(&tree.entries);
        let mut fetched = stream::iter(wanted.iter().filter_map(|pack| packs.get(pack)))
            .map(|pack| async {
                let name = self.names().pack(&pack.sha256);
                self.read_object(&name, *pack, MAX_PACK as u64).await
            })
            .buffered(AHEAD);
        let (sender, receiver) = mpsc::channel(1);
        // Writing text and numbers to memory cannot fail.
        let about_text = serde_json::to_vec_pretty(about).unwrap_or_default();
        let documents = [(ABOUT, about_text), (SPEC, spec.as_bytes().to_vec())];
        let keys = keys.clone();
        let time = about.taken_at.as_second();
        let writer = tokio::task::spawn_blocking(move || {
            let mut archive = Writer::new(out, keys, receiver, progress)?;
            for (name, bytes) in &documents {
                archive.document(name, bytes, time)?;
            }
            for entry in &tree.entries {
                archive.entry(entry)?;
            }
            archive.finish()
        });
        while let Some(pack) = fetched.next().await {
            // Who does not listen any more has failed, and says why below.
            if sender.send(pack).await.is_err() {
                break;
            }
        }
        drop(sender);
        writer.await.map_err(ExportError::Worker)??;
        Ok(exported)
    }
}

struct Writer<W: Write> {
    tar: tar::Builder<zstd::Encoder<'static, W>>,
    content: Content,
    progress: Arc<dyn Progress>,
}

impl<W: Write> Writer<W> {
    fn new(
        out: W,
        keys: RepositoryKeys,
        packs: mpsc::Receiver<Result<Bytes, RemoteError>>,
        progress: Arc<dyn Progress>,
    ) -> Result<Self, ExportError> {
        let mut encoder = zstd::Encoder::new(out, LEVEL).map_err(ExportError::Write)?;
        encoder.include_checksum(true).map_err(ExportError::Write)?;
        let decompressor = zstd::bulk::Decompressor::new().map_err(ExportError::Write)?;
        Ok(Self {
            tar: tar::Builder::new(encoder),
            content: Content {
                keys,
                packs,
                shelf: Shelf::new(),
                decompressor,
                chunk: Vec::new(),
                last: None,
            },
            progress,
        })
    }

    fn document(&mut self, name: &str, bytes: &[u8], time: i64) -> Result<(), ExportError> {
        let mut header = Header::new_ustar();
        put(&mut header, name.as_bytes(), b"");
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(time.try_into().unwrap_or_default());
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        self.tar.append(&header, bytes).map_err(ExportError::Write)
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), ExportError> {
        let head = Head::of(entry);
        if !head.extensions.is_empty() {
            let extensions = head.extensions.iter();
            self.tar
                .append_pax_extensions(extensions.map(|(key, value)| (key.as_str(), &value[..])))
                .map_err(ExportError::Write)?;
        }
        let EntryKind::File { pieces, .. } = &entry.kind else {
            let empty = io::empty();
            return self
                .tar
                .append(&head.header, empty)
                .map_err(ExportError::Write);
        };
        let mut reader = FileReader {
            path: &entry.path,
            pieces: pieces.iter(),
            content: &mut self.content,
            bytes: Vec::new(),
            at: 0,
            hole: 0,
            failed: None,
            progress: self.progress.as_ref(),
        };
        let written = self.tar.append(&head.header, &mut reader);
        if let Some(failed) = reader.failed {
            return Err(failed);
        }
        self.progress.files(1);
        written.map_err(ExportError::Write)
    }

    fn finish(self) -> Result<(), ExportError> {
        let encoder = self.tar.into_inner().map_err(ExportError::Write)?;
        let mut out = encoder.finish().map_err(ExportError::Write)?;
        out.flush().map_err(ExportError::Write)
    }
}

/// The old header of an entry, and what it has no room for.
#[derive(Debug)]
struct Head {
    header: Header,
    extensions: Vec<(String, Vec<u8>)>,
}

impl Head {
    fn of(entry: &Entry) -> Self {
        let name = archived(&entry.path);
        let none = Metadata::default();
        let (kind, metadata, target, size): (_, &Metadata, Vec<u8>, _) = match &entry.kind {
            EntryKind::Directory(metadata) => (EntryType::Directory, metadata, Vec::new(), 0),
            EntryKind::File { metadata, size, .. } => {
                (EntryType::Regular, metadata, Vec::new(), *size)
            }
            EntryKind::Symlink { metadata, target } => {
                (EntryType::Symlink, metadata, target.clone(), 0)
            }
            EntryKind::Hardlink { target } => (EntryType::Link, &none, archived(target), 0),
        };
        let mut header = Header::new_ustar();
        put(&mut header, &name, &target);
        header.set_entry_type(kind);
        header.set_mode(metadata.mode);
        header.set_uid(metadata.uid.into());
        header.set_gid(metadata.gid.into());
        header.set_mtime(metadata.mtime.seconds.try_into().unwrap_or_default());
        header.set_size(size);
        header.set_cksum();

        let mut extensions = Vec::new();
        let mut add = |key: &str, value: Vec<u8>| extensions.push((key.to_owned(), value));
        let odd = |text: &[u8]| text.len() > OLD_NAME || !text.is_ascii();
        if [&name, &target]
            .iter()
            .any(|text| std::str::from_utf8(text).is_err())
        {
            add("hdrcharset", b"BINARY".to_vec());
        }
        if odd(&name) {
            add("path", name);
        }
        if odd(&target) {
            add("linkpath", target);
        }
        if size >= OLD_SIZE {
            add("size", size.to_string().into_bytes());
        }
        for (key, id) in [("uid", metadata.uid), ("gid", metadata.gid)] {
            if id >= OLD_ID {
                add(key, id.to_string().into_bytes());
            }
        }
        if kind != EntryType::Link {
            add("mtime", metadata.mtime.to_string().into_bytes());
        }
        // A key ends at the first `=`; such an attribute cannot be archived.
        for (name, value) in metadata
            .xattrs
            .iter()
            .filter(|(name, _)| !name.contains('='))
        {
            add(&format!("{XATTR}{name}"), value.clone());
        }
        Self { header, extensions }
    }
}

/// Writes as much of name and target as the old header takes.
fn put(header: &mut Header, name: &[u8], target: &[u8]) {
    let old = header.as_old_mut();
    for (field, text) in [(&mut old.name, name), (&mut old.linkname, target)] {
        let length = text.len().min(OLD_NAME);
        field[..length].copy_from_slice(&text[..length]);
    }
}

/// A path of the snapshot as the archive names it.
fn archived(path: &[u8]) -> Vec<u8> {
    if path == path::ROOT {
        return STATE.as_bytes().to_vec();
    }
    [STATE.as_bytes(), b"/", path].concat()
}

/// Where the bytes of chunks come from.
struct Content {
    keys: RepositoryKeys,
    packs: mpsc::Receiver<Result<Bytes, RemoteError>>,
    shelf: Shelf<OpenPack>,
    decompressor: zstd::bulk::Decompressor<'static>,
    /// The chunk that was read last …
    chunk: Vec<u8>,
    /// … and which that is: the next piece is often of the same.
    last: Option<(Digest, Place, ChunkId)>,
}

impl Content {
    /// The bytes of a piece.
    fn read(&mut self, path: &[u8], piece: &Piece) -> Result<&[u8], ExportError> {
        let Piece::Chunk {
            pack,
            place,
            id,
            skip,
            take,
        } = piece
        else {
            return Ok(&[]);
        };
        let wanted = Some((*pack, *place, *id));
        if self.last != wanted {
            self.last = None;
            self.chunk(path, *pack, *place, *id)?;
            self.last = wanted;
        }
        // The tree's reader has checked that the chunk is as long.
        let bytes = *skip as usize..(*skip as usize + *take as usize);
        Ok(self.chunk.get(bytes).unwrap_or_default())
    }

    fn chunk(
        &mut self,
        path: &[u8],
        pack: Digest,
        place: Place,
        id: ChunkId,
    ) -> Result<(), ExportError> {
        let failed = |source| ExportError::Pack {
            path: path::show(path),
            source,
        };
        if !self.shelf.touch(pack) {
            // Fetched in this very order; nothing comes after the first failure.
            let gone = || ExportError::Write(io::ErrorKind::UnexpectedEof.into());
            let sealed = self.packs.blocking_recv().ok_or_else(gone)?;
            let sealed = sealed.map_err(ExportError::Remote)?;
            let open = OpenPack::open(&self.keys.identity, &sealed).map_err(failed)?;
            self.shelf.put(pack, open);
        }
        if let Some(open) = self.shelf.last() {
            open.read(&mut self.decompressor, place, &mut self.chunk)
                .map_err(failed)?;
        }
        if self.keys.chunk_id_key.id(&self.chunk) != id {
            return Err(ExportError::Chunk(path::show(path)));
        }
        Ok(())
    }
}

/// A file's bytes, one after the other.
struct FileReader<'a> {
    path: &'a [u8],
    pieces: std::slice::Iter<'a, Piece>,
    content: &'a mut Content,
    bytes: Vec<u8>,
    at: usize,
    hole: u64,
    failed: Option<ExportError>,
    progress: &'a dyn Progress,
}

impl Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.bytes.len() && self.hole == 0 {
            let Some(piece) = self.pieces.next() else {
                return Ok(0);
            };
            self.progress.bytes(piece.length());
            if let Piece::Hole(length) = piece {
                self.hole = *length;
                continue;
            }
            match self.content.read(self.path, piece) {
                Ok(bytes) => {
                    self.bytes.clear();
                    self.bytes.extend_from_slice(bytes);
                }
                Err(error) => {
                    self.failed = Some(error);
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            self.at = 0;
        }
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            let hole = usize::try_from(self.hole).unwrap_or(usize::MAX);
            let length = buffer.len().min(hole);
            buffer[..length].fill(0);
            self.hole -= length as u64;
            return Ok(length);
        }
        let length = buffer.len().min(rest.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.at += length;
        Ok(length)
    }
}
