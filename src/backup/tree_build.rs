//! Puts together what was found, what was read and where it is stored: the tree's text and the next index.
//! Pure: the same input gives the same bytes.

use std::collections::{HashMap, HashSet};

use super::commit::ObjectRef;
use super::entry::{Entry, EntryKind, Metadata, Piece};
use super::id::{ChunkId, RepositoryId};
use super::index::{Content, FileRecord, Index, Located};
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
#[derive(Debug)]
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
        mut records: HashMap<Vec<u8>, FileRecord>,
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
        let (packs, chunks) = places.used();
        let index = Index {
            packs,
            chunks,
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

/// Where every chunk is, and which packs the tree uses.
struct Places {
    packs: Vec<ObjectRef>,
    used: Vec<bool>,
    chunks: HashMap<ChunkId, Located>,
}

impl Places {
    fn new(finished: Finished, mut packs: Vec<ObjectRef>) -> Self {
        let mut chunks = finished.known;
        for stored in finished.stored {
            let pack = u32::try_from(packs.len()).unwrap_or(u32::MAX);
            packs.push(stored.object);
            for (id, place) in stored.chunks {
                chunks.insert(id, Located { pack, place });
            }
        }
        Self {
            used: vec![false; packs.len()],
            packs,
            chunks,
        }
    }

    fn pieces(&mut self, path: &[u8], record: &FileRecord) -> Result<Vec<Piece>, BuildError> {
        let mut pieces = Vec::with_capacity(record.content.len());
        for content in &record.content {
            pieces.push(match content {
                Content::Hole(length) => Piece::Hole(*length),
                Content::Chunk(id, _) => self.piece(*id).ok_or_else(|| BuildError::Lost {
                    path: path::show(path),
                })?,
            });
        }
        Ok(pieces)
    }

    fn piece(&mut self, id: ChunkId) -> Option<Piece> {
        let Located { pack, place } = *self.chunks.get(&id)?;
        *self.used.get_mut(pack as usize)? = true;
        let pack = self.packs.get(pack as usize)?.sha256;
        Some(Piece::Chunk { pack, place, id })
    }

    /// The packs that the tree names and all chunks in them, numbered anew.
    fn used(self) -> (Vec<ObjectRef>, HashMap<ChunkId, Located>) {
        let mut numbers = vec![None; self.packs.len()];
        let mut packs = Vec::new();
        for (old, pack) in self.packs.into_iter().enumerate() {
            if self.used[old] {
                numbers[old] = u32::try_from(packs.len()).ok();
                packs.push(pack);
            }
        }
        let renumbered = |(id, located): (ChunkId, Located)| {
            let pack = numbers[located.pack as usize]?;
            Some((id, Located { pack, ..located }))
        };
        (
            packs,
            self.chunks.into_iter().filter_map(renumbered).collect(),
        )
    }
}
