//! Puts together what was found, what was read and where it is stored: the tree's text and the next index.
//! Pure: the same input gives the same bytes.

use std::collections::HashSet;

use super::capture::Records;
use super::commit::ObjectRef;
use super::entry::{Entry, EntryKind, Metadata, Piece};
use super::extents::{Extents, Located};
use super::file_record::{Content, FileRecord};
use super::id::{ChunkId, RepositoryId};
use super::index::Index;
use super::path;
use super::pipeline::Finished;
use super::scan::{FoundKind, Scan};
use super::seal::ChunkIdKey;
use super::tree::{Labels, TreeError, TreeWriter};

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file's content refers to a chunk that is nowhere.
    #[error(
        "the local index has lost a chunk of {path:?}; remove the file `index` of the repository's directory and back up again"
    )]
    Lost {
        /// The file's escaped path.
        path: String,
    },
    /// Nobody could read it.
    #[error("there is more to back up than one snapshot holds; put some of it elsewhere")]
    TooLarge(#[source] TreeError),
    /// Whoever takes the parts wants no more.
    #[error("nobody takes the tree")]
    Stopped,
}

/// A part of a tree: the keyed hash of its text, and the text.
pub type Part = (ChunkId, Vec<u8>);

/// What a tree is of.
pub struct Subject {
    /// Its repository.
    pub repository: RepositoryId,
    /// Its labels.
    pub labels: Labels,
    /// The key of its parts' hashes.
    pub key: ChunkIdKey,
}

/// What is known of a tree when it is made.
pub struct Built {
    /// The next index, without lists and parts.
    pub index: Index,
    /// How many files there are.
    pub files: u64,
    /// Their sizes added up.
    pub bytes: u64,
}

impl Built {
    /// Builds the tree of a scan, and gives each part to `take` as soon as it is made; that one says whether
    /// it wants more.
    ///
    /// # Errors
    /// The records do not belong to the packs, or no more is wanted.
    pub fn new(
        subject: &Subject,
        scan: Scan,
        mut records: Records,
        finished: Finished,
        earlier_packs: Vec<ObjectRef>,
        mut take: impl FnMut(Part) -> bool,
    ) -> Result<Self, BuildError> {
        let mut give = |parts: Vec<Vec<u8>>| {
            let all = parts
                .into_iter()
                .all(|part| take((subject.key.id(&part), part)));
            all.then_some(()).ok_or(BuildError::Stopped)
        };
        let mut places = Places::new(finished, earlier_packs);
        let mut writer = TreeWriter::new(subject.repository, &subject.labels);
        let mut kept = Vec::new();
        let mut gone = HashSet::new();
        let (mut files, mut bytes) = (0, 0);
        for found in scan.found {
            let kind = match found.kind {
                FoundKind::Directory => EntryKind::Directory(found.metadata),
                FoundKind::Symlink(target) => EntryKind::Symlink {
                    metadata: found.metadata,
                    target,
                },
                FoundKind::Hardlink(target) if gone.contains(&target) => continue,
                FoundKind::Hardlink(target) => EntryKind::Hardlink { target },
                FoundKind::File(_) => {
                    let Some(record) = records.remove(&found.path) else {
                        gone.insert(found.path);
                        continue;
                    };
                    let pieces = places.pieces(&found.path, &record)?;
                    files += 1;
                    bytes += record.stamp.size;
                    let metadata = Metadata {
                        xattrs: record.xattrs.clone(),
                        ..found.metadata
                    };
                    let size = record.stamp.size;
                    kept.push((found.path.clone(), record));
                    EntryKind::File {
                        metadata,
                        size,
                        pieces,
                    }
                }
            };
            let entry = Entry {
                path: found.path,
                kind,
            };
            writer.push(&entry).map_err(BuildError::TooLarge)?;
            give(writer.ended())?;
        }
        give(writer.finish())?;
        let (packs, extents) = places.used(&mut kept);
        let index = Index {
            packs,
            extents,
            files: kept,
            ..Index::default()
        };
        Ok(Self {
            index,
            files,
            bytes,
        })
    }
}

/// Where every extent is, and which packs the tree uses.
struct Places {
    packs: Vec<ObjectRef>,
    used: Vec<bool>,
    extents: Extents,
}

impl Places {
    fn new(finished: Finished, mut packs: Vec<ObjectRef>) -> Self {
        let mut extents = finished.extents;
        for stored in finished.stored {
            let pack = u32::try_from(packs.len()).unwrap_or(u32::MAX);
            packs.push(stored.object);
            for (chunk, place) in stored.chunks {
                extents.place_chunk(chunk, Located { pack, place });
            }
        }
        Self {
            used: vec![false; packs.len()],
            packs,
            extents,
        }
    }

    fn pieces(&mut self, path: &[u8], record: &FileRecord) -> Result<Vec<Piece>, BuildError> {
        let mut pieces = Vec::with_capacity(record.held.content.len());
        for content in &record.held.content {
            pieces.push(self.piece(*content).ok_or_else(|| BuildError::Lost {
                path: path::show(path),
            })?);
        }
        Ok(pieces)
    }

    fn piece(&mut self, content: Content) -> Option<Piece> {
        let (extent, skip, take) = match content {
            Content::Hole(length) => return Some(Piece::Hole(length)),
            Content::Extent { extent, skip, take } => (extent, skip, take),
        };
        let extent = self.extents.extent(extent)?;
        let chunk = self.extents.chunk(extent.chunk)?;
        let Located { pack, place } = chunk.located()?;
        *self.used.get_mut(pack as usize)? = true;
        let pack = self.packs.get(pack as usize)?.sha256;
        Some(Piece::Chunk {
            pack,
            place,
            id: chunk.id,
            skip: extent.skip.checked_add(skip)?,
            take,
        })
    }

    /// The packs that the tree names and all that is in them, numbered anew, in the records of files too.
    fn used(self, files: &mut [(Vec<u8>, Box<FileRecord>)]) -> (Vec<ObjectRef>, Extents) {
        let mut numbers = vec![None; self.packs.len()];
        let mut packs = Vec::new();
        for (old, pack) in self.packs.into_iter().enumerate() {
            if self.used[old] {
                numbers[old] = u32::try_from(packs.len()).ok();
                packs.push(pack);
            }
        }
        let mut extents = self.extents;
        let numbers = extents.renumber(&numbers);
        for (_, record) in files {
            for content in &mut record.held.content {
                if let Content::Extent { extent, .. } = content {
                    // What a file has is in a pack that is used.
                    *extent = numbers[*extent as usize].unwrap_or(*extent);
                }
            }
        }
        (packs, extents)
    }
}
