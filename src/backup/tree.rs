//! The tree of a snapshot: what is written line by line, and the reader that believes no line.
//! It holds text and values; sealing, hashes of objects and files are others' affairs.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::FORMAT_VERSION;
use super::chunker::MAX_CHUNK;
use super::entry::{Entry, EntryKind, Line, LineType, Piece};
use super::id::{Digest, RepositoryId};
use super::pack::MAX_PACK;
use super::path;
use super::scan::MAX_NAMES;

const FORMAT: &str = "tenantd-tree";
/// Longest part of a tree when decompressed, in bytes.
pub const MAX_PART: usize = 64 << 20;
/// Longest tree, in bytes when decompressed; nobody writes a longer one, and nobody reads it.
pub const MAX_TREE: u64 = 4 << 30;
/// Most entries of a tree.
const MAX_ENTRIES: usize = MAX_NAMES;
const MAX_LINE: usize = 1 << 20;

/// The writer's parts end at the first chance after this many bytes, …
const PART_MIN: usize = 64 << 10;
/// … with one chance in this many entries, chosen by the path so that it stays there, …
const PART_ENTRIES: u32 = 4096;
/// … or here at the latest.
const PART_MAX: usize = 8 << 20;
/// Chunks in one line.
const LINE_CHUNKS: usize = 1024;

/// Free names and values that the encrypted tree carries: tenant, host, kind.
pub type Labels = BTreeMap<String, String>;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeHeader {
    format: String,
    version: u32,
    repository: RepositoryId,
    /// What the writer says this is.
    pub labels: Labels,
}

impl TreeHeader {
    /// Reads the header from the first part of a tree of `repository`, decompressed.
    ///
    /// # Errors
    /// The part does not begin with it.
    pub fn read(part: &[u8], repository: RepositoryId) -> Result<Self, TreeError> {
        let line = part.split(|byte| *byte == b'\n').next().unwrap_or_default();
        serde_json::from_slice(line)
            .ok()
            .filter(|header: &Self| {
                header.format == FORMAT
                    && header.version == FORMAT_VERSION
                    && header.repository == repository
            })
            .ok_or(TreeError::Header(repository))
    }
}

/// Turns entries into the parts of a tree.
#[derive(Debug)]
pub struct TreeWriter {
    part: Vec<u8>,
    finished: Vec<Vec<u8>>,
    room: Room,
}

/// What a tree may still hold.
#[derive(Debug, Clone, Copy)]
struct Room {
    bytes: u64,
    entries: usize,
}

impl Room {
    /// That of an empty tree.
    const WHOLE: Self = Self {
        bytes: MAX_TREE,
        entries: MAX_ENTRIES,
    };

    fn take_bytes(&mut self, bytes: usize) -> Result<(), TreeError> {
        let left = self.bytes.checked_sub(bytes as u64);
        self.bytes = left.ok_or(TreeError::TooLong)?;
        Ok(())
    }

    fn take_entry(&mut self) -> Result<(), TreeError> {
        let left = self.entries.checked_sub(1);
        self.entries = left.ok_or(TreeError::TooMany)?;
        Ok(())
    }
}

impl TreeWriter {
    /// A tree that begins with its header.
    pub fn new(repository: RepositoryId, labels: &Labels) -> Self {
        let header = TreeHeader {
            format: FORMAT.to_owned(),
            version: FORMAT_VERSION,
            repository,
            labels: labels.clone(),
        };
        let mut writer = Self {
            part: Vec::new(),
            finished: Vec::new(),
            room: Room::WHOLE,
        };
        // One line is never too much.
        let _ = writer.line(&header);
        writer
    }

    /// Adds an entry; the caller keeps the order.
    ///
    /// # Errors
    /// No reader would take so large a tree.
    pub fn push(&mut self, entry: &Entry) -> Result<(), TreeError> {
        self.room.take_entry()?;
        let mut line = Line::of(entry);
        if let EntryKind::File { pieces, .. } = &entry.kind {
            let mut groups = pieces.chunks(LINE_CHUNKS).peekable();
            line.chunks = groups.next().unwrap_or_default().to_vec();
            while groups.peek().is_some() {
                line.more = true;
                self.line(&line)?;
                line = Line::more_chunks();
                line.chunks = groups.next().unwrap_or_default().to_vec();
            }
        }
        self.line(&line)?;
        if self.part.len() >= PART_MIN && ends_part(&entry.path) {
            self.end_part();
        }
        Ok(())
    }

    fn line(&mut self, line: &impl Serialize) -> Result<(), TreeError> {
        let before = self.part.len();
        // Writing numbers and strings to memory cannot fail.
        let _ = serde_json::to_writer(&mut self.part, line);
        self.part.push(b'\n');
        self.room.take_bytes(self.part.len() - before)?;
        if self.part.len() >= PART_MAX {
            self.end_part();
        }
        Ok(())
    }

    fn end_part(&mut self) {
        self.finished.push(std::mem::take(&mut self.part));
    }

    /// The parts that have ended since the last call, in order.
    pub fn ended(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.finished)
    }

    /// All parts that are left, in order.
    pub fn finish(mut self) -> Vec<Vec<u8>> {
        if !self.part.is_empty() {
            self.end_part();
        }
        self.finished
    }
}

fn ends_part(path: &[u8]) -> bool {
    let hash = blake3::hash(path);
    let [a, b, c, d, ..] = *hash.as_bytes();
    u32::from_le_bytes([a, b, c, d]).is_multiple_of(PART_ENTRIES)
}

/// Why a tree was refused.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A line is not JSON of a known type.
    #[error("line {line} of the tree is not an entry that version {FORMAT_VERSION} knows")]
    Json {
        /// Counted from 1 over all parts.
        line: u64,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// The header is missing, of another version or of another repository.
    #[error("the tree does not begin with the header of repository {0}, version {FORMAT_VERSION}")]
    Header(RepositoryId),
    /// A line is well formed and must not be.
    #[error("line {line} of the tree ({path:?}) is refused: {reason}")]
    Refused {
        /// Counted from 1 over all parts.
        line: u64,
        /// The escaped path it is about.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The tree ends inside a file or without a root.
    #[error("the tree ends too early: {0}")]
    Incomplete(&'static str),
    /// The tree is longer than any host of ours writes.
    #[error("the tree is longer than {MAX_TREE} bytes")]
    TooLong,
    /// The tree has more entries than any host of ours writes.
    #[error("the tree has more than {MAX_ENTRIES} entries")]
    TooMany,
}

/// A tree that was read and found consistent.
#[derive(Debug)]
pub struct Tree {
    /// Its header.
    pub header: TreeHeader,
    /// Its entries: sorted, unique, each in a directory that is there.
    pub entries: Vec<Entry>,
}

/// Reads the parts of a tree and checks every line against what came before.
#[derive(Debug)]
pub struct TreeReader<'a> {
    repository: RepositoryId,
    packs: &'a HashSet<Digest>,
    header: Option<TreeHeader>,
    entries: Vec<Entry>,
    /// Indices of the directories that the last entry is in.
    open: Vec<usize>,
    /// Whether the last file's pieces go on.
    more: bool,
    line: u64,
    room: Room,
}

impl<'a> TreeReader<'a> {
    /// A reader of a tree of `repository`, whose commit names `packs`.
    pub fn new(repository: RepositoryId, packs: &'a HashSet<Digest>) -> Self {
        Self {
            repository,
            packs,
            header: None,
            entries: Vec::new(),
            open: Vec::new(),
            more: false,
            line: 0,
            room: Room::WHOLE,
        }
    }

    /// Takes the next part, decompressed.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn part(&mut self, text: &[u8]) -> Result<(), TreeError> {
        self.room.take_bytes(text.len())?;
        let Some(body) = text.strip_suffix(b"\n") else {
            return Err(TreeError::Incomplete("a part does not end with its line"));
        };
        for line in body.split(|byte| *byte == b'\n') {
            self.line += 1;
            if line.len() > MAX_LINE {
                return Err(self.refuse(path::ROOT, "it is longer than 1 MiB"));
            }
            if self.header.is_none() {
                self.header = Some(TreeHeader::read(line, self.repository)?);
            } else {
                self.read_line(line)?;
            }
        }
        Ok(())
    }

    /// The whole tree.
    ///
    /// # Errors
    /// It is not complete.
    pub fn finish(self) -> Result<Tree, TreeError> {
        if self.more {
            return Err(TreeError::Incomplete("the last file has no end"));
        }
        if let Some(last) = self.entries.last() {
            self.check_size(last)?;
        }
        let header = self.header.ok_or(TreeError::Header(self.repository))?;
        if self.entries.is_empty() {
            return Err(TreeError::Incomplete("it has no root directory"));
        }
        Ok(Tree {
            header,
            entries: self.entries,
        })
    }

    fn refuse(&self, path: &[u8], reason: &'static str) -> TreeError {
        TreeError::Refused {
            line: self.line,
            path: path::show(path),
            reason,
        }
    }

    fn read_line(&mut self, text: &[u8]) -> Result<(), TreeError> {
        let number = self.line;
        let line: Line<'_> = serde_json::from_slice(text).map_err(|source| TreeError::Json {
            line: number,
            source,
        })?;
        let expected = self.more;
        self.more = line.more;
        if (line.kind == LineType::Chunks) != expected {
            return Err(self.refuse(path::ROOT, "a `chunks` line is missing or not expected"));
        }
        if line.more && !matches!(line.kind, LineType::Chunks | LineType::File) {
            return Err(self.refuse(path::ROOT, "only files have chunks"));
        }
        for piece in &line.chunks {
            self.check_piece(piece)?;
        }
        if line.kind == LineType::Chunks {
            if let Some(Entry {
                kind: EntryKind::File { pieces, .. },
                ..
            }) = self.entries.last_mut()
            {
                pieces.extend(line.chunks);
            }
            return Ok(());
        }
        let entry = line
            .into_entry()
            .map_err(|reason| self.refuse(path::ROOT, reason))?;
        if let Some(last) = self.entries.last() {
            self.check_size(last)?;
        }
        self.check_place(&entry)?;
        self.room.take_entry()?;
        if matches!(entry.kind, EntryKind::Directory(_)) {
            self.open.push(self.entries.len());
        }
        self.entries.push(entry);
        Ok(())
    }

    fn check_piece(&self, piece: &Piece) -> Result<(), TreeError> {
        let reason = match piece {
            Piece::Hole(0) => "a hole has no length",
            Piece::Hole(_) => return Ok(()),
            Piece::Chunk { pack, .. } if !self.packs.contains(pack) => {
                "it names a pack that the commit does not name"
            }
            Piece::Chunk {
                place, skip, take, ..
            } => {
                let end = place.offset.checked_add(place.stored);
                let inside = end.is_some_and(|end| end as usize <= MAX_PACK);
                let taken = skip.checked_add(*take);
                if !inside || place.length == 0 || place.length as usize > MAX_CHUNK {
                    "a chunk is larger than the format allows"
                } else if *take == 0 || taken.is_none_or(|taken| taken > place.length) {
                    "it takes more of a chunk than there is"
                } else {
                    return Ok(());
                }
            }
        };
        Err(self.refuse(path::ROOT, reason))
    }

    fn check_size(&self, entry: &Entry) -> Result<(), TreeError> {
        let EntryKind::File { size, pieces, .. } = &entry.kind else {
            return Ok(());
        };
        let total = pieces
            .iter()
            .try_fold(0_u64, |total, piece| total.checked_add(piece.length()));
        if total != Some(*size) || i64::try_from(*size).is_err() {
            return Err(self.refuse(&entry.path, "its chunks do not add up to its size"));
        }
        Ok(())
    }

    /// Checks the entry's path against the entries before it.
    fn check_place(&mut self, entry: &Entry) -> Result<(), TreeError> {
        let path = entry.path.as_slice();
        let Some(last) = self.entries.last() else {
            let root = path == path::ROOT && matches!(entry.kind, EntryKind::Directory(_));
            return if root {
                Ok(())
            } else {
                Err(self.refuse(path, "the root is not first"))
            };
        };
        if !path::is_normal(path) {
            return Err(self.refuse(path, "the path leaves the tree or is not normal"));
        }
        if path::compare(&last.path, path).is_ge() {
            return Err(self.refuse(path, "the path comes twice or out of order"));
        }
        let parent = path::parent(path);
        while let Some(open) = self.open.last() {
            if self.entries[*open].path == parent {
                break;
            }
            self.open.pop();
        }
        if self.open.is_empty() {
            return Err(self.refuse(path, "its parent is not a directory of the tree"));
        }
        match &entry.kind {
            EntryKind::Hardlink { target } => self.check_hardlink(path, target),
            EntryKind::Symlink { target, .. } => {
                let fits = !target.is_empty() && target.len() <= path::MAX_PATH;
                if fits && !target.contains(&0) {
                    return Ok(());
                }
                Err(self.refuse(path, "a symlink's target is impossible"))
            }
            EntryKind::Directory(_) | EntryKind::File { .. } => Ok(()),
        }
    }

    fn check_hardlink(&self, path: &[u8], target: &[u8]) -> Result<(), TreeError> {
        let found = self
            .entries
            .binary_search_by(|entry| path::compare(&entry.path, target))
            .is_ok_and(|at| matches!(self.entries[at].kind, EntryKind::File { .. }));
        if found {
            return Ok(());
        }
        Err(self.refuse(path, "a hard link's target is not an earlier file"))
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
